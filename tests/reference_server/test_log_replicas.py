"""Logs that several processes share: leases, fencing, readers elsewhere, letters."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from reference_server.log import LogUnavailable, RunLost
from reference_server.log.sqlite import SqliteStore
from reference_server.log.store import Bounds
from tests.reference_server.logs import LAST_WORDS, Process, run, until, whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reference_server.log.store import Step
    from tests.reference_server.logs import Logs

SHORT = 0.5
"""Seconds of a lease that a test lets expire, which a busy machine keeps until then."""
LONG = 1.5
"""Seconds of a lease that a busy machine renews in time."""
RACES = 300


def test_another_process_reads_as_it_is_written(durable_log: str) -> None:
    """A reader elsewhere is woken by each append and by the close, and sees every event."""

    async def test(logs: Logs) -> None:
        one, other = await logs(), await logs()
        await one.create("run", "alice", None)
        reading = asyncio.create_task(whole(other, "run"))
        for number in range(20):
            await one.append("run", "token", {"text": str(number)})
            assert await other.wait("run", number, 5.0) is True
            assert (await other.state("run")).last == number + 1
        assert other.elsewhere("run")
        assert not one.elsewhere("run")
        await one.close("run", None, [("done", {})])
        assert len(await reading) == 21
        assert await other.wait("run", 21, 0.01) is True

    run(durable_log, test)


def test_several_begin_at_once(durable_log: str) -> None:
    """Processes that open a new log at the same moment make it once, and each gets a lease."""

    async def test(logs: Logs) -> None:
        opened = await asyncio.gather(*(logs() for _ in range(5)))
        assert len({log.secret for log in opened}) == 1
        for number, log in enumerate(opened):
            await log.create(f"run-{number}", "alice", None)
            await log.append(f"run-{number}", "token", {})
            assert [(await each.state(f"run-{number}")).last for each in opened] == [1] * 5

    run(durable_log, test)


def test_many_processes_open_a_new_file(tmp_path: Path) -> None:
    """Processes that race for a new SQLite file all open it, whoever of them makes it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        for number in range(25):
            path = str(tmp_path / f"{number}.sqlite")
            secrets = list(pool.map(secret_of, [path] * 4))
            assert len(set(secrets)) == 1


def secret_of(path: str) -> bytes:
    """Open the log in that file, and return the secret that its processes share."""

    async def opened() -> bytes:
        log = SqliteStore(path, Bounds())
        try:
            return await log.open()
        finally:
            await log.stop()

    return asyncio.run(opened())


def test_keys_and_the_secret_are_shared(durable_log: str) -> None:
    """Processes on one log join each other's runs, and sign with one secret."""

    async def test(logs: Logs) -> None:
        one, other = await logs(), await logs()
        assert await one.create("run", "alice", "key") == "run"
        assert await other.create("again", "alice", "key") == "run"
        assert one.secret == other.secret
        assert one.secret is not None
        assert len(one.secret) == 32

    run(durable_log, test)


def test_nothing_is_told_before_it_is_stored(durable_log: str) -> None:
    """A reader beside the producer hears of an event only when its commit is done."""

    async def test(logs: Logs) -> None:
        log = await logs.durable()
        going, done = asyncio.Event(), asyncio.Event()
        commit = log.store.commit

        async def slow(producer: int, steps: Sequence[Step]) -> set[str]:
            lost = await commit(producer, steps)
            done.set()
            await going.wait()
            return lost

        await log.create("run", "alice", None)
        log.store.commit = slow  # type: ignore[method-assign]
        appending = asyncio.create_task(log.append("run", "token", {"text": "a"}))
        await done.wait()
        assert (await log.state("run")).last == 0
        assert await log.read("run", 0, 9) == []
        going.set()
        await appending
        assert (await log.state("run")).last == 1

    run(durable_log, test)


def test_what_comes_meanwhile_is_committed_together(durable_log: str) -> None:
    """While a commit is under way the others gather, and the next one takes them all."""

    async def test(logs: Logs) -> None:
        log = await logs.durable()
        sizes = []
        begun = asyncio.Event()
        commit = log.store.commit

        async def counted(producer: int, steps: Sequence[Step]) -> set[str]:
            sizes.append(len(steps))
            begun.set()
            return await commit(producer, steps)

        for number in range(50):
            await log.create(f"run-{number}", "alice", None)
        log.store.commit = counted  # type: ignore[method-assign]
        first = asyncio.create_task(log.append("run-0", "token", {}))
        await begun.wait()
        await asyncio.gather(*(log.append(f"run-{n}", "token", {}) for n in range(1, 50)), first)
        assert sizes == [1, 49]

    run(durable_log, test)


