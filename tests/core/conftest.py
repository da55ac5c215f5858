"""Sessions against servers made of raw sockets."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.session import Session
from pytest_agentstream.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Opened = Callable[..., AbstractContextManager[Session]]


@pytest.fixture
def session(tmp_path: Path) -> Opened:
    """Open a session at a URL, in the dialect generic-data; it is closed at the end."""

    @contextmanager
    def open_session(url: str, **options: Any) -> Iterator[Session]:
        given = {"url": url, "dialect": "generic-data"} | options
        given = {name: value for name, value in given.items() if value is not None}
        opened = Session(load(given, directory=tmp_path, environment={}), {})
        try:
            yield opened
        finally:
            opened.close()

    return open_session
