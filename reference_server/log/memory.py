"""Keep events in this process's memory: the volatile log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_server.log.event_log import REMEMBERED, Entry, LogFull, RunLost, RunState, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reference_server.log.event_log import Producing, Said


@dataclass(slots=True)
class _Record:
    owner: str
    key: str | None
    entries: list[Entry] = field(default_factory=list)
    last: int = 0
    size: int = 0
    closed: bool = False
    expired: bool = False
    pulse: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        self.pulse.set()
        self.pulse = asyncio.Event()


class MemoryLog:
    """An event log in this process's memory: volatile, and bounded.

    A run keeps its newest `run_bytes`; what is trimmed is gone (410). The log as a whole takes no
    new run above `max_runs` or `max_bytes` (503) until a retention ends.
    """

    volatile = True
    lag = 0.0
    secret: bytes | None = None

    def __init__(
        self,
        *,
        retention: float = 60.0,
        max_runs: int = 10_000,
        max_bytes: int = 512 * 2**20,
        run_bytes: int = 32 * 2**20,
    ) -> None:
        self.run_bytes = run_bytes
        self._retention = retention
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._records: dict[str, _Record] = {}
        self._keys: dict[tuple[str, str], str] = {}
        self._size = 0
        self._kept = 0

    async def open(self, producing: Producing) -> None:
        """Nothing needs to be opened."""

    async def stop(self) -> None:
        """Nothing needs to be stopped: what is kept ends with the process."""

    async def create(self, run: str, owner: str, key: str | None) -> str:
        if key is not None:
            holder = self._keys.get((owner, key))
            if holder is not None:
                return holder
        if self._kept >= self._max_runs or self._size >= self._max_bytes:
            raise LogFull
        if key is not None:
            self._keys[owner, key] = run
        self._records[run] = _Record(owner, key)
        self._kept += 1
        return run

    async def append(
        self, run: str, kind: str, payload: Mapping[str, Any], *, ahead: bool = False
    ) -> Entry:
        record = self._record(run)
        if record.closed:
            raise RunLost(f"run {run} is closed, {kind} cannot be appended")
        record.last += 1
        entry = Entry(run, record.last, kind, payload)
        record.entries.append(entry)
        self._grow(record, _size(entry))
        if record.size > self.run_bytes:
            self._trim(record)
        record.wake()
        return entry

    async def close(
        self, run: str, retention: float | None = None, last: Sequence[Said] = ()
    ) -> None:
        for kind, payload in last:
            await self.append(run, kind, payload)
        record = self._record(run)
        if record.closed:
            return
        record.closed = True
        record.wake()
        loop = asyncio.get_running_loop()
        kept = self._retention if retention is None else min(retention, self._retention)
        loop.call_later(kept, self._expire, run)
        loop.call_later(kept + self._retention * REMEMBERED, self._forget, run)

    async def end(self, run: str, last: Sequence[Said]) -> bool:
        if self._record(run).closed:
            return False
        await self.close(run, last=last)
        return True

    async def answer(self, run: str, request_id: str, text: str) -> bool:
        return False

    def elsewhere(self, run: str) -> bool:
        return False

    async def state(self, run: str) -> RunState:
        record = self._record(run)
        first = record.entries[0].seq if record.entries else record.last + 1
        return RunState(record.owner, first, record.last, record.closed, record.expired)

    async def read(self, run: str, after: int, limit: int) -> list[Entry]:
        record = self._record(run)
        skip = max(0, after - record.last + len(record.entries))
        return record.entries[skip : skip + limit]

    async def wait(self, run: str, after: int, seconds: float | None) -> bool:
        record = self._record(run)
        if record.last > after or record.closed:
            return True
        try:
            async with asyncio.timeout(seconds):
                await record.pulse.wait()
        except TimeoutError:
            return False
        return True

    def _record(self, run: str) -> _Record:
        try:
            return self._records[run]
        except KeyError:
            raise UnknownRun(run) from None

    def _grow(self, record: _Record, size: int) -> None:
        record.size += size
        self._size += size

    def _trim(self, record: _Record) -> None:
        """Drop the oldest eighth at once, so that a long run does not pay for each event."""
        gone = max(1, len(record.entries) // 8)
        self._grow(record, -sum(map(_size, record.entries[:gone])))
        del record.entries[:gone]

    def _expire(self, run: str) -> None:
        record = self._records[run]
        record.expired = True
        record.entries = []
        self._grow(record, -record.size)
        self._kept -= 1

    def _forget(self, run: str) -> None:
        record = self._records.pop(run)
        if record.key is not None:
            del self._keys[record.owner, record.key]


def _size(entry: Entry) -> int:
    """Estimate what an entry costs: its texts, and some 500 bytes of objects around them."""
    return 500 + sum(len(value) for value in entry.payload.values() if isinstance(value, str))
