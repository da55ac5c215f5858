"""Connections through the proxy: two sides, two pipes, and the faults that take hold of both."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_agentstream.faults.closing import Ends
from pytest_agentstream.faults.model import (
    HalfOpen,
    IdleCut,
    Refuse,
    SlowReader,
    counts_http,
    describe,
)
from pytest_agentstream.faults.pipe import ROOM, Pipe
from pytest_agentstream.faults.shaping import Shaper
from pytest_agentstream.faults.stages import INTERVAL, Act, Kind
from pytest_agentstream.faults.toxics import Latency

if TYPE_CHECKING:
    from pytest_agentstream.faults.closing import By, SideEnd
    from pytest_agentstream.faults.model import Fault, How, Plan
    from pytest_agentstream.faults.sides import Side
    from pytest_agentstream.faults.toxics import Direction

Kept = TypeVar("Kept", bound="Fault")

ROOM_FOR_DELAY = 1024 * 1024
"""Bytes that a pipe with a latency holds at most; it passes no more than that in one latency."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that was injected: when, and behind how many bytes that went to the client."""

    fault: Fault
    at: float
    byte: int


class Connection:
    """One connection of a client, and what was injected. Times are seconds since the proxy began.

    - `number`: 1 for the proxy's first.
    - `plan`: the faults that it was given.
    - `fired`: those at a place or a time, once they are injected; others act all the time.
    - `hit`: set when the first of them has fired, or all is over.
    - `over`: set when every socket of the connection is closed; `closed` is when that was.
    """

    def __init__(self, number: int, plan: Plan, client: Side, seed: str, zero: float) -> None:
        self.number = number
        self.plan = plan
        self.fired: list[Fired] = []
        self.hit = asyncio.Event()
        self.over = asyncio.Event()
        self.closed: float | None = None
        self._loop = asyncio.get_running_loop()
        self._zero = zero
        self.opened = self._now()
        self._seed = seed
        self._client = client
        self._ends = Ends(self._loop, zero, self._finish)
        self._ends.add(client)
        self._down: Pipe | None = None
        self._up: Pipe | None = None
        self._active = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self._failure = ""
        self._reset: set[Side] = set()
        self._stalled = False
        self._stopped = False

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
        """Bytes that wait in the proxy now."""
        return sum(pipe.holds for pipe in self._pipes)

    @property
    def client_end(self) -> SideEnd | None:
        """How the client's side ended, or None while it stands."""
        return self._ends.noted.get("client")

    @property
    def server_end(self) -> SideEnd | None:
        """How the server's side ended, or None while it stands or where there was none."""
        return self._ends.noted.get("server")

    @property
    def problem(self) -> str:
        """Why the server was not reached, TLS broke, or a place was not found; else empty."""
        return self._failure or "; ".join(self._down.problems if self._down else ())

    def join(self, server: Side) -> None:
        """Begin to pass bytes between the client and the server."""
        if self._stopped:
            server.close()
            return
        self._ends.add(server)
        now = self._loop.time()
        slow, idle = self._planned(SlowReader), self._planned(IdleCut)
        room = self._room("downstream") if slow is None else max(int(slow.rate * INTERVAL), 1)
        counts = any(counts_http(fault) for fault in self.plan)
        self._down = Pipe(
            self._loop,
            server,
            self._client,
            self,
            shaper=Shaper(self.plan, "downstream", self._seed, now) or None,
            room=room,
            watched=idle is not None,
        )
        self._up = Pipe(
            self._loop,
            self._client,
            server,
            self,
            shaper=Shaper(self.plan, "upstream", self._seed, now) or None,
            room=self._room("upstream"),
            watched=idle is not None or counts,
        )
        if idle is not None:
            self._active = now
            self._watch(idle)
        self._up.release()
        if slow is None or slow.rate:
            self._down.release()

    def refuse(self, problem: str = "") -> None:
        """Reset the client: its plan says so, or the server can't be reached, for that reason."""
        self._failure = problem
        refusal = self._planned(Refuse)
        if refusal is not None:
            self._fire(refusal)
        self._ends.close_all("rst", "fault" if refusal else "proxy")

    def lift(self) -> None:
        """Lift what holds: a stall goes on, a timeout closes."""
        stalled, self._stalled = self._stalled, False
        for pipe in self._pipes:
            if stalled:
                pipe.release()
            pipe.lift()

    def cut(self, how: How, by: By) -> None:
        """End both sides now, with a FIN or a RST."""
        self._stop()
        if how == "rst":
            self._ends.reset(by)
        else:
            self._ends.close("server", "fin", by)
            self._ends.fin_client(by)

    def close(self) -> None:
        """Close every socket at once, as the proxy is closed."""
        self._stop()
        self._ends.close_all("fin", "proxy")

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
        by: By = "fault" if act.fault is not None else pipe.source.name
        match act.kind:
            case Kind.EOF:
                self._pass_fin(pipe)
            case Kind.FIN:
                self.cut("fin", by)
            case Kind.RST:
                self.cut("rst", by)
            case Kind.STALL:
                self._stalled = True
                for each in self._pipes:
                    each.hold()
            case Kind.HALF_OPEN if isinstance(act.fault, HalfOpen):
                self._stop()
                if act.fault.how == "rst":
                    self._ends.reset(by, ("client",))
                else:
                    self._ends.fin_client(by)

    def broke(self, pipe: Pipe, side: Side, error: OSError) -> None:
        """See `Watcher`."""
        if self._hides(side, "rst"):
            return
        if not isinstance(error, ConnectionError):
            self._failure = f"the {side.name}'s side broke: {error}"
        self._ends.note(side.name, "rst", side.name)
        self._reset.add(side)
        other = self._up if pipe is self._down else self._down
        if side is pipe.source:
            pipe.finish(Act(Kind.RST))
        elif other is None or other.ended:
            self.cut("rst", side.name)
        # else the other pipe reads what is left on that side, to its end

    def _pass_fin(self, pipe: Pipe) -> None:
        source, sink = pipe.source, pipe.sink
        if source in self._reset:
            self.cut("rst", source.name)
            return
        if self._hides(source, "fin"):
            return
        if source is self._client and self._planned(SlowReader):
            # it has gone with bytes unread, of which the server would learn by a RST
            self.cut("rst", "client")
            return
        self._ends.note(source.name, "fin", source.name)
        self._ends.note(sink.name, "fin", source.name)
        pipe.passed_fin = True
        try:
            sink.fin()
        except OSError as error:
            self.broke(pipe, sink, error)
            return
        if all(each.passed_fin for each in self._pipes):
            self._stop()
            self._ends.close_all("fin", source.name)

    def _hides(self, side: Side, how: How) -> bool:
        """Hide from the server that the client is gone, where the plan says so."""
        fault = self._planned(HalfOpen)
        if fault is None or fault.place or side is not self._client:
            return False
        self._fire(fault)
        self._stop()
        self._ends.close("client", how, "client")
        return True

    # -- inside ----------------------------------------------------------------------------

    @property
    def _pipes(self) -> tuple[Pipe, ...]:
        return tuple(pipe for pipe in (self._down, self._up) if pipe is not None)

    def _planned(self, kind: type[Kept]) -> Kept | None:
        return next((fault for fault in self.plan if isinstance(fault, kind)), None)

    def _room(self, direction: Direction) -> int:
        late = (one for one in self.plan if isinstance(one, Latency))
        return ROOM_FOR_DELAY if any(one.direction == direction for one in late) else ROOM

    def _watch(self, idle: IdleCut) -> None:
        due = self._active + idle.seconds
        if self._loop.time() >= due:
            self._fire(idle)
            self.cut(idle.how, "fault")
        else:
            self._idle = self._loop.call_at(due, self._watch, idle)

    def _stop(self) -> None:
        self._stopped = True
        for pipe in self._pipes:
            pipe.stop()
        if self._idle is not None:
            self._idle.cancel()

    def _fire(self, fault: Fault) -> None:
        self.fired.append(Fired(fault, self._now(), self.downstream))
        self.hit.set()

    def _finish(self) -> None:
        self._stop()
        self.closed = self._now()
        self.hit.set()
        self.over.set()

    def _now(self) -> float:
        return self._loop.time() - self._zero
