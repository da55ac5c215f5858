"""Open a session against a subject: its server started, the settings as the suite would have."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.process import HEARTBEAT, REFERENCE
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from tests.defects.server_hosting import host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.defects.subjects import Subject

WITH_HEARTBEAT = frozenset({"native", "generic-typed"})
"""Dialects in which the reference server promises heartbeats; elsewhere H is not claimed."""
TIMEOUTS = {"connect": 5, "head": 5, "first_event": 5, "silence": 5, "end": 15}


@contextmanager
def session_with(subject: Subject, directory: Path) -> Iterator[Session]:
    """Yield a session whose server is the subject, and end both; `directory` has no settings."""
    with host().server(subject.arguments) as url:
        options: dict[str, object] = {
            "url": url,
            "dialect": subject.dialect,
            "control_header": True,
            "headers": REFERENCE["headers"],
            "cors_origin": REFERENCE["cors_origin"],
            "timeouts": TIMEOUTS,
        }
        if subject.dialect in WITH_HEARTBEAT:
            options["heartbeat"] = HEARTBEAT
        session = Session(load(options, directory=directory, environment={}), catalogue())
        try:
            yield session
        finally:
            session.close()
