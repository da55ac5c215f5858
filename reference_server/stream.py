"""Stream one run over one response: head at once, events after a cursor, heartbeats, the end.

    head -> (events | heartbeat)* -> last chunk

1. The head goes out before the first event exists.
2. Every frame comes from the log, so whatever a client has seen can be read again.
3. Heartbeats fill silences, and only while the run's producer lives.
4. Backpressure is the log's: a reader that is slow holds a place in it, not a queue of its own.
5. When the log itself cannot be reached, the stream ends in a retryable error and the terminal.
   They are not stored and carry no id, so that a cursor stays at what can be read again.
6. A reader that has fallen behind what the log keeps is cut off, never given a gap: it comes back
   with its cursor and is told 410.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.log import Entry, LogUnavailable
from reference_server.protocol import Done, Error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from reference_server.encoders import Encoder
    from reference_server.frames import Framing
    from reference_server.log import EventLog

BATCH = 64
"""Entries sent before other streams get their turn."""

UNAVAILABLE = Error(
    error_type="log_unavailable", message="The event log cannot be reached now.", retryable=True
)

HEAD = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class FellBehind(Exception):
    """The log no longer has what this reader needs next."""


class Reader:
    """Follow one run's log from a cursor to its end."""

    def __init__(self, log: EventLog, run: str, after: int) -> None:
        self.log = log
        self.run = run
        self.after = after

    async def next(self, seconds: float | None) -> list[Entry] | None:
        """Return the next entries; `[]`: the seconds went by; None: the run is over.

        Raises FellBehind.
        """
        while True:
            state = await self.log.state(self.run)
            entries = await self.log.read(self.run, self.after, BATCH)
            if entries:
                if entries[0].seq != self.after + 1:
                    raise FellBehind(self.run)
                self.after = entries[-1].seq
                return entries
            if state.closed:
                if state.last > self.after:
                    raise FellBehind(self.run)
                return None
            if not await self.log.wait(self.run, self.after, seconds):
                return []


class Pacing:
    """When a silence gets its next heartbeat: after half of the promised interval."""

    def __init__(self, heartbeat: float) -> None:
        self.heartbeat = heartbeat

    def pause(self, beats: int, last: Entry | None) -> float | None:
        """Return the seconds until the next heartbeat, None for never.

        `beats`: heartbeats since the last event; `last`: the last event on this response.
        """
        return self.heartbeat / 2


class Writer:
    """Write one run onto one response."""

    def __init__(
        self,
        encoder: Encoder,
        framing: Framing,
        pacing: Pacing,
        *,
        retry: float,
        alive: Callable[[], bool],
    ) -> None:
        self.encoder = encoder
        self.framing = framing
        self.pacing = pacing
        self.retry: int | None = round(retry * 1000)
        self.alive = alive

    async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send everything from the reader's place to the end of the run."""
        beats = 0
        last: Entry | None = None
        while True:
            pause = self.pacing.pause(beats, last) if self.alive() else None
            try:
                entries = await reader.next(pause)
            except LogUnavailable:
                await send(self.unlogged(reader))
                return
            if entries is None:
                return
            if not entries and self.alive():
                beats += 1
                beat = self.encoder.heartbeat(reader.run, reader.after)
                if beat is not None:
                    await send(self.framing.write(beat))
            for entry in entries:
                beats, last = 0, entry
                await send(self.block(entry))
            await asyncio.sleep(0)

    def unlogged(self, reader: Reader) -> bytes:
        """Return the end of a stream whose log cannot be reached."""
        written = b""
        for event in (UNAVAILABLE, Done(status="error")):
            entry = Entry(reader.run, reader.after, event.type, event.payload())
            for frame in self.encoder.frames(entry):
                retry, self.retry = self.retry, None
                written += self.framing.write(replace(frame, id=None, retry=retry))
        return written

    def block(self, entry: Entry) -> bytes:
        """Return an entry's bytes; the response's first frame also says `retry`."""
        written = b""
        for frame in self.encoder.frames(entry):
            if self.retry is not None:
                frame, self.retry = replace(frame, retry=self.retry), None
            written += self.framing.write(frame)
        return written


class EventStream:
    """The ASGI response around a Writer: sends the head, notices that the client has gone."""

    def __init__(self, reader: Reader, writer: Writer, headers: Mapping[str, str]) -> None:
        self.reader = reader
        self.writer = writer
        self.headers = {**HEAD, **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.head(send)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_until_disconnect(receive))
            writing = group.create_task(self.body(send))
            listening.add_done_callback(lambda _: writing.cancel())
            writing.add_done_callback(lambda _: listening.cancel())

    async def head(self, send: Send) -> None:
        """Send status and headers."""
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in self.headers.items()
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def body(self, send: Send) -> None:
        """Send the run and the last chunk."""

        async def send_bytes(data: bytes) -> None:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})

        await self.writer.write(self.reader, send_bytes)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
