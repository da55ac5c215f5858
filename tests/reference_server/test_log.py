"""The memory log by itself: numbering, waiting, bounds, expiry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from reference_server.log import LogFull, MemoryLog, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def _run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await test

    asyncio.run(bounded())


async def _until(true: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Poll for what only a timer of the log brings about; `_run` bounds it."""
    while True:
        if await true():
            return
        await asyncio.sleep(0.005)


def test_entries_are_numbered_and_read_behind_a_cursor() -> None:
    """Numbers start at 1; reading is by what is behind a number, so many at a time."""

    async def test() -> None:
        log = MemoryLog()
        await log.create("run", "alice", None)
        for text in "abc":
            await log.append("run", "token", {"text": text})

        assert [entry.seq for entry in await log.read("run", 0, 2)] == [1, 2]
        assert [entry.payload["text"] for entry in await log.read("run", 1, 9)] == ["b", "c"]
        assert await log.read("run", 3, 9) == []
        assert await log.read("run", 7, 9) == []

    _run(test())


def test_wait_wakes_every_waiter() -> None:
    """An append and the close wake all who wait; a time-out says False."""

    async def test() -> None:
        log = MemoryLog()
        await log.create("run", "alice", None)
        assert await log.wait("run", 0, 0.01) is False
        waiting = [asyncio.create_task(log.wait("run", 0, None)) for _ in range(3)]
        await asyncio.sleep(0)
        await log.append("run", "token", {"text": "a"})
        assert await asyncio.gather(*waiting) == [True] * 3
        last = asyncio.create_task(log.wait("run", 1, None))
        await asyncio.sleep(0)
        await log.close("run")
        assert await last is True

    _run(test())


def test_a_key_names_one_run_for_each_owner() -> None:
    """The same owner and key give the run that has them; another owner's key is another's."""

    async def test() -> None:
        log = MemoryLog()
        assert await log.create("one", "alice", "key") == "one"
        assert await log.create("two", "alice", "key") == "one"
        assert await log.create("three", "bob", "key") == "three"
        with pytest.raises(UnknownRun):
            await log.state("two")

    _run(test())


def test_a_closed_run_takes_nothing_more() -> None:
    """Nothing is appended behind the close."""

    async def test() -> None:
        log = MemoryLog()
        await log.create("run", "alice", None)
        await log.close("run")
        with pytest.raises(RuntimeError, match="closed"):
            await log.append("run", "token", {})

    _run(test())


def test_a_run_keeps_its_newest_bytes() -> None:
    """Above its bound a run loses its oldest entries, and says which are left."""

    async def test() -> None:
        log = MemoryLog(run_bytes=20_000)
        await log.create("run", "alice", None)
        for _ in range(200):
            await log.append("run", "token", {"text": "x" * 500})

        state = await log.state("run")
        kept = await log.read("run", state.first - 1, 1000)
        assert state.last == 200
        assert [entry.seq for entry in kept] == list(range(state.first, 201))
        assert 10 < len(kept) <= 20

    _run(test())


def test_the_log_is_bounded_and_frees_itself() -> None:
    """A full log takes no run until a retention ends; then the key goes with the run."""

    async def test() -> None:
        log = MemoryLog(retention=0.02, max_runs=1)

        async def expired() -> bool:
            return (await log.state("one")).expired

        async def forgotten() -> bool:
            return await log.create("three", "alice", "key") == "three"

        await log.create("one", "alice", "key")
        await log.append("one", "token", {"text": "x"})
        with pytest.raises(LogFull):
            await log.create("two", "alice", None)
        await log.close("one")
        await _until(expired)
        assert (await log.state("one")).last == 1
        assert await log.read("one", 0, 9) == []
        assert await log.create("one again", "alice", "key") == "one"
        await _until(forgotten)
        with pytest.raises(UnknownRun):
            await log.state("one")

    _run(test())
