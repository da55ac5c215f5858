"""Fixtures for tests over HTTP/2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from tests.h2.both_server import PROTOCOLS, BothServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.h2.both_server import Answer


@pytest.fixture
def answering() -> Callable[..., AbstractContextManager[BothServer]]:
    """The server in a thread of its own: `with answering(Answer(…)) as server`."""

    @contextmanager
    def serve(answer: Answer, *protocols: str) -> Iterator[BothServer]:
        server = BothServer(answer, protocols or PROTOCOLS)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(server):
            yield server

    return serve
