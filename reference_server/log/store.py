"""Say what a durable log asks of whatever stores it: a few transactions, each all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_server.log.event_log import RunState

OVERHEAD = 100
"""Bytes that a stored event is taken to cost beside its payload."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store keeps: seconds and counts of all processes together."""

    retention: float = 60.0
    remember: float = 600.0
    """Seconds behind the retention for which an expired run is told apart from an unknown one."""
    max_runs: int = 10_000
    max_bytes: int = 512 * 2**20


class Step(NamedTuple):
    """What is appended to one run at once: numbers `first`, `first` + 1, …"""

    run: str
    first: int
    said: Sequence[tuple[str, str]]
    """Type and payload of each, the payload as ASCII JSON."""
    size: int
    """Bytes, as `OVERHEAD` counts them, less those of what is trimmed."""
    trim: int = 0
    """The last number that is no longer kept; 0: nothing is trimmed."""
    retention: float | None = None
    """Not None: nothing follows, and the run is kept for so many seconds."""

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.first + len(self.said) - 1


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of a run."""

    state: RunState
    abandoned: bool
    """Whether it is not closed and its producer's lease has expired."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What another process has to say about a run of this one."""

    number: str
    run: str
    request_id: str | None
    """None: the run was ended."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last look."""

    grown: Sequence[str] = ()
    """Runs that have got events, or were closed."""
    letters: Sequence[Letter] = field(default=())


class Store(Protocol):
    """Where a durable log stores; every method raises LogUnavailable.

    `producer` is the fencing number of a lease: no two leases have the same, and of a run only the
    lease that its row names can append.
    """

    name: str
    """How an error names it, without credentials."""
    limit: int
    """How many steps one commit takes at most."""

    async def open(self) -> bytes:
        """Connect and return the secret that all processes share; raises LogError."""

    async def stop(self) -> None:
        """Disconnect."""

    async def register(self, lease: float) -> int:
        """Take a lease for so many seconds and return its number."""

    async def renew(self, producer: int, lease: float) -> bool:
        """Make a lease last that many seconds from now; False: there is no such lease."""

    async def release(self, producer: int) -> None:
        """Let a lease expire now."""

    async def create(self, run: str, owner: str, key: str | None, producer: int) -> str:
        """Make a run; return it, or the one that has the key. Raises LogFull."""

    async def commit(self, producer: int, steps: Sequence[Step]) -> set[str]:
        """Store the steps of the open runs that the lease holds; return the other runs."""

    async def end(self, run: str, said: Sequence[tuple[str, str]], *, if_abandoned: bool) -> bool:
        """Close a run that is open (and abandoned), whoever holds it, and write to its holder.

        Return whether it was. Raises UnknownRun.
        """

    async def state(self, run: str) -> Stored:
        """Return what is stored; raises UnknownRun."""

    async def read(self, run: str, after: int, limit: int) -> list[tuple[int, str, str]]:
        """Return number, type and payload of the first `limit` events behind `after`."""

    async def abandoned(self) -> Sequence[str]:
        """Return some open runs whose producer's lease has expired."""

    async def sweep(self) -> None:
        """Free what is no longer kept."""

    async def news(self, producer: int | None, waiting: Mapping[str, int]) -> News:
        """Wait a moment for news of the runs that are waited for behind a number, and letters."""

    async def post(self, run: str, request_id: str, text: str) -> str | None:
        """Write to the holder of an open run; return the letter's number, None: it is over."""

    async def reply(self, letter: Letter, answer: bool) -> None:
        """Answer a letter."""

    async def replied(self, letter: str) -> bool | None:
        """Return the answer to a letter, None: there is none yet."""
