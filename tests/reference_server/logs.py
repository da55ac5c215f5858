"""Logs of every kind for the tests of the log, and two of them on one store."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from reference_server.log import EventLog, MemoryLog
from reference_server.log.durable import DurableLog
from reference_server.log.opening import store
from reference_server.log.store import Bounds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from reference_server.log import Said

PATIENCE = 10.0
LAST_WORDS: Sequence[Said] = (
    ("error", {"error_type": "producer_lost", "message": "It died.", "retryable": True}),
    ("done", {"status": "error"}),
)


class Process:
    """What a log is told of the process that appends to it: here it only takes notes."""

    def __init__(self, takes: str | None = None) -> None:
        self.last_words = LAST_WORDS
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.answers: list[str] = []
        self._takes = takes

    def lost(self, run_id: str) -> None:
        """Note a run that was ended elsewhere."""
        self.ended.put_nowait(run_id)

    def answer(self, run_id: str, request_id: str, text: str) -> bool:
        """Take the first answer to one request."""
        taken = request_id == self._takes
        if taken:
            self.answers.append(text)
            self._takes = None
        return taken


class Logs:
    """Make logs on one place, and stop them with the test."""

    def __init__(self, name: str, stack: AsyncExitStack) -> None:
        self.name = name
        self._stack = stack

    async def __call__(
        self,
        *,
        process: Process | None = None,
        lease: float = 5.0,
        run_bytes: int = 2**20,
        kind: type[DurableLog] = DurableLog,
        **bounds: Any,
    ) -> EventLog:
        """Open a log; another call opens another on the same store."""
        log: EventLog
        if self.name == "memory":
            log = MemoryLog(run_bytes=run_bytes, **bounds)
        else:
            kept = Bounds(remember=10 * bounds.get("retention", 60.0), **bounds)
            log = kind(store(self.name, kept), kept, lease=lease, run_bytes=run_bytes)
        await log.open(process or Process())
        self._stack.push_async_callback(log.stop)
        return log

    async def durable(self, **options: Any) -> DurableLog:
        """Open a log that outlives its process."""
        log = await self(**options)
        assert isinstance(log, DurableLog)
        return log


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Logs]:
    """Yield a maker of logs of this name."""
    async with AsyncExitStack() as stack:
        yield Logs(name, stack)


def run(name: str, test: Callable[[Logs], Coroutine[Any, Any, None]]) -> None:
    """Run a test with logs of this name, within bounds."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE), opened(name) as logs:
            await test(logs)

    asyncio.run(bounded())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Poll for what only the passing of time brings about; `run` bounds it."""
    while True:
        if await true():
            return
        await asyncio.sleep(0.005)


async def whole(log: EventLog, run_id: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Read a run to its close: number, type and payload of each event."""
    read: list[tuple[int, str, dict[str, Any]]] = []
    while True:
        state = await log.state(run_id)
        entries = await log.read(run_id, len(read), 100)
        read += [(entry.seq, entry.type, dict(entry.payload)) for entry in entries]
        if state.closed and len(read) >= state.last:
            return read
        await log.wait(run_id, len(read), 1.0)