def test_a_dead_producers_run_is_ended_by_who_finds_it(durable_log: str) -> None:
    """A reader elsewhere gets all events, then the last words, once the lease has expired."""

    async def test(logs: Logs) -> None:
        dead, other = await logs.durable(lease=SHORT), await logs(lease=SHORT)
        await dead.create("run", "alice", None)
        await dead.append("run", "token", {"text": "a"})
        reading = asyncio.create_task(whole(other, "run"))
        await dead.cease()
        assert [kind for _, kind, _ in await reading] == ["token", "error", "done"]
        assert [(seq, said) for seq, *said in await whole(other, "run")][1:] == [
            (2, list(LAST_WORDS[0])),
            (3, list(LAST_WORDS[1])),
        ]

    run(durable_log, test)


def test_a_living_producers_run_is_not_ended(durable_log: str) -> None:
    """A lease that is renewed keeps a silent run open, for several times its length."""

    async def test(logs: Logs) -> None:
        one, other = await logs(lease=LONG), await logs(lease=LONG)
        await one.create("run", "alice", None)
        assert await other.wait("run", 0, LONG * 3) is False
        assert not (await other.state("run")).closed
        await one.append("run", "token", {})

    run(durable_log, test)


def test_a_restarted_process_ends_what_it_finds(durable_log: str) -> None:
    """Runs that nobody reads are ended as well, by any process on the log."""

    async def test(logs: Logs) -> None:
        dead = await logs.durable(lease=SHORT)
        for number in range(5):
            await dead.create(f"run-{number}", "alice", None)
        await dead.cease()
        restarted = await logs.durable(lease=SHORT)

        async def ended() -> bool:
            states = [await restarted.store.state(f"run-{number}") for number in range(5)]
            return all(stored.state.closed for stored in states)

        await until(ended)

    run(durable_log, test)


def test_a_producer_that_was_given_up_is_fenced(durable_log: str) -> None:
    """Who comes back behind its lease can append nothing more, and hears that its run was ended."""

    async def test(logs: Logs) -> None:
        process = Process()
        stopped, other = await logs.durable(lease=SHORT, process=process), await logs(lease=SHORT)
        await stopped.create("run", "alice", None)
        await stopped.append("run", "token", {"text": "a"})
        for task in stopped._tasks[1:]:
            task.cancel()  # it can still commit, but neither renews its lease nor hears
        assert len(await whole(other, "run")) == 3
        with pytest.raises(RunLost):
            await stopped.append("run", "token", {"text": "late"})
        assert await process.ended.get() == "run"
        assert [kind for _, kind, _ in await whole(stopped, "run")] == ["token", "error", "done"]

    run(durable_log, test)


def test_a_run_is_cancelled_from_elsewhere(durable_log: str) -> None:
    """Its producer hears of it even while its agent is silent, and so do the readers there."""

    async def test(logs: Logs) -> None:
        process = Process()
        one, other = await logs(process=process), await logs()
        await one.create("run", "alice", None)
        reading = asyncio.create_task(whole(one, "run"))
        assert await other.end("run", [("done", {"status": "cancelled"})]) is True
        assert await process.ended.get() == "run"
        assert await reading == [(1, "done", {"status": "cancelled"})]
        assert await other.end("run", [("done", {"status": "cancelled"})]) is False

    run(durable_log, test)


def test_a_run_is_answered_from_elsewhere(durable_log: str) -> None:
    """An answer reaches the producer, and its yes or no comes back; a run that is over says no."""

    async def test(logs: Logs) -> None:
        process = Process(takes="input-1")
        one, other = await logs(process=process), await logs()
        await one.create("run", "alice", None)
        assert await other.answer("run", "input-2", "?") is False
        assert await other.answer("run", "input-1", "yes") is True
        assert await other.answer("run", "input-1", "again") is False
        assert process.answers == ["yes"]
        await one.close("run")
        assert await other.answer("run", "input-1", "late") is False

    run(durable_log, test)


