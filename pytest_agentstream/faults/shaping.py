"""Shaping: what a fault does to the bytes of one direction, and when. Sans-IO.

1. A stage is told which bytes came, and at which time, and answers with what is to be done: bytes
   to be sent or acts to be carried out, each with the time when it is due.
2. Stages stand in a row; what one answers the next is told, at the time when it is due. Nothing
   overtakes anything: what is due earlier than something before it waits for that.
3. Chance comes from a generator of each stage's own, so that the same seed and the same bytes, cut
   the same way, give the same answers, whatever other stages do.

Times are seconds of one clock. The meaning of toxics is that of Toxiproxy 2.12.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Protocol

from pytest_agentstream.faults.model import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
    HalfOpen,
    Latency,
    LimitData,
    Placed,
    ResetPeer,
    Slicer,
    SlowClose,
    SlowReader,
    Stall,
    Timeout,
)
from pytest_agentstream.faults.places import (
    BodyByte,
    ConnectionByte,
    EventEnd,
    InAnswers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentstream.faults.model import Direction, Plan
    from pytest_agentstream.faults.places import Place

INTERVAL = 0.1
"""Seconds; a slow direction lets something through at least that often."""


class Kind(Enum):
    """What an act does."""

    EOF = "eof"  # the sender's own FIN is handed on
    FIN = "fin"
    RST = "rst"
    STALL = "stall"
    HALF_OPEN = "half-open"
    MARK = "mark"  # nothing more; it is noted that the fault was injected here


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done besides sending bytes, and the fault that it comes from."""

    kind: Kind
    fault: Fault | None = None


Item = tuple[float, bytes | Act]
"""When something is due, and what."""


class Stage(Protocol):
    """One fault in one direction of one connection."""

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        """Take bytes, never none, that came `at` this time."""

    def end(self, at: float) -> Iterable[Item]:
        """Take the sender's FIN."""


class _Stage:
    def end(self, at: float) -> Iterable[Item]:
        return [(at, Act(Kind.EOF))]


class _Delay(_Stage):
    def __init__(self, fault: Latency, random: Random) -> None:
        self._fault = fault
        self._random = random

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        # "latency ± jitter"
        jitter = self._fault.jitter
        extra = self._random.uniform(-jitter, jitter) if jitter else 0.0
        return [(at + max(self._fault.latency + extra, 0.0), data)]


