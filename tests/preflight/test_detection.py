"""The dialect, where none is named: told from the first answer, or asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]
    Serving = Callable[..., AbstractContextManager[RawServer]]
    Preflight = Callable[..., str]


def events(*texts: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.stream()
        for text in texts:
            await peer.chunk(text)
        await peer.end()

    return script


def test_one_dialect_is_taken(serving: Serving, preflight: Preflight) -> None:
    """An answer that bears one dialect's marks is judged in that dialect, with a run of its own."""
    with serving(events('data: {"content": "hi"}\n\n', "data: [DONE]\n\n")) as server:
        assert preflight(f"{server.origin}/chat", dialect=None) == ""
        assert len(server.peers) == 2


def test_an_unknown_dialect_is_asked_for(serving: Serving, preflight: Preflight) -> None:
    """Events of no known dialect: the error lists those that there are."""
    with serving(events("event: weather\ndata: <sunny/>\n\n")) as server:
        said = preflight(f"{server.origin}/chat", dialect=None)
        assert len(server.peers) == 1
    assert said.startswith(
        "agentstream preflight: the dialect could not be told from the first answer: "
        "its events are those of none"
    )
    assert "event: weather" in said
    assert "--agentstream-dialect NAME, one of agent-event-stream, generic-data" in said
