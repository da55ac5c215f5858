"""Pipes: the bytes of one connection in one direction, through its faults, few of them held.

1. Bytes are read only while there is room for them, and handed on in the same turn of the loop
   where no fault holds them back. So a receiver that doesn't read stops the sender, as without a
   proxy.
2. What is not due yet waits in `_queue`, what the receiver's kernel has not taken in `_rest`.
3. What is more than passing bytes on, the connection does: it is told of acts and of errors.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from pytest_agentstream.faults.stages import Act, Kind

if TYPE_CHECKING:
    import asyncio

    from pytest_agentstream.faults.shaping import Shaper
    from pytest_agentstream.faults.sides import Side
    from pytest_agentstream.faults.stages import Item

ROOM = 64 * 1024
"""Bytes that a pipe holds at most."""


class Watcher(Protocol):
    """The connection of a pipe."""

    def received(self, pipe: Pipe, data: bytes) -> None:
        """Take note of bytes that came."""

    def act(self, pipe: Pipe, act: Act) -> None:
        """Carry out what is due now."""

    def broke(self, pipe: Pipe, side: Side, error: OSError) -> None:
        """Take note that one side of the pipe is gone; the pipe reads or sends nothing more."""


class Pipe:
    """Pass bytes from `source` to `sink`; `room` is how many of them it holds at most.

    `passed` counts bytes handed to the sink's kernel. `ended` is set when nothing more will come
    from the source. With `watched` the watcher is told of all that is received.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: Side,
        sink: Side,
        watcher: Watcher,
        *,
        shaper: Shaper | None = None,
        room: int = ROOM,
        watched: bool = False,
    ) -> None:
        self.source = source
        self.sink = sink
        self.passed = 0
        self.ended = False
        self.passed_fin = False
        self._loop = loop
        self._watcher = watcher
        self._shaper = shaper
        self._room = room
        self._watched = watched
        self._queue: deque[Item] = deque()
        self._queued = 0
        self._rest: memoryview | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._held = True
        self._stopped = False

    @property
    def holds(self) -> int:
        """Bytes received and not handed on."""
        return self._queued + (len(self._rest) if self._rest is not None else 0)

    @property
    def problems(self) -> list[str]:
        """Why places of faults were not found."""
        return self._shaper.problems if self._shaper else []

    def asked(self, data: bytes) -> None:
        """Let the faults know of bytes of the other direction."""
        if self._shaper is not None:
            self._shaper.asked(data)

    def release(self) -> None:
        """Begin, or go on where it was held."""
        if not self._stopped:
            self._held = False
            if self._rest is not None:
                self._loop.add_writer(self.sink.fd, self._writable)
            self._pump()

    def hold(self) -> None:
        """Read and send nothing until released."""
        self._held = True
        self._pause()
        if self._rest is not None:
            self._loop.remove_writer(self.sink.fd)
        self._disarm()

    def stop(self) -> None:
        """Read and send nothing any more, and forget what was held."""
        self.hold()
        self._stopped = True
        self._queue.clear()
        self._queued, self._rest = 0, None

    def lift(self) -> None:
        """Lift faults that last until then."""
        if self._shaper is not None and not self._stopped:
            self._queue += self._shaper.lift(self._loop.time())
            self._pump()

    def finish(self, act: Act) -> None:
        """Read nothing more, and do `act` behind what is held."""
        self.ended = True
        self._pause()
        self._queue.append((self._queue[-1][0] if self._queue else 0.0, act))
        self._pump()

    def _readable(self) -> None:
        if not self._reading:
            return
        try:
            data = self.source.recv(self._room - self._queued)
        except OSError as error:
            self._pause()
            self._watcher.broke(self, self.source, error)
            return
        if data is None:
            return
        if data and self._watched:
            self._watcher.received(self, data)
        if data and self._shaper is None:
            self._send(data)
        else:
            self._take(data)
        if self._reading and self.source.pending:
            self._loop.call_soon(self._readable)

    def _take(self, data: bytes) -> None:
        now = self._loop.time()
        if not data:
            self.ended = True
            self._pause()
            self._queue += self._shaper.end(now) if self._shaper else [(now, Act(Kind.EOF))]
        elif self._shaper is not None:
            for item in self._shaper.feed(data, now):
                self._queue.append(item)
                self._queued += _size(item)
        self._pump()

    def _pump(self) -> None:
        """Do what is due, in order, as far as the sink takes it; then read if there is room."""
        self._disarm()
        while self._queue and self._rest is None and not self._held:
            due, what = self._queue[0]
            if due > self._loop.time():
                break
            self._queued -= _size(self._queue.popleft())
            if isinstance(what, Act):
                self._watcher.act(self, what)
            else:
                self._send(what)
        if self._held:
            return
        self._arm()
        if self._rest is None and self._queued < self._room and not self.ended:
            self._resume()
        else:
            self._pause()

    def _send(self, data: bytes) -> None:
        try:
            taken = self.sink.send(data)
        except OSError as error:
            self.stop()
            self._watcher.broke(self, self.sink, error)
            return
        self.passed += taken
        if taken < len(data):
            self._rest = memoryview(data)[taken:]
            self._pause()
            self._loop.add_writer(self.sink.fd, self._writable)

    def _writable(self) -> None:
        if self._rest is None:
            return
        try:
            taken = self.sink.send(self._rest)
        except OSError as error:
            self.stop()
            self._watcher.broke(self, self.sink, error)
            return
        self.passed += taken
        if taken < len(self._rest):
            self._rest = self._rest[taken:]
            return
        self._rest = None
        self._loop.remove_writer(self.sink.fd)
        self._pump()

    def _resume(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self.source.fd, self._readable)
            if self.source.pending:
                self._loop.call_soon(self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.source.fd)

    def _arm(self) -> None:
        times = [self._queue[0][0]] if self._queue and self._rest is None else []
        if self._shaper is not None and self._shaper.deadline is not None:
            times.append(self._shaper.deadline)
        if times:
            self._timer = self._loop.call_at(min(times), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        if self._shaper is not None:
            self._queue += self._shaper.expire(self._loop.time())
        self._pump()


def _size(item: Item) -> int:
    return len(item[1]) if isinstance(item[1], bytes) else 0
