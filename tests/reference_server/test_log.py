"""Every log by itself, in memory, in SQLite, in Redis: numbering, waiting, bounds, expiry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from reference_server.log import LogFull, RunLost, UnknownRun
from tests.reference_server.logs import run, until, whole

if TYPE_CHECKING:
    from tests.reference_server.logs import Logs


def test_entries_are_numbered_and_read_behind_a_cursor(any_log: str) -> None:
    """Numbers start at 1; reading is by what is behind a number, so many at a time."""

    async def test(logs: Logs) -> None:
        log = await logs()
        await log.create("run", "alice", None)
        appended = [await log.append("run", "token", {"text": text}) for text in "abc"]

        assert [entry.seq for entry in appended] == [1, 2, 3]
        assert await log.read("run", 0, 2) == appended[:2]
        assert [entry.payload["text"] for entry in await log.read("run", 1, 9)] == ["b", "c"]
        assert await log.read("run", 3, 9) == []
        assert await log.read("run", 7, 9) == []

    run(any_log, test)


def test_what_is_read_is_what_was_said(any_log: str) -> None:
    """Payloads come back as they were: every kind of value, any text, in their order."""

    async def test(logs: Logs) -> None:
        log = await logs()
        payload = {"z": "é\u2028\x00\ud800 \\u0041", "a": [1, 1.5, True, None, {"k": ""}], "n": 1.0}
        await log.create("run", "alice", None)
        await log.append("run", "creation", payload)
        await log.close("run", None, [("done", {"status": "completed"})])

        (_, kind, read), _ = await whole(log, "run")
        assert (kind, read) == ("creation", payload)
        assert list(read) == list(payload)

    run(any_log, test)


def test_what_is_stored_can_be_read_long_after(any_log: str) -> None:
    """A run longer than what is kept in memory of it is read back whole, from any place."""

    async def test(logs: Logs) -> None:
        log = await logs()
        await log.create("run", "alice", None)
        for number in range(1, 601):
            await log.append("run", "token", {"text": str(number)})

        for after in (0, 17, 599):
            read = await log.read("run", after, 1000)
            assert [entry.payload["text"] for entry in read] == [
                str(number) for number in range(after + 1, 601)
            ]

    run(any_log, test)


def test_many_runs_are_appended_to_at_once(any_log: str) -> None:
    """Appends of many runs do not mix, and each run's are in their order."""

    async def test(logs: Logs) -> None:
        log = await logs()

        async def one(name: str) -> None:
            await log.create(name, "alice", None)
            for number in range(40):
                await log.append(name, "token", {"text": f"{name} {number}"})
            await log.close(name)

        names = [f"run-{number}" for number in range(30)]
        await asyncio.gather(*map(one, names))
        for name in names:
            read = await whole(log, name)
            assert [seq for seq, _, _ in read] == list(range(1, 41))
            assert [text["text"] for _, _, text in read] == [f"{name} {n}" for n in range(40)]

    run(any_log, test)


def test_wait_wakes_every_waiter(any_log: str) -> None:
    """An append and the close wake all who wait; a time-out says False."""

    async def test(logs: Logs) -> None:
        log = await logs()
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

    run(any_log, test)


def test_a_key_names_one_run_for_each_owner(any_log: str) -> None:
    """The same owner and key give the run that has them; another owner's key is another's."""

    async def test(logs: Logs) -> None:
        log = await logs()
        assert await log.create("one", "alice", "key") == "one"
        assert await log.create("two", "alice", "key") == "one"
        assert await log.create("three", "bob", "key") == "three"
        with pytest.raises(UnknownRun):
            await log.state("two")
        with pytest.raises(UnknownRun):
            await log.append("two", "token", {})

    run(any_log, test)


def test_a_closed_run_takes_nothing_more(any_log: str) -> None:
    """Nothing is appended behind the close, and closing again changes nothing."""

    async def test(logs: Logs) -> None:
        log = await logs()
        await log.create("run", "alice", None)
        await log.close("run", None, [("error", {"retryable": True}), ("done", {})])
        with pytest.raises(RunLost, match="closed"):
            await log.append("run", "token", {})
        await log.close("run")
        assert await log.end("run", [("done", {})]) is False
        assert [kind for _, kind, _ in await whole(log, "run")] == ["error", "done"]

    run(any_log, test)


def test_a_run_can_be_ended_from_outside(any_log: str) -> None:
    """Whoever ends an open run first does it, with its events and the close in one step."""

    async def test(logs: Logs) -> None:
        log = await logs()
        await log.create("run", "alice", None)
        await log.append("run", "token", {"text": "a"})
        ends = [log.end("run", [("done", {"status": name})]) for name in ("one", "other")]
        assert sorted(await asyncio.gather(*ends)) == [False, True]
        assert [kind for _, kind, _ in await whole(log, "run")] == ["token", "done"]
        with pytest.raises(RunLost):
            await log.append("run", "token", {})

    run(any_log, test)


def test_a_run_keeps_its_newest_bytes(any_log: str) -> None:
    """Above its bound a run loses its oldest entries, and says which are left."""

    async def test(logs: Logs) -> None:
        log = await logs(run_bytes=20_000)
        await log.create("run", "alice", None)
        for _ in range(200):
            await log.append("run", "token", {"text": "x" * 500})

        state = await log.state("run")
        kept = await log.read("run", state.first - 1, 1000)
        assert state.last == 200
        assert [entry.seq for entry in kept] == list(range(state.first, 201))
        assert 5_000 < sum(len(entry.payload["text"]) for entry in kept) <= 20_000

    run(any_log, test)


def test_the_log_is_bounded_and_frees_itself(any_log: str) -> None:
    """A full log takes no run until a retention ends; then the key goes with the run."""

    async def test(logs: Logs) -> None:
        log = await logs(retention=0.05, max_runs=1)

        async def expired() -> bool:
            return (await log.state("one")).expired

        async def forgotten() -> bool:
            return await log.create("three", "alice", "key") == "three"

        await log.create("one", "alice", "key")
        await log.append("one", "token", {"text": "x"})
        with pytest.raises(LogFull):
            await log.create("two", "alice", None)
        await log.close("one")
        await until(expired)
        assert (await log.state("one")).last == 1
        assert (await log.state("one")).first == 2
        assert await log.read("one", 1, 9) == []
        assert await log.create("one again", "alice", "key") == "one"
        await until(forgotten)
        with pytest.raises(UnknownRun):
            await log.state("one")

    run(any_log, test)


def test_the_log_is_bounded_in_bytes(any_log: str) -> None:
    """Above its bytes a log takes no new run; what is appended to old ones is still kept."""

    async def test(logs: Logs) -> None:
        log = await logs(retention=0.05, max_bytes=5_000)
        await log.create("one", "alice", None)
        for _ in range(6):
            await log.append("one", "token", {"text": "x" * 1_000})
        with pytest.raises(LogFull):
            await log.create("two", "alice", None)
        await log.close("one")

        async def freed() -> bool:
            try:
                return await log.create("two", "alice", None) == "two"
            except LogFull:
                return False

        await until(freed)

    run(any_log, test)


def test_a_run_can_be_kept_for_less(any_log: str) -> None:
    """A retention of its own ends a run's events sooner, never later."""

    async def test(logs: Logs) -> None:
        log = await logs(retention=30.0)
        await log.create("run", "alice", None)
        await log.close("run", 0.05, [("done", {})])

        async def expired() -> bool:
            return (await log.state("run")).expired

        await until(expired)

    run(any_log, test)
