"""Shaping: all faults of a plan that act on the bytes of one direction. Sans-IO.

1. Stages stand in a row; what one answers the next is told, at the time when it is due.
2. Nothing overtakes anything: what is due earlier than something before it waits for that.
3. Chance comes from a generator of each stage's own, so that the same seed and the same bytes, cut
   the same way, give the same answers, whatever other stages do.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from pytest_agentstream.faults.model import Corrupt, Cut, Fault, HalfOpen, Placed, SlowReader, Stall
from pytest_agentstream.faults.places import BodyByte, ConnectionByte, EventEnd, InAnswers
from pytest_agentstream.faults.stages import (
    Act,
    AtPlace,
    Delay,
    Flip,
    Kind,
    LateEnd,
    Pace,
    Reset,
    Silence,
    Slices,
)
from pytest_agentstream.faults.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentstream.faults.model import Plan
    from pytest_agentstream.faults.places import Place
    from pytest_agentstream.faults.stages import Item, Stage
    from pytest_agentstream.faults.toxics import Direction


def _place(fault: Placed, further: int = 0) -> Place:
    """What finds the place of a fault, or the one `further` bytes of its kind behind it."""
    if fault.after_bytes is not None:
        return ConnectionByte(fault.after_bytes + further)
    if fault.after_event is not None:
        return InAnswers(EventEnd(fault.after_event, fault.into_next + further))
    return InAnswers(BodyByte((fault.after_body or 0) + further))


def _stage(fault: Fault, random: Random) -> Stage | None:
    match fault:
        case Latency():
            return Delay(fault, random)
        case Bandwidth():
            return Pace(fault.rate * 1000)
        case SlowReader() if fault.rate:
            return Pace(fault.rate)
        case SlowClose():
            return LateEnd(fault)
        case Timeout():
            return Silence(fault)
        case ResetPeer():
            return Reset(fault)
        case Slicer():
            return Slices(fault, random)
        case LimitData():
            return AtPlace(Act(Kind.FIN, fault), ConnectionByte(fault.bytes))
        case Cut():
            kind = Kind.RST if fault.how == "rst" else Kind.FIN
            return AtPlace(Act(kind, fault), _place(fault))
        case Stall():
            return AtPlace(Act(Kind.STALL, fault), _place(fault))
        case HalfOpen() if fault.place:
            return AtPlace(Act(Kind.HALF_OPEN, fault), _place(fault))
        case Corrupt() if fault.within:
            # behind the byte, not before it: chunk framing may stand between two body bytes
            return Flip(fault, InAnswers(BodyByte(random.randrange(fault.within) + 1)))
        case Corrupt():
            return Flip(fault, _place(fault, further=1))
    return None


class Shaper:
    """All faults of a plan that act on the bytes of one direction, in a row.

    The first act that ends the connection is the last item that counts.
    """

    def __init__(self, plan: Plan, direction: Direction, seed: str, at: float) -> None:
        made = [
            _stage(fault, Random(f"{seed} {number}"))
            for number, fault in enumerate(plan, 1)
            if getattr(fault, "direction", "downstream") == direction
        ]
        self._stages = [stage for stage in made if stage is not None]
        self._silences = [stage for stage in self._stages if isinstance(stage, Silence)]
        self._last = [0.0] * len(self._stages)
        for stage in self._silences:
            stage.begin(at)

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def deadline(self) -> float | None:
        """When `expire` wants to be called, or None."""
        return min((s.deadline for s in self._silences if s.deadline is not None), default=None)

    @property
    def problems(self) -> list[str]:
        """Why places were not found."""
        placed = [stage for stage in self._stages if isinstance(stage, AtPlace | Flip)]
        return [stage.place.problem for stage in placed if stage.place.problem]

    def asked(self, data: bytes) -> None:
        """Take bytes of the other direction, which are requests."""
        for stage in self._stages:
            if isinstance(stage, AtPlace | Flip):
                stage.place.asked(data)

    def feed(self, data: bytes, at: float) -> list[Item]:
        """Take bytes that came now; return what is to be done, in order of time."""
        return self._through([(at, data)])

    def end(self, at: float) -> list[Item]:
        """Take the sender's FIN, which came now."""
        return self._through([(at, Act(Kind.EOF))])

    def expire(self, at: float) -> list[Item]:
        """Return what is due because `deadline` has passed."""
        over = [s for s in self._silences if s.deadline is not None and s.deadline <= at]
        return [item for stage in over for item in stage.end(at)]

    def lift(self, at: float) -> list[Item]:
        """Return what is due because faults are lifted that last until then."""
        return [item for stage in self._silences for item in stage.end(at)]

    def _through(self, items: list[Item]) -> list[Item]:
        for number, stage in enumerate(self._stages):
            told = [further for item in items for further in _told(stage, item)]
            items = self._in_order(number, told)
        return items

    def _in_order(self, number: int, items: list[Item]) -> list[Item]:
        """What leaves one stage: nothing of it is due before what has left it already."""
        ordered: list[Item] = []
        for due, what in items:
            self._last[number] = max(self._last[number], due)
            ordered.append((self._last[number], what))
        return ordered


def _told(stage: Stage, item: Item) -> Iterable[Item]:
    due, what = item
    if isinstance(what, bytes):
        return stage.feed(what, due)
    return stage.end(due) if what.kind is Kind.EOF else [item]
