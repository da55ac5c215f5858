"""Variations of what stands on the wire: what the protocol leaves open."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from reference_server.frames import Comment, Frame, Framing
from reference_server.middleware import body, head, header, is_stream, tapped
from reference_server.stream import EventStream, Pacing, Writer
from reference_server.variations.variation import variation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from starlette.types import Message, Scope, Send

    from reference_server.log import Entry
    from reference_server.parts import Parts

LINGER = 0.02
"""Seconds that `several-events-a-chunk` waits for more to put into a chunk."""

BRIEFLY = 0.4
"""Seconds after which `closes-early` ends a stream, whether its run is over or not."""


def _framing(name: str, text: str) -> Callable[[type[Framing]], type[Framing]]:
    """Register the decorated framing as a variation."""

    def register(framing: type[Framing]) -> type[Framing]:
        variation(name, text)(lambda parts: replace(parts, framing=framing()))
        return framing

    return register


@_framing("crlf", "Lines end in CRLF.")
class Crlf(Framing):
    end = "\r\n"


@_framing("cr", "Lines end in CR.")
class Cr(Framing):
    end = "\r"


@_framing("empty-heartbeat", "The heartbeat's comment has no text.")
class EmptyHeartbeat(Framing):
    def comment(self, comment: Comment) -> str:
        return f":{self.end}"


@_framing("no-space", "No space follows the colon of a field.")
class NoSpace(Framing):
    def field(self, name: str, value: str) -> str:
        return f"{name}:{value}"


@_framing("id-first", "A block begins with its id.")
class IdFirst(Framing):
    def lines(self, frame: Frame) -> list[str]:
        return sorted(super().lines(frame), key=lambda line: not line.startswith("id:"))


@_framing("event-last", "A block ends with its event type.")
class EventLast(Framing):
    def lines(self, frame: Frame) -> list[str]:
        return sorted(super().lines(frame), key=lambda line: line.startswith("event:"))


@_framing("split-data", "The JSON stands on two data lines.")
class SplitData(Framing):
    def lines(self, frame: Frame) -> list[str]:
        brace = frame.data.startswith("{")
        return super().lines(replace(frame, data="{\n" + frame.data[1:]) if brace else frame)


@_framing("comments", "There are comment lines in front of, and within, every block.")
class Comments(Framing):
    def lines(self, frame: Frame) -> list[str]:
        return [": before", *(text for line in super().lines(frame) for text in (line, ":"))]


def _paced(parts: Parts, share: float) -> Parts:
    class Paced(Pacing):
        def pause(self, beats: int, last: Entry | None) -> float | None:
            return self.heartbeat * share

    return replace(parts, pacing=Paced)


@variation("fast-heartbeat", "A silence gets a heartbeat every H/4.")
def fast_heartbeat(parts: Parts) -> Parts:
    return _paced(parts, 0.25)


@variation("exact-heartbeat", "A silence gets a heartbeat every H, to the dot.")
def exact_heartbeat(parts: Parts) -> Parts:
    return _paced(parts, 1.0)


@variation("retry-on-every-event", "`retry` stands on every event, not on the first only.")
def retry_on_every_event(parts: Parts) -> Parts:
    class Insistent(Writer):
        def block(self, entry: Entry) -> bytes:
            retry = self.retry
            block = super().block(entry)
            self.retry = retry
            return block

    return replace(parts, writer=Insistent)


@variation("charset", "The content type is written in other case, with a charset.")
def charset(parts: Parts) -> Parts:
    return parts.behind(header("content-type", "Text/Event-Stream; charset=UTF-8"))


@variation("extra-headers", "There are response headers that nobody knows.")
def extra_headers(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["headers"] += [(b"x-request-id", b"a1b2"), (b"server-timing", b"app;dur=3")]

    return parts.behind(head(change, lambda scope, message: True))


@variation("sliced", "The body comes in chunks of one to seven bytes.")
def sliced(parts: Parts) -> Parts:
    def make() -> Callable[[bytes, bool], Iterable[bytes]]:
        sizes = cycle((1, 2, 3, 4, 5, 6, 7))

        def change(piece: bytes, last: bool) -> Iterator[bytes]:
            while piece:
                size = next(sizes)
                yield piece[:size]
                piece = piece[size:]

        return change

    return parts.behind(body(make))


@variation("several-events-a-chunk", "Events wait 20 ms for others to share a chunk with.")
def several_events_a_chunk(parts: Parts) -> Parts:
    def tap(scope: Scope, send: Send) -> Send:
        waiting = bytearray()
        flushing: asyncio.Task[None] | None = None
        meant = False

        async def flush() -> None:
            await asyncio.sleep(LINGER)
            piece = bytes(waiting)
            waiting.clear()
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        async def changed(message: Message) -> None:
            nonlocal flushing, meant
            if message["type"] == "http.response.start":
                meant = is_stream(scope, message)
            if not meant or message["type"] == "http.response.start":
                await send(message)
                return
            waiting.extend(message.get("body", b""))
            if message.get("more_body"):
                if flushing is None or flushing.done():
                    flushing = asyncio.create_task(flush())
                return
            if flushing is not None:
                await flushing
            await send({**message, "body": bytes(waiting)})

        return changed

    return parts.behind(tapped(tap))


class _HalfDeaf(h11.Connection):
    """A connection that takes its peer for one that knows no chunks."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.their_http_version = b"1.0"
        return event


class CloseDelimited(H11Protocol):
    """HTTP/1.1 whose streams have no chunks: `Connection: close`, and the FIN is the end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _HalfDeaf(h11.SERVER)


@variation("close-delimited", "The body is not chunked: it ends where the connection does.")
def close_delimited(parts: Parts) -> Parts:
    return replace(parts, http=CloseDelimited)


@variation("closes-early", "A stream ends cleanly after a moment, its run goes on, clients resume.")
def closes_early(parts: Parts) -> Parts:
    class Brief(EventStream):
        async def body(self, send: Send) -> None:
            try:
                async with asyncio.timeout(BRIEFLY):
                    await super().body(send)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    return replace(parts, stream=Brief)