class _Pace(_Stage):
    """At most `rate` bytes a second; what is behind waits in the sender."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free = 0.0

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        size = max(int(self._rate * INTERVAL), 1)
        items: list[Item] = []
        self._free = max(self._free, at)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._free += len(piece) / self._rate
            items.append((self._free, piece))
        return items


class _LateEnd(_Stage):
    def __init__(self, fault: SlowClose) -> None:
        self._delay = fault.delay

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        return [(at, data)]

    def end(self, at: float) -> Iterable[Item]:
        return [(at + self._delay, Act(Kind.EOF))]


class _Silence:
    """All data dropped; `deadline` is when both sides are closed, None for never."""

    def __init__(self, fault: Timeout) -> None:
        self.fault = fault
        self.deadline: float | None = None

    def begin(self, at: float) -> None:
        # each chunk that is dropped begins the wait anew, in Toxiproxy too
        self.deadline = at + self.fault.timeout if self.fault.timeout else None

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        self.begin(at)
        return []

    def end(self, at: float) -> Iterable[Item]:
        return [(at, Act(Kind.FIN, self.fault))]


class _Reset:
    def __init__(self, fault: ResetPeer) -> None:
        self._fault = fault
        self._begun = False

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        return self.end(at)

    def end(self, at: float) -> Iterable[Item]:
        if self._begun:
            return []
        self._begun = True
        return [(at + self._fault.timeout, Act(Kind.RST, self._fault))]


class _Slices(_Stage):
    def __init__(self, fault: Slicer, random: Random) -> None:
        self._fault = fault
        self._random = random
        self._free = 0.0

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        items: list[Item] = []
        self._free = max(self._free, at)
        for start, end in self._borders(0, len(data)):
            items.append((self._free, data[start:end]))
            self._free += self._fault.delay
        return items

    def _borders(self, start: int, end: int) -> list[tuple[int, int]]:
        """Halve until a slice is small enough, as Toxiproxy does."""
        slices: list[tuple[int, int]] = []
        waiting = [(start, end)]
        variation = self._fault.size_variation
        while waiting:
            start, end = waiting.pop()
            if end - start - self._fault.average_size <= variation:
                slices.append((start, end))
                continue
            middle = start + (end - start) // 2
            if variation:
                middle += self._random.randrange(-variation, variation)
            middle = min(max(middle, start + 1), end - 1)
            waiting += [(middle, end), (start, middle)]
        return slices


class _AtPlace(_Stage):
    """One act at one place; all bytes go on."""

    def __init__(self, act: Act, place: Place) -> None:
        self._act = act
        self._found = False
        self.place = place

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        found = None if self._found else self.place.find(data)
        if found is None:
            return [(at, data)]
        self._found = True
        items: list[Item] = [(at, data[:found]), (at, self._act), (at, data[found:])]
        return [item for item in items if item[1]]


class _Flip(_Stage):
    """The byte before one place changed."""

    def __init__(self, fault: Corrupt, place: Place) -> None:
        self._fault = fault
        self._found = False
        self.place = place

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        found = None if self._found else self.place.find(data)
        if found is None:
            return [(at, data)]
        self._found = True
        flipped = data[: found - 1] + bytes([data[found - 1] ^ self._fault.mask]) + data[found:]
        return [(at, Act(Kind.MARK, self._fault)), (at, flipped)]


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
            return _Delay(fault, random)
        case Bandwidth():
            return _Pace(fault.rate * 1000)
        case SlowReader() if fault.rate:
            return _Pace(fault.rate)
        case SlowClose():
            return _LateEnd(fault)
        case Timeout():
            return _Silence(fault)
        case ResetPeer():
            return _Reset(fault)
        case Slicer():
            return _Slices(fault, random)
        case LimitData():
            return _AtPlace(Act(Kind.FIN, fault), ConnectionByte(fault.bytes))
        case Cut():
            kind = Kind.RST if fault.how == "rst" else Kind.FIN
            return _AtPlace(Act(kind, fault), _place(fault))
        case Stall():
            return _AtPlace(Act(Kind.STALL, fault), _place(fault))
        case HalfOpen() if fault.place:
            return _AtPlace(Act(Kind.HALF_OPEN, fault), _place(fault))
        case Corrupt() if fault.within:
            # behind the byte, not before it: chunk framing may stand between two body bytes
            return _Flip(fault, InAnswers(BodyByte(random.randrange(fault.within) + 1)))
        case Corrupt():
            return _Flip(fault, _place(fault, further=1))
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
        self._silences = [stage for stage in self._stages if isinstance(stage, _Silence)]
        self._last = 0.0
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
        placed = [stage for stage in self._stages if isinstance(stage, _AtPlace | _Flip)]
        return [stage.place.problem for stage in placed if stage.place.problem]

    def asked(self, data: bytes) -> None:
        """Take bytes of the other direction, which are requests."""
        for stage in self._stages:
            if isinstance(stage, _AtPlace | _Flip):
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
        for stage in self._stages:
            items = [further for item in items for further in _told(stage, item)]
        ordered: list[Item] = []
        for due, what in items:
            self._last = max(self._last, due)
            ordered.append((self._last, what))
        return ordered


def _told(stage: Stage, item: Item) -> Iterable[Item]:
    due, what = item
    if isinstance(what, bytes):
        return stage.feed(what, due)
    return stage.end(due) if what.kind is Kind.EOF else [item]