def test_nobody_answers_for_a_dead_producer(
    durable_log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that nobody takes is said to have reached nobody."""
    monkeypatch.setattr("reference_server.log.durable.REPLY", 0.1)

    async def test(logs: Logs) -> None:
        dead, other = await logs.durable(lease=SHORT), await logs(lease=60.0)
        await dead.create("run", "alice", None)
        await dead.cease()
        with pytest.raises(LogUnavailable, match="does not answer"):
            await other.answer("run", "input-1", "hello?")

    run(durable_log, test)


def _line(racer: subprocess.Popen[str]) -> str:
    assert racer.stdout is not None
    return racer.stdout.readline()


def _round(racers: Sequence[subprocess.Popen[str]], runs: Sequence[str]) -> list[int]:
    """Let all racers try to end the same runs; return how many each did."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(" ".join(runs) + "\n")
        racer.stdin.flush()
    return [int(_line(racer)) for racer in racers]


def test_two_processes_never_both_end_a_run(durable_log: str) -> None:
    """Two processes race to end hundreds of abandoned runs: each is ended once."""
    names = [f"run-{number}" for number in range(RACES)]

    async def prepare(logs: Logs) -> None:
        log = await logs.durable()
        await log.store.release(await log.store.register(1.0))
        for name in names:
            await log.create(name, "alice", None)
            await log.append(name, "token", {"text": "a"})

    run(durable_log, prepare)
    command = [sys.executable, "-m", "tests.reference_server.racing", durable_log]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as two,
    ):
        assert [_line(racer) for racer in (one, two)] == ["ready\n"] * 2
        rounds = [
            _round((one, two) if start % 20 else (two, one), names[start : start + 10])
            for start in range(0, RACES, 10)
        ]
        for racer in (one, two):
            racer.communicate(timeout=20)
    assert [sum(won) for won in rounds] == [10] * len(rounds)

    async def check(logs: Logs) -> None:
        log = await logs()
        for name in names:
            assert [kind for _, kind, _ in await whole(log, name)] == ["token", "error", "done"]

    run(durable_log, check)


def test_what_waits_for_a_commit_hears_of_the_end(durable_log: str) -> None:
    """When a log is closed nobody waits any more for what it will not store; it takes no more."""

    async def test(logs: Logs) -> None:
        log = await logs.durable()
        begun = asyncio.Event()

        async def never(producer: int, steps: Sequence[Step]) -> set[str]:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        await log.create("run", "alice", None)
        log.store.commit = never  # type: ignore[method-assign]
        first = asyncio.create_task(log.append("run", "token", {}))
        await begun.wait()
        second = asyncio.create_task(log.append("run", "token", {}))
        await asyncio.sleep(0)
        await log.cease()
        assert [
            type(one) for one in await asyncio.gather(first, second, return_exceptions=True)
        ] == [
            RunLost,
            RunLost,
        ]
        with pytest.raises(RunLost):
            await log.append("run", "token", {})

    run(durable_log, test)


def test_a_run_that_may_have_been_made_is_ended(durable_log: str) -> None:
    """Where nobody knows whether a run was made, its lease is given up: it never stays open."""

    async def test(logs: Logs) -> None:
        log, other = await logs.durable(lease=SHORT), await logs(lease=SHORT)
        create = log.store.create

        async def unheard(run: str, owner: str, key: str | None, producer: int) -> str:
            await create(run, owner, key, producer)
            raise LogUnavailable("no answer")

        log.store.create = unheard  # type: ignore[method-assign]
        with pytest.raises(LogUnavailable):
            await log.create("run", "alice", "key")
        log.store.create = create  # type: ignore[method-assign]
        assert await log.create("again", "alice", "key") == "run"
        assert [kind for _, kind, _ in await whole(other, "run")] == ["error", "done"]

    run(durable_log, test)


def test_two_leases_in_one_commit(durable_log: str) -> None:
    """What is pending under a lease that was given up takes nothing from what is under the next."""

    async def test(logs: Logs) -> None:
        log = await logs.durable()
        going, begun = asyncio.Event(), asyncio.Event()
        commit = log.store.commit

        async def held_up(producer: int, steps: Sequence[Step]) -> set[str]:
            begun.set()
            await going.wait()
            return await commit(producer, steps)

        await log.create("first", "alice", None)
        await log.create("old", "alice", None)
        log.store.commit = held_up  # type: ignore[method-assign]
        first = asyncio.create_task(log.append("first", "token", {}))
        await begun.wait()
        old = asyncio.create_task(log.append("old", "token", {}))
        await asyncio.sleep(0)
        assert log._producer is not None
        log._give_up(log._producer)
        await log.create("new", "alice", None)
        new = asyncio.create_task(log.append("new", "token", {}))
        await asyncio.sleep(0)
        going.set()
        said = await asyncio.gather(first, old, new, return_exceptions=True)
        assert [isinstance(one, RunLost) for one in said[1:]] == [True, False]
        assert (await log.state("new")).last == 1
        assert [kind for _, kind, _ in await whole(log, "old")][-2:] == ["error", "done"]

    run(durable_log, test)
