"""A script: what the double does in each turn, as data. See docs/double.md for the words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Finish: TypeAlias = Literal["stop", "length", "content_filter"]
Splitting: TypeAlias = Literal["bytes", "deltas"]


@dataclass(frozen=True, slots=True)
class Say:
    """Stream a text."""

    text: str


@dataclass(frozen=True, slots=True)
class Every:
    """Pause that long between the pieces that follow."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Send nothing for that long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Split:
    """Cut what follows within characters."""

    how: Splitting


@dataclass(frozen=True, slots=True)
class Tool:
    """Call a tool; None is the first one that is offered, or its smallest arguments."""

    name: str | None
    arguments: str | None


@dataclass(frozen=True, slots=True)
class Garbage:
    """Send one event that is no JSON."""


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection before its time."""

    where: Literal["", "mid-chunk", "head"] = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more, for ever."""

    where: Literal["", "head"] = ""


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """Say an error in the stream, of the type that goes with a status."""

    status: int = 500


@dataclass(frozen=True, slots=True)
class Status:
    """Answer with a status and an error."""

    status: int
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Html:
    """Answer with an HTML page."""

    status: int = 502


End: TypeAlias = Cut | Stall | ErrorEvent | Status | Html
Action: TypeAlias = Say | Every | Silence | Split | Tool | Garbage | End

FAILURES = (Cut, Stall, ErrorEvent, Status, Html)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one call gets. `every` and `split` hold from its start, until an action changes them."""

    actions: tuple[Action, ...] = ()
    every: float = 0.0
    split: Splitting | None = None
    head_after: float = 0.0
    finish: Finish | None = None
    says_finish: bool = True
    says_done: bool = True
    content_type: str | None = None
    empty: bool = False

    @property
    def calls(self) -> bool:
        """Whether a tool is called."""
        return any(isinstance(action, Tool) for action in self.actions)

    @property
    def end(self) -> End | None:
        """What ends it otherwise than well."""
        last = self.actions[-1] if self.actions else None
        return last if isinstance(last, FAILURES) else None

    @property
    def headless(self) -> bool:
        """Whether its end comes instead of the head."""
        end = self.end
        return isinstance(end, Status | Html) or (
            isinstance(end, Cut | Stall) and end.where == "head"
        )


@dataclass(frozen=True, slots=True)
class Script:
    """A whole script. Two are equal if they do the same, however they are written."""

    turns: tuple[Turn, ...]
    tag: str | None = None
    everywhere: bool = False
    source: str = field(default="", compare=False)


class ScriptError(Exception):
    """A script that can't be read: where, what was found and what was expected.

    `cut_short` is whether only its end is missing; `source` is the script as far as it was read.
    """

    def __init__(self, message: str, *, source: str, cut_short: bool = False) -> None:
        super().__init__(message)
        self.source = source
        self.cut_short = cut_short
