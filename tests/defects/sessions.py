"""Open a session against a subject: its server started, the settings as the suite would have."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.ports import free_ports
from pytest_agentstream.reference import HEARTBEAT, REFERENCE
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from tests.defects.doubled import needs_double
from tests.defects.managed import options_of
from tests.defects.server_hosting import host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.defects.subjects import Subject

WITH_HEARTBEAT = frozenset({"native", "generic-typed"})
"""Dialects in which the reference server promises heartbeats; elsewhere H is not claimed."""
TIMEOUTS = {"connect": 5, "head": 5, "first_event": 5, "silence": 5, "end": 12}


@contextmanager
def session_with(subject: Subject, directory: Path) -> Iterator[Session]:
    """Yield a session whose server is the subject, and end both; `directory` has no settings."""
    [port] = free_ports(1)
    doubled = needs_double(subject)
    upstream = ("--upstream-url", f"http://127.0.0.1:{port}/v1") if doubled else ()
    with ExitStack() as stack:
        options: dict[str, object] = {
            "double": port if doubled else False,
            "dialect": subject.dialect,
            "control_header": True,
            "headers": REFERENCE["headers"],
            "cors_origin": REFERENCE["cors_origin"],
            "timeouts": TIMEOUTS,
        }
        if subject.dialect in WITH_HEARTBEAT:
            options["heartbeat"] = HEARTBEAT
        if subject.processes:
            folder = stack.enter_context(TemporaryDirectory())
            options |= options_of(subject, Path(folder), upstream)
        else:
            server = host().server((*subject.arguments, *upstream))
            options["url"] = stack.enter_context(server)
        session = Session(load(options, directory=directory, environment={}), catalogue())
        stack.callback(session.close)
        yield session
