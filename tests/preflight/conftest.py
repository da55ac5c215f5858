"""The preflight of a session against a server made of raw sockets, or against none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.preflight import PreflightFailed
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def preflight(tmp_path: Path) -> Callable[..., str]:
    """Run the preflight at a URL; return what it says where it fails, or an empty string."""

    def run(url: str, env: dict[str, str] | None = None, **options: Any) -> str:
        given = {"url": url, "dialect": "native"} | options
        given = {name: value for name, value in given.items() if value is not None}
        session = Session(load(given, directory=tmp_path, environment=env or {}), {})
        try:
            session.begin([])
        except PreflightFailed as failure:
            return str(failure)
        finally:
            session.close()
        return ""

    return run
