"""Say what an event log is: append-only, each run numbered from 1 without holes, many readers.

1. Append before send: a reader only ever sees what the log holds.
2. Whoever produces a run holds a lease on it. A run whose producer let its lease expire is ended by
   whoever finds out, once, with the producers' last words.
3. The retention starts when a run is closed. Behind it the events go, and only the fact that there
   was such a run is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REMEMBERED = 10
"""An expired run is told apart from an unknown one for this many retentions."""

Said: TypeAlias = "tuple[str, Mapping[str, Any]]"
"""An event that has no number yet: its type and its payload."""


class UnknownRun(LookupError):
    """No such run, or one forgotten."""


class LogFull(RuntimeError):
    """The log's bound is reached; new runs must wait."""


class RunLost(RuntimeError):
    """The run is over, or another producer holds it: nothing more can be appended to it."""


class LogUnavailable(RuntimeError):
    """The log cannot be reached now, or the producer of a run cannot."""


class LogError(ValueError):
    """There is no such log, or it is no log of ours; the text is one sentence for a user."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored event."""

    run: str
    seq: int
    type: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunState:
    """What the log knows of a run: stored are `first` to `last`; `first` > `last`: nothing."""

    owner: str
    first: int
    last: int
    closed: bool
    expired: bool


class Producing(Protocol):
    """What a log is told of the process that appends to it."""

    @property
    def last_words(self) -> Sequence[Said]:
        """What ends a run whose producer died."""

    def lost(self, run_id: str) -> None:
        """Hear that a run of this process was ended by another."""

    def answer(self, run_id: str, request_id: str, text: str) -> bool:
        """Give a waiting run of this process its answer; False when it waits for no such one."""


class EventLog(Protocol):
    """Where events are kept.

    Every method that names a run raises UnknownRun for one it does not know, and LogUnavailable
    when the log cannot be reached.
    """

    volatile: bool
    """Whether a restart loses everything; said in every response head."""
    lag: float
    """Seconds this replica may be behind another; 0 where it sees every append at once."""
    run_bytes: int
    """About how many bytes of a run are kept, the newest ones; said in every response head."""
    secret: bytes | None
    """What all processes on this log sign with; None: each for itself."""

    async def open(self, producing: Producing) -> None:
        """Begin to use the log; raises LogError where that cannot be."""

    async def stop(self) -> None:
        """End using the log; what is still open of this process's runs is left to others."""

    async def create(self, run: str, owner: str, key: str | None) -> str:
        """Make the run and return its id, or the id of the run that has the owner's key.

        This process holds the lease of a run that was made. Raises LogFull.
        """

    async def append(
        self, run: str, kind: str, payload: Mapping[str, Any], *, ahead: bool = False
    ) -> Entry:
        """Store one event of a run of this process under the next number; raises RunLost.

        `ahead`: do not wait until it is stored, as long as not too many others are waited for.
        """

    async def close(
        self, run: str, retention: float | None = None, last: Sequence[Said] = ()
    ) -> None:
        """Store the last events and say that nothing follows, in one step.

        The retention starts, or a shorter one for this run. Raises RunLost.
        """

    async def end(self, run: str, last: Sequence[Said]) -> bool:
        """Close a run of any process with these events; False when it is over already."""

    async def answer(self, run: str, request_id: str, text: str) -> bool:
        """Carry an answer to the process that produces the run; return what its `answer` does."""

    def elsewhere(self, run: str) -> bool:
        """Tell whether, while it is not closed, another process may be producing the run."""

    async def state(self, run: str) -> RunState:
        """Return what is known of the run, an expired one too; end it when its producer died."""

    async def read(self, run: str, after: int, limit: int) -> list[Entry]:
        """Return the first `limit` entries behind `after`."""

    async def wait(self, run: str, after: int, seconds: float | None) -> bool:
        """Wait for an entry behind `after` or the close; False: the seconds went by."""
