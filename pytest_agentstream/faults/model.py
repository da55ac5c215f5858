"""Faults as data: what the network does to one connection, and where in it.

These need more than Toxiproxy has; those that it has too are in `toxics`. They act on what the
server sends, or on the whole connection.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

How = Literal["fin", "rst"]

WINDOW = 4096
"""Bytes asked for as a small receive buffer; the kernel gives about twice as many."""

CHOICES = {"direction": ("downstream", "upstream"), "how": ("fin", "rst")}

LONGEST = 600.0
"""Seconds; no fault waits longer. Milliseconds given for seconds are mostly noticed by it."""


class UnsupportedFault(ValueError):
    """A fault that this proxy can't inject, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong on one connection."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float":
                check(self.name, field.name, value, value <= LONGEST, f"at most {LONGEST:g} s")
            if isinstance(value, int | float):
                check(self.name, field.name, value, value >= 0, "no negative number")
            if isinstance(value, str):
                expected = CHOICES[field.name]
                check(self.name, field.name, value, value in expected, " or ".join(expected))

    def describe(self) -> str:
        """What it does, in one phrase for reports."""
        raise NotImplementedError


def check(name: str, attribute: str, value: object, holds: bool, expected: str) -> None:
    """Raise ValueError for an attribute unless it `holds`."""
    if not holds:
        raise ValueError(f"{name}: expected {expected} for {attribute}, found {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Fault):
    """A fault at one place downstream; exactly one of these says where.

    - `after_bytes`: behind so many bytes of the connection, head and chunk framing included.
    - `after_body`: behind so many body bytes, less the framing; 0 is right behind the head.
    - `after_event`: behind the blank line of the k-th event that is dispatched (comments and other
      blocks without data don't count); 0 is right behind the head. With `into_next`, so many bytes
      into the next event, counted from its first line that is no comment.

    On a connection that is used again, body bytes and events of all its answers count.
    """

    after_bytes: int | None = None
    after_body: int | None = None
    after_event: int | None = None
    into_next: int = 0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        given = [
            one for one in (self.after_bytes, self.after_body, self.after_event) if one is not None
        ]
        if len(given) > 1 or not (given or self._anywhere):
            raise ValueError(
                f"{self.name}: expected exactly one of after_bytes, after_body and after_event, "
                f"found {len(given)}"
            )
        if self.into_next and self.after_event is None:
            raise ValueError(f"{self.name}: into_next counts from an event; give after_event too")

    _anywhere: ClassVar[bool] = False

    @property
    def place(self) -> str:
        """Where, in words; empty where no place is given."""
        if self.after_bytes is not None:
            return f"after byte {self.after_bytes} of the connection"
        if self.after_body is not None:
            return f"after byte {self.after_body} of the body"
        if self.after_event is None:
            return ""
        if self.into_next:
            return f"{self.into_next} bytes into event {self.after_event + 1}"
        return f"after event {self.after_event}" if self.after_event else "after the head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Placed):
    """End the connection on both sides, with a FIN or a RST."""

    name: ClassVar[str] = "cut"
    how: How = "fin"

    def describe(self) -> str:
        return f"a {self.how.upper()} {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(Placed):
    """Hold everything in both directions, FINs too, and close nothing; go on once it is lifted."""

    name: ClassVar[str] = "stall"

    def describe(self) -> str:
        return f"a stall {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfOpen(Placed):
    """The client is gone and the server never learns: nothing is read from it or closed any more.

    Without a place, this begins when the client goes; with one, the client gets `how` there.
    `window` is the receive buffer in bytes, small, so that the server can't send much any more.
    """

    name: ClassVar[str] = "half_open"
    _anywhere: ClassVar[bool] = True
    how: How = "fin"
    window: int = WINDOW

    def describe(self) -> str:
        gone = (
            f"a {self.how.upper()} to the client {self.place}" if self.place else "the client's end"
        )
        return f"{gone}, of which the server never learns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt(Placed):
    """Flip bits of one byte: the one behind the place, or one of the first `within` body bytes.

    Which one of those comes from the proxy's seed. `mask` says which bits.
    """

    name: ClassVar[str] = "corrupt"
    _anywhere: ClassVar[bool] = True
    within: int = 0
    mask: int = 0xFF

    def __post_init__(self) -> None:
        Placed.__post_init__(self)
        check(self.name, "mask", self.mask, 1 <= self.mask <= 255, "1 to 255")
        if bool(self.within) == bool(self.place):
            raise ValueError(f"{self.name}: expected either within or a place")

    def describe(self) -> str:
        place = self.place or f"at one of the first {self.within} bytes of the body"
        return f"a corrupt byte {place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReader(Fault):
    """Read from the server at `rate` bytes a second, 0 for nothing.

    `window` is the receive buffer in bytes, small, so that the server soon notices.
    """

    name: ClassVar[str] = "slow_reader"
    rate: int
    window: int = WINDOW

    def describe(self) -> str:
        return (
            f"a client that reads {self.rate} bytes/s" if self.rate else "a client that never reads"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleCut(Fault):
    """End the connection on both sides once neither has sent a byte for `seconds`."""

    name: ClassVar[str] = "idle_cut"
    seconds: float
    how: How = "fin"

    def describe(self) -> str:
        return f"a {self.how.upper()} after {self.seconds:g} s without a byte"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Fault):
    """Reset the connection at once, and never tell the server.

    A connection that is refused as by a closed port is a matter of the listener: see
    `FaultProxy.refuse`.
    """

    name: ClassVar[str] = "refuse"

    def describe(self) -> str:
        return "a RST instead of a connection"


Plan = tuple[Fault, ...]
"""What happens to one connection; faults of one direction act in this order."""


def describe(plan: Plan) -> str:
    """The plan in words."""
    return "; ".join(fault.describe() for fault in plan) or "nothing injected"


def numbered(words: Sequence[str], *, repeat: bool = False) -> list[str]:
    """What happens to each connection, in words; those in a row that get the same are one line."""
    lines: list[str] = []
    first = 1
    for said, group in groupby(words):
        last = first + len(list(group)) - 1
        which = f"connection {first}" if first == last else f"connections {first} to {last}"
        lines.append(f"{which}: {said}")
        first = last + 1
    if repeat and lines:
        lines[-1] += ", and later ones"
    return lines


def window_of(plan: Plan) -> int | None:
    """Return the receive buffer that the plan asks for, in bytes, or None for any."""
    windows = [one.window for one in plan if isinstance(one, HalfOpen | SlowReader)]
    return min(windows, default=None)


def counts_http(fault: Fault) -> bool:
    """Whether the fault's place is known only to who reads HTTP."""
    if not isinstance(fault, Placed):
        return False
    anywhere = isinstance(fault, Corrupt) and fault.within > 0
    return anywhere or fault.after_body is not None or fault.after_event is not None
