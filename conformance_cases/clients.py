"""What popular decoders make of the same bytes; each is asked, none is imitated."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from httpx_sse import EventSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_agentstream.wire import Block


def httpx_sse_version() -> str:
    return f"httpx-sse {version('httpx-sse')}"


class _Body:
    """As much of a response as `EventSource` reads."""

    headers = {"content-type": "text/event-stream"}  # noqa: RUF012 - read only

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks

    def iter_text(self) -> Iterator[str]:
        yield b"".join(block.raw for block in self._blocks).decode("utf-8", "replace")


def httpx_sse_events(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    """The (type, data) of every event that httpx-sse sees in whole blocks."""
    body: Any = _Body(blocks)
    return [(event.event, event.data) for event in EventSource(body).iter_sse()]
