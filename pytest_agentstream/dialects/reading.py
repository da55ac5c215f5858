"""What a dialect makes of a run: typed events, their cursors, the outcome, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block


class Role(StrEnum):
    """What an event is for, whatever the dialect calls it."""

    CONTENT = "content"
    ERROR = "error"  # says that something failed; terminal only if the dialect says so
    TERMINAL = "terminal"
    HEARTBEAT = "heartbeat"
    INPUT = "input"  # the run waits for a person


class Outcome(StrEnum):
    """What a terminal says of the run."""

    SUCCESS = "success"
    FAILURE = "failure"
    INTERRUPT = "interrupt"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that breaks a declared rule: of which requirement, expected what, actual what."""

    requirement: str
    expected: str
    actual: str
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a run: the text as sent, the run it names (if any) and its number (if ordered)."""

    text: str
    run: str | None = None
    number: int | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched block under a dialect.

    `type` is None where none is said; `payload` is the parsed data (None where it does not parse:
    `problem` says why, and what would be JSON but for NaN or Infinity has both); `sentinel` is the
    literal text of a sentinel. `exchange` is the recording it came in, `at` its arrival in seconds
    of that exchange. `cursor` has no run and no number where it is malformed. `violations` are the
    event's own and leave their `event` out; those of a `Reading` have it.
    """

    exchange: Recording
    block: Block
    at: float
    type: str | None
    role: Role
    payload: Any = None
    sentinel: str | None = None
    problem: str | None = None
    cursor: Cursor | None = None
    known: bool = True
    ephemeral: bool = False
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole run under a dialect: all events of all exchanges, in order of arrival.

    `terminals` are the (event, outcome) pairs found, less those that a reconnect repeated;
    `violations` are those of the events and of the order machine together.
    """

    events: tuple[Event, ...]
    terminals: tuple[tuple[Event, Outcome], ...] = ()
    violations: tuple[Violation, ...] = ()

    @property
    def outcome(self) -> Outcome | None:
        """What the first terminal says, or None where there is none."""
        return self.terminals[0][1] if self.terminals else None

    def of(self, requirement: str) -> tuple[Violation, ...]:
        return tuple(v for v in self.violations if v.requirement == requirement)

    def typed(self, name: str) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.type == name)
