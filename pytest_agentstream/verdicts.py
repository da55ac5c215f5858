"""The words in which a server is judged, and how a case says one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.recording import Head, Recording
    from pytest_agentstream.wire import Block, Line

    Place = Event | Block | Line | Head | Recording


class Verdict(StrEnum):
    """What came out for one requirement."""

    MET = "met"
    FAILED = "failed"
    WARNED = "warned"
    NOT_APPLICABLE = "not applicable"
    NOT_TESTED = "not tested"
    CONTROL_BROKEN = "control broken"
    BLOCKED = "blocked"
    ERROR = "error"


UNSOUND = frozenset({Verdict.FAILED, Verdict.WARNED, Verdict.BLOCKED, Verdict.ERROR})
"""Verdicts after which nothing that presupposes the requirement can be met."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a case failed: what was expected, what was there, and where in which recording.

    `places` are events, blocks, lines or recordings; `recording` is the exchange they belong to,
    where the place does not say so itself. `also` are sentences on what the same cause entails.
    """

    expected: str
    actual: str
    places: tuple[Place, ...] = ()
    recording: Recording | None = None
    breaks: str = ""
    hint: str = ""
    also: tuple[str, ...] = ()


class Outcome(Exception):
    """A verdict other than *met*, raised by a probe or a case."""


@dataclass(eq=False)
class Failed(Outcome):
    """The requirement is broken; `finding` says how."""

    finding: Finding

    def __str__(self) -> str:
        return f"expected {self.finding.expected}; found {self.finding.actual}"


@dataclass(eq=False)
class NotTested(Outcome):
    """There is no evidence: why, and the exact option or declaration that would provide it."""

    why: str
    option: str = ""

    def __str__(self) -> str:
        return f"{self.why}; {self.option}" if self.option else self.why


class ServerGone(NotTested):
    """The server under test answered before and does not accept connections any more."""


class ServerDied(Failed):
    """The process of the server under test ended by itself: one finding, whoever looks at it."""


@dataclass(eq=False)
class NotApplicable(Outcome):
    """The dialect, or what the server declares, has no mechanism for it."""

    why: str

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class ControlBroken(Outcome):
    """A control was given and does not do what it says.

    `option` is what would mend it; without one, that is the scenario's mapping.
    """

    scenario: str
    expected: str
    actual: str
    recording: Recording | None = field(default=None, repr=False)
    option: str = ""

    def __str__(self) -> str:
        return f"the control of `{self.scenario}`: expected {self.expected}; found {self.actual}"


@dataclass(eq=False)
class InDoubt(Outcome):
    """A time lies nearer to its limit than the event loop's own lag: neither met nor failed."""

    what: str

    def __str__(self) -> str:
        return self.what


def expect(
    holds: object,
    *,
    expected: str,
    actual: str,
    at: Place | tuple[Place, ...] | None = None,
    recording: Recording | None = None,
    breaks: str = "",
    hint: str = "",
    also: tuple[str, ...] = (),
) -> None:
    """Raise `Failed` with a finding unless `holds`.

    `at` is the event, block, line, head or recording that shows it.
    """
    if not holds:
        places = at if isinstance(at, tuple) else () if at is None else (at,)
        raise Failed(Finding(expected, actual, places, recording, breaks, hint, also))


def expect_at_most(
    seconds: float,
    limit: float,
    *,
    lag: float,
    denied: float = 0.0,
    expected: str,
    actual: str,
    at: Place | tuple[Place, ...] | None = None,
    recording: Recording | None = None,
    hint: str = "",
    from_request: bool = False,
) -> None:
    """Raise `Failed` where a time exceeds its limit, and `InDoubt` where the lag could decide it.

    `seconds`, `limit` and `lag` are seconds; a time exactly at its limit is good. A time
    `from_request` can only seem too long, for lag makes arrivals late; one between two arrivals
    can also seem too short. On a machine so crowded that we were `denied` a processor for as long
    as a time is too long, a server beside us may have been as well.
    """
    over = seconds - limit
    if 0 < (over if from_request else abs(over)) <= lag or 0 < over <= denied:
        ours = max(lag, denied)
        raise InDoubt(f"{actual}, the limit is {limit:.3f} s, and our own lag was {ours:.3f} s")
    expect(
        seconds <= limit,
        expected=expected,
        actual=actual,
        at=at,
        recording=recording,
        hint=hint,
    )
