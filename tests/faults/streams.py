"""An event stream of three events, as servers here send it and as it is on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [b"id: %d\ndata: %d\n\n" % (number, number) for number in range(1, 4)]
BODY = b"".join(EVENTS)
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ONE, TWO, THREE = map(chunk, EVENTS)
STREAM = HEAD + ONE + TWO + THREE + LAST


async def three(peer: Peer) -> None:
    """Send three events and the end."""
    await peer.stream()
    for event in EVENTS:
        await peer.chunk(event)
    await peer.end()


async def endless(peer: Peer) -> None:
    """Send three events, and wait for the client to go."""
    await peer.stream()
    for event in EVENTS:
        await peer.chunk(event)
    await peer.left()
