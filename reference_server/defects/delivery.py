"""Defects of when things arrive."""

from __future__ import annotations

import gzip
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import agent
from reference_server.middleware import body, header, held, joined, runs
from reference_server.protocol import Event, Token, ToolUse
from reference_server.scenarios import PIECE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.agent import Assignment
    from reference_server.parts import Parts

PORTION = 2048


@defect("head-waits", "delivery.head-at-once", "The head waits for the first event.")
def head_waits(parts: Parts) -> Parts:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            kept: Message | None = None

            async def waiting(message: Message) -> None:
                nonlocal kept
                start = message["type"] == "http.response.start"
                if start and runs("slow-start")(scope, message):
                    kept = message
                    return
                if kept is not None and message.get("body", b"").startswith(b":"):
                    return
                if kept is not None:
                    await send(kept)
                    kept = None
                await send(message)

            await app(scope, receive, waiting)

        return wrapped

    return parts.behind(middleware)


async def _at_once(start: Message, messages: list[Message], send: Send) -> None:
    await send(start)
    await send({"type": "http.response.body", "body": joined(messages)})


@defect("buffered", "delivery.incremental", "`pauses` and `long` arrive whole, at their end.")
def buffered(parts: Parts) -> Parts:
    return parts.behind(held(runs("pauses", "long"), _at_once))


def _holding(
    parts: Parts, hold: Callable[[bytes, bytes, bool], tuple[bytes, bytes]], *scenarios: str
) -> Parts:
    """Hold a stream's pieces back: `hold` takes what waits, the next piece, and whether it is the
    last, and returns what is sent now and what waits then. Heartbeats pass."""

    def make() -> Callable[[bytes, bool], Iterable[bytes]]:
        waiting = b""

        def change(piece: bytes, last: bool) -> Iterator[bytes]:
            nonlocal waiting
            sent = piece
            if not piece.startswith(b":"):
                sent, waiting = hold(waiting, piece, last)
            if sent:
                yield sent

        return change

    return parts.behind(body(make, runs(*scenarios)))


@defect(
    "buffers-2-kib",
    "delivery.incremental",
    "`pauses` and `long` arrive in portions of 2 KiB; heartbeats pass them.",
)
def buffers_2_kib(parts: Parts) -> Parts:
    def portion(waiting: bytes, piece: bytes, last: bool) -> tuple[bytes, bytes]:
        together = waiting + piece
        return (together, b"") if last or len(together) >= PORTION else (b"", together)

    return _holding(parts, portion, "pauses", "long")


@defect(
    "remainder-lost",
    "delivery.batching",
    "The last piece of an `echo` is never sent where it is less than a full batch.",
)
def remainder_lost(parts: Parts) -> Parts:
    async def change(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            if not isinstance(event, Token) or len(event.text) >= PIECE:
                yield event

    return agent(parts, change, "echo")


def _asked_for_gzip(scope: Scope, message: Message) -> bool:
    accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
    return b"gzip" in accepted and runs("pauses", "long")(scope, message)


@defect(
    "gzip-holds-back",
    "delivery.incremental-gzip",
    "A client that accepts gzip gets `pauses` and `long` whole, at their end.",
)
def gzip_holds_back(parts: Parts) -> Parts:
    async def let_go(start: Message, messages: list[Message], send: Send) -> None:
        headers = [*start["headers"], (b"content-encoding", b"gzip")]
        await send({**start, "headers": headers})
        whole = gzip.compress(joined(messages))
        await send({"type": "http.response.body", "body": whole})

    return parts.behind(held(_asked_for_gzip, let_go))


@defect(
    "gzip-unflushed",
    "delivery.incremental-gzip",
    "A client that accepts gzip gets what the compressor lets go by itself: its header at once, "
    "the rest at the end.",
)
def gzip_unflushed(parts: Parts) -> Parts:
    def make() -> Callable[[bytes, bool], Iterable[bytes]]:
        compressor = zlib.compressobj(wbits=31)

        def change(piece: bytes, last: bool) -> Iterator[bytes]:
            yield compressor.compress(piece)
            if last:
                yield compressor.flush()

        return change

    coded = header("content-encoding", "gzip", _asked_for_gzip)
    return parts.behind(body(make, _asked_for_gzip)).behind(coded)


@defect(
    "last-event-held",
    "delivery.one-event-one-write",
    "An event is sent only when the next one comes.",
)
def last_event_held(parts: Parts) -> Parts:
    return _holding(parts, lambda waiting, piece, last: (waiting, piece), "silence")


@defect(
    "tool-blocks-loop",
    "isolation.blocking-tool",
    "A blocking tool blocks the event loop, and every other run with it.",
)
def tool_blocks_loop(parts: Parts) -> Parts:
    inner = parts.agent

    async def blocking(events: AsyncIterator[Event], seconds: float) -> AsyncIterator[Event]:
        async for event in events:
            yield event
            if isinstance(event, ToolUse):
                time.sleep(seconds)  # noqa: ASYNC251 - the defect

    def changed(task: Assignment) -> AsyncIterator[Event]:
        if task.scenario.name != "block":
            return inner(task)
        return blocking(inner(task), task.scenario["seconds"])

    return replace(parts, agent=changed)
