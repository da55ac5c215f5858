"""Connections through the proxy: two sides, two pipes, and how each side ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_agentstream.faults.model import (
    Cut,
    HalfOpen,
    IdleCut,
    Latency,
    Refuse,
    SlowReader,
    counts_http,
    describe,
)
from pytest_agentstream.faults.pipe import ROOM, Pipe
from pytest_agentstream.faults.shaping import INTERVAL, Act, Kind, Shaper

if TYPE_CHECKING:
    from random import Random

    from pytest_agentstream.faults.model import Fault, How, Plan
    from pytest_agentstream.faults.sides import Side

ROOM_FOR_DELAY = 1024 * 1024
"""Bytes that wait in a pipe that delays; more than this a delay of theirs is not let in."""

LINGER = 1.0
"""Seconds for which a client that got a FIN may still send, before its connection is closed."""

RESET_WAIT = 1.0
"""Seconds that a RST waits for what was sent before it, which it would discard."""

ASK_AGAIN = 0.001

By = Literal["client", "server", "fault", "proxy"]


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that was injected: when, and behind how many bytes that went to the client."""

    fault: Fault
    at: float
    byte: int


@dataclass(frozen=True, slots=True)
class SideEnd:
    """How one side's connection ended: with what, whose doing it was, and when.

    `proxy` is the proxy that was closed, or could not reach the server.
    """

    how: How
    by: By
    at: float


