"""Defects of what is held for readers that go, are lost, or do not read."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from reference_server.defects.defect import defect
from reference_server.defects.seams import Resumed
from reference_server.intake import Intake
from reference_server.problems import Problem
from reference_server.stream import EventStream, Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import Send

    from reference_server.log import RunState
    from reference_server.parts import Parts


def _when_dropped(parts: Parts, then: Callable[[], object]) -> Parts:
    """Do something for each reader that leaves before the end."""

    class Dropped(Writer):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            try:
                await super().write(reader, send)
            except asyncio.CancelledError:
                then()
                raise

    return replace(parts, writer=Dropped)


@defect(
    "descriptors-leak",
    "disconnect.no-zombies",
    "Each reader that leaves before the end leaves an open file behind.",
)
def descriptors_leak(parts: Parts) -> Parts:
    left: list[IO[bytes]] = []
    return _when_dropped(parts, lambda: left.append(Path("/dev/null").open("rb")))


@defect(
    "threads-leak",
    "disconnect.no-zombies",
    "Each reader that leaves before the end leaves a thread behind, which waits for ever.",
)
def threads_leak(parts: Parts) -> Parts:
    never = threading.Event()
    return _when_dropped(parts, lambda: threading.Thread(target=never.wait, daemon=True).start())


class _Around:
    """A transport around another, the same until something is overridden."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@defect(
    "closes-last",
    "disconnect.half-open",
    "A connection that is over is kept until the other side closes it.",
)
def closes_last(parts: Parts) -> Parts:
    class Lingering(_Around):
        def close(self) -> None:
            if not self.inner.is_closing():
                self.inner.write_eof()

    class Polite(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(Lingering(transport))  # type: ignore[arg-type]

    return replace(parts, http=Polite)


@defect(
    "queue-per-reader",
    "isolation.bounded-backlog",
    "Each reader has a queue of its own, without bound.",
)
def queue_per_reader(parts: Parts) -> Parts:
    class Queueing(EventStream):
        async def body(self, send: Send) -> None:
            queue: asyncio.Queue[Any] = asyncio.Queue()

            async def pass_on() -> None:
                more = True
                while more:
                    message = await queue.get()
                    await send(message)
                    more = message["more_body"]

            async with asyncio.TaskGroup() as group:
                group.create_task(pass_on())
                await super().body(queue.put)

    return replace(parts, stream=Queueing)


@defect(
    "socket-never-full",
    "isolation.bounded-backlog",
    "What a reader does not take waits in the buffer of its connection, without bound.",
)
def socket_never_full(parts: Parts) -> Parts:
    class Boundless(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=2**40)

    return replace(parts, http=Boundless)


def _tracked(parts: Parts) -> tuple[Parts, dict[str, list[Reader]]]:
    """Note the readers of each run that are connected, as far as the server knows."""
    open_: dict[str, list[Reader]] = {}

    @contextmanager
    def noted(reader: Reader) -> Iterator[None]:
        open_.setdefault(reader.run, []).append(reader)
        try:
            yield
        finally:
            open_[reader.run].remove(reader)

    class Tracked(Writer):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            with noted(reader):
                await super().write(reader, send)

    return replace(parts, writer=Tracked), open_


@defect(
    "held-connection-409",
    "resume.old-connection-open",
    "A resume gets 409 while an older connection that is further on is held.",
)
def held_connection_409(parts: Parts) -> Parts:
    parts, connected = _tracked(parts)

    class Jealous(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            place = await super().place(run, after, user)
            live = place is not None and not (await self.log.state(run)).closed
            if live and after and any(other.after > after for other in connected.get(run, ())):
                raise Problem(409, "The run is being read already.")
            return place

    return replace(parts, intake=Jealous)


@defect(
    "held-connection-has-it",
    "resume.old-connection-open",
    "What was written to an older connection that is held is not sent again.",
)
def held_connection_has_it(parts: Parts) -> Parts:
    parts, connected = _tracked(parts)

    class GoingOn(Resumed):
        def begin(self, state: RunState) -> None:
            if not state.closed:
                others = [one.after for one in connected.get(self.run, ()) if one is not self]
                self.after = max([self.after, *others])

    return replace(parts, reader=GoingOn)
