"""Recordings made of bytes, and dialects made of TOML, for tables of the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import load
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_agentstream.dialects import Dialect

    Recorded = Callable[..., Recording]
    RunOf = Callable[..., Run]
    Declared = Callable[[str], Dialect]


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    """Make a recording of the bytes of one answer."""

    def make(
        body: str | bytes,
        headers: tuple[tuple[str, str], ...] = (),
        request: Request = Request("POST", "http://127.0.0.1/chat"),  # noqa: B008 - frozen
    ) -> Recording:
        data = body.encode() if isinstance(body, str) else body
        head = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"), *headers), 0.1)
        return Recording(request, head, (Chunk(0.2, data),), End(EndKind.COMPLETE, 0.3))

    return make


@pytest.fixture(scope="session")
def run_of(recorded: Recorded) -> RunOf:
    """Make a run of the bytes of one answer or more."""

    def make(*bodies: str | bytes) -> Run:
        return Run("complete", "test", tuple(recorded(body) for body in bodies))

    return make


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    """Load a dialect that a test declares in TOML."""

    def make(toml: str) -> Dialect:
        path = tmp_path / "mine.toml"
        path.write_text(toml, encoding="utf-8")
        return load(path)

    return make
