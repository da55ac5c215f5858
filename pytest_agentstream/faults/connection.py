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
