"""Keep the newest events of the runs that this process produces, for the readers beside it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from reference_server.log.event_log import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reference_server.log.event_log import Entry

KEPT = 256
"""Entries of a run that are kept in memory; older ones are read from the store."""
KEPT_BYTES = 64 * 2**10


class Tail:
    """One run of this process: what it has given numbers to, and what of it is stored."""

    def __init__(self, owner: str, producer: int) -> None:
        self.owner = owner
        self.producer = producer
        self.given = 0
        """The last number given to an event, stored or not."""
        self.last = 0
        """The last number that is stored: nobody is told of a later one."""
        self.first = 1
        self.closing = False
        self.closed = False
        self.sizes: deque[int] = deque()
        """The sizes of the events that the store keeps, oldest first."""
        self.size = 0
        self._entries: deque[tuple[Entry, int]] = deque()
        self._bytes = 0
        self._pulse: asyncio.Event | None = None

    @property
    def state(self) -> RunState:
        """What is known of the run; it cannot have expired as long as this is kept."""
        return RunState(self.owner, self.first, self.last, self.closed, expired=False)

    def grow(self, sizes: Iterable[int], bound: int) -> int:
        """Note what is going to be stored; return the last number that has to go, 0: none."""
        for size in sizes:
            self.sizes.append(size)
            self.size += size
        before = len(self.sizes)
        while self.size > bound and len(self.sizes) > 1:  # the newest stays
            # an eighth at once, so that a long run does not pay for each event
            for _ in range(max(1, len(self.sizes) // 8)):
                self.size -= self.sizes.popleft()
        return self.given - len(self.sizes) if len(self.sizes) < before else 0

    def publish(
        self, entries: Iterable[Entry], sizes: Iterable[int], trimmed: int, *, closed: bool
    ) -> None:
        """Tell of what is stored now, and wake who waits."""
        for entry, size in zip(entries, sizes, strict=True):
            self._entries.append((entry, size))
            self._bytes += size
            self.last = entry.seq
        while len(self._entries) > KEPT or (self._bytes > KEPT_BYTES and len(self._entries) > 1):
            self._bytes -= self._entries.popleft()[1]
        if trimmed:
            self.first = trimmed + 1
        self.closed = closed
        self.wake()

    def read(self, after: int, limit: int) -> list[Entry] | None:
        """Return entries behind `after`; None: the store has to be asked."""
        if after >= self.last:
            return []
        oldest = self._entries[0][0].seq
        if after + 1 < oldest:
            return None
        skip = after + 1 - oldest
        until = min(len(self._entries), skip + limit)
        return [self._entries[index][0] for index in range(skip, until)]

    def wake(self) -> None:
        """Let everybody look again."""
        if self._pulse is not None:
            self._pulse.set()
            self._pulse = None

    async def woken(self) -> None:
        """Wait for the next `wake`."""
        if self._pulse is None:
            self._pulse = asyncio.Event()
        await self._pulse.wait()
