"""Stages: what one fault does to the bytes of one direction, and when. Sans-IO.

A stage is told which bytes came, and at which time, and answers with what is to be done: bytes to
be sent or acts to be carried out, each with the time when it is due. Times are seconds of one
clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from pytest_agentstream.faults.model import Corrupt, Fault
    from pytest_agentstream.faults.places import Place
    from pytest_agentstream.faults.toxics import Latency, ResetPeer, Slicer, SlowClose, Timeout

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


class Passing:
    """What hands on the FIN when it comes."""

    def end(self, at: float) -> Iterable[Item]:
        return [(at, Act(Kind.EOF))]


class Delay(Passing):
    """All data later; jitter is drawn for each piece that came together."""

    def __init__(self, fault: Latency, random: Random) -> None:
        self._fault = fault
        self._random = random

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        # "latency ± jitter"
        jitter = self._fault.jitter
        extra = self._random.uniform(-jitter, jitter) if jitter else 0.0
        return [(at + max(self._fault.latency + extra, 0.0), data)]


class Pace(Passing):
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


class LateEnd(Passing):
    """A FIN that comes late."""

    def __init__(self, fault: SlowClose) -> None:
        self._delay = fault.delay

    def feed(self, data: bytes, at: float) -> Iterable[Item]:
        return [(at, data)]

    def end(self, at: float) -> Iterable[Item]:
        return [(at + self._delay, Act(Kind.EOF))]


class Silence:
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


class Reset:
    """A RST after the first data, all of which is dropped."""

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


class Slices(Passing):
    """What came together in pieces."""

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

    def end(self, at: float) -> Iterable[Item]:
        # the pause comes behind each slice, the last one too
        return [(max(at, self._free), Act(Kind.EOF))]

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


class AtPlace(Passing):
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


class Flip(Passing):
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