class Connection:
    """One connection of a client, and what was injected. Times are seconds since the proxy began.

    - `number`: 1 for the proxy's first.
    - `fired`: the faults at a place or a time that were injected; others act all the time.
    - `client_end`, `server_end`: how each side ended, None while it stands.
    - `problem`: why the server could not be reached, or a place not be found; else empty.
    - `gone`: set once a fault has fired that ends or holds, or a side has ended by itself.
    - `over`: set once all its sockets are closed.
    """

    def __init__(self, number: int, plan: Plan, client: Side, random: Random, zero: float) -> None:
        self.number = number
        self.plan = plan
        self.opened = 0.0
        self.closed: float | None = None
        self.fired: list[Fired] = []
        self.client_end: SideEnd | None = None
        self.server_end: SideEnd | None = None
        self.gone = asyncio.Event()
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._zero = zero
        self._random = random
        self._client: Side | None = client
        self._server: Side | None = None
        self._down: Pipe | None = None
        self._up: Pipe | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._active = 0.0
        self._failure = ""
        self._reset: set[Side] = set()
        self.opened = self._now()

    def __repr__(self) -> str:
        return f"<Connection {self.number}: {describe(self.plan)}; {self.downstream} bytes down>"

    @property
    def downstream(self) -> int:
        """Bytes that went to the client."""
        return self._down.passed if self._down else 0

    @property
    def upstream(self) -> int:
        """Bytes that went to the server."""
        return self._up.passed if self._up else 0

    @property
    def held(self) -> int:
        """Bytes that are in the proxy now."""
        return sum(pipe.holds for pipe in (self._down, self._up) if pipe)

    @property
    def problem(self) -> str:
        if self._failure or self._down is None:
            return self._failure
        return "; ".join(self._down.problems)

    # -- beginning -------------------------------------------------------------------------

    def refuse(self) -> None:
        """Reset the client; there is no server side."""
        refusal = next((fault for fault in self.plan if isinstance(fault, Refuse)), None)
        if refusal is not None:
            self._fire(refusal)
        self._end_client("rst", "fault" if refusal else "proxy")
        self._finish()

    def fail(self, problem: str) -> None:
        """Give up: the server can't be reached."""
        self._failure = problem
        self.refuse()

    def join(self, server: Side) -> None:
        """Begin passing bytes between the client and the server."""
        client = self._client
        if client is None:
            server.close()
            return
        self._server = server
        now = self._loop.time()
        down, up = (
            Shaper(self.plan, direction, self._random, now) for direction in ("downstream", "upstream")
        )
        slow = next((fault for fault in self.plan if isinstance(fault, SlowReader)), None)
        idle = next((fault for fault in self.plan if isinstance(fault, IdleCut)), None)
        counts = any(counts_http(fault) for fault in self.plan)
        room = self._room("downstream")
        if slow is not None:
            room = max(int(slow.rate * INTERVAL), 1)
        self._down = Pipe(
            self._loop, server, client, self, shaper=down or None, room=room, watched=bool(idle)
        )
        self._up = Pipe(
            self._loop,
            client,
            server,
            self,
            shaper=up or None,
            room=self._room("upstream"),
            watched=bool(idle) or counts,
        )
        if idle is not None:
            self._active = now
            self._watch(idle)
        self._up.release()
        if slow is None or slow.rate:
            self._down.release()

    def _room(self, direction: str) -> int:
        delays = any(
            isinstance(fault, Latency) and fault.direction == direction for fault in self.plan
        )
        return ROOM_FOR_DELAY if delays else ROOM

    # -- what pipes tell -------------------------------------------------------------------

    def received(self, pipe: Pipe, data: bytes) -> None:
        """See `Watcher`."""
        self._active = self._loop.time()
        if pipe is self._up and self._down is not None:
            self._down.asked(data)

    def act(self, pipe: Pipe, act: Act) -> None:
        """See `Watcher`."""
        if act.fault is not None:
            self._fire(act.fault)
        match act.kind:
            case Kind.EOF:
                self._pass_fin(pipe)
            case Kind.FIN:
                self.cut("fin", "fault")
            case Kind.RST:
                self.cut("rst", "fault" if act.fault else self._name(pipe.source))
            case Kind.STALL:
                self._hold()
            case Kind.HALF_OPEN:
                assert isinstance(act.fault, HalfOpen)
                self._lose_client(act.fault.how, "fault")
            case Kind.MARK:
                pass

    def broke(self, pipe: Pipe, side: Side, error: OSError) -> None:
        """See `Watcher`."""
        if side is self._client and self._hides_client():
            self._note(side, "rst", "client")
            self._lose_client("rst", "client")
            return
        self._note(side, "rst", self._name(side))
        self._reset.add(side)
        other = self._up if pipe is self._down else self._down
        if side is pipe.source:
            pipe.finish(Act(Kind.RST))
        elif other is None or other.ended:
            self.cut("rst", self._name(side))
        # else the other pipe reads what is left on that side, to its end

    # -- ending ----------------------------------------------------------------------------

    def cut(self, how: How, by: By) -> None:
        """End both sides now; a RST waits until the client has what was sent before it."""
        if self._client is None and self._server is None:
            return
        self._stop()
        self.gone.set()
        if how == "fin":
            self._end_server("fin", by)
            self._end_client("fin", by)
        else:
            self._note(self._client, "rst", by)
            self._note(self._server, "rst", by)
            self._reset_when_acknowledged(self._loop.time() + RESET_WAIT)

    def lift(self) -> None:
        """Lift what holds: a stall goes on, a timeout closes."""
        for pipe in (self._down, self._up):
            if pipe is not None:
                pipe.lift()
                if self._stalled:
                    pipe.release()
        self._stalled = False

    def close(self, by: By = "proxy") -> None:
        """Close every socket of the connection now."""
        self._stop()
        for side in (self._client, self._server):
            if side is not None:
                self._note(side, "fin", by)
                self._loop.remove_reader(side.sock.fileno())
                side.close()
        self._client = self._server = None
        self._finish()

    def _pass_fin(self, pipe: Pipe) -> None:
        source, sink = pipe.source, pipe.sink
        by = self._name(source)
        if source in self._reset:
            self.cut("rst", by)
            return
        self._note(source, "fin", by)
        if source is self._client and self._hides_client():
            self._lose_client("fin", by)
            return
        self._note(sink, "fin", by)
        try:
            sink.fin()
        except OSError as error:
            self.broke(pipe, sink, error)
            return
        self._passed_fins += 1
        if self._passed_fins == 2:
            self.close()

    def _hides_client(self) -> bool:
        return any(isinstance(one, HalfOpen) and not one.place for one in self.plan)

    def _lose_client(self, how: How, by: By) -> None:
        """Be done with the client, and let the server side stand, unread."""
        self._stop()
        if by == "client":
            self._fire(next(fault for fault in self.plan if isinstance(fault, HalfOpen)))
        self._end_client(how, by)

    def _hold(self) -> None:
        self._stalled = True
        for pipe in (self._down, self._up):
            if pipe is not None:
                pipe.hold()

    def _stop(self) -> None:
        for pipe in (self._down, self._up):
            if pipe is not None:
                pipe.stop()
        for handle in (self._timer, self._idle):
            if handle is not None:
                handle.cancel()

    def _end_server(self, how: How, by: By) -> None:
        server, self._server = self._server, None
        if server is not None:
            self._note_server(how, by)
            server.reset() if how == "rst" else server.close()

    def _end_client(self, how: How, by: By) -> None:
        client = self._client
        if client is None:
            return
        self._note_client(how, by)
        if how == "rst" or by == "client":
            self._client = None
            client.reset() if how == "rst" else client.close()
            self._settle()
            return
        try:
            client.fin()
        except OSError:
            self._close_client()
            return
        # to close a socket with bytes that were not read would send a RST
        self._loop.add_reader(client.sock.fileno(), self._discard)
        self._timer = self._loop.call_later(LINGER, self._close_client)

    def _discard(self) -> None:
        if self._client is None:
            return
        try:
            data = self._client.recv(ROOM)
        except OSError:
            data = b""
        if data == b"":
            self._close_client()

    def _close_client(self) -> None:
        client, self._client = self._client, None
        if self._timer is not None:
            self._timer.cancel()
        if client is not None:
            self._loop.remove_reader(client.sock.fileno())
            client.close()
        self._settle()

    def _reset_when_acknowledged(self, latest: float) -> None:
        client = self._client
        try:
            waits = client is not None and client.unacknowledged > 0
        except OSError:
            waits = False
        if waits and self._loop.time() < latest:
            again = self._reset_when_acknowledged
            self._timer = self._loop.call_later(ASK_AGAIN, again, latest)
            return
        by = self.client_end.by if self.client_end else "fault"
        self._end_server("rst", by)
        self._end_client("rst", by)

    def _settle(self) -> None:
        if self._client is None and self._server is None:
            self._finish()

    def _finish(self) -> None:
        if self.closed is None:
            self.closed = self._now()
        self.gone.set()
        self.over.set()

    def _watch(self, idle: IdleCut) -> None:
        due = self._active + idle.seconds
        if self._loop.time() >= due:
            self._fire(idle)
            self.cut(idle.how, "fault")
        else:
            self._idle = self._loop.call_at(due, self._watch, idle)

    # -- noting ----------------------------------------------------------------------------

    def _now(self) -> float:
        return self._loop.time() - self._zero

    def _name(self, side: Side) -> By:
        return "client" if side is self._client else "server"

    def _fire(self, fault: Fault) -> None:
        self.fired.append(Fired(fault, self._now(), self.downstream))
        self.gone.set()
