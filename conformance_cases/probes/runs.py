"""The probes of the packaged suite: what is asked of the server under test, once for all cases."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.probing import probe
from pytest_agentstream.retrying import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.controls import Control
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.wire import Block


def briefly() -> Backoff:
    """Join a crashed run again once or twice at the most: each time may run the agent again."""
    return Backoff(Random(0), attempts=1, total=2)


SHORTLY = 0.1
"""Seconds, or less, between two looks at a run, where the server asks for nothing longer."""

MANY = 10_000
"""Looks; it is the time that bounds them."""


class Until(Backoff):
    """Join a run again shortly after each time, however little that brings.

    `over` gets the number of attempts and says why there is no further one, or an empty string.
    """

    def __init__(self, over: Callable[[int], str]) -> None:
        super().__init__(Random(0), base=SHORTLY, cap=SHORTLY, attempts=MANY, total=MANY)
        self._over = over

    @property
    def exhausted(self) -> str:
        return self._over(self._made) or super().exhausted


def until_told(dialect: Dialect, seconds: float) -> Backoff:
    """Join a run again for so many seconds, and twice at least, where that starts nothing.

    A server may end its streams before their run is over, and say the terminal in a later one.
    """
    if dialect.profile.resume.path is None:
        return briefly()
    until = time.monotonic() + seconds

    def over(made: int) -> str:
        return "it was asked for long enough" if time.monotonic() >= until and made > 1 else ""

    return Until(over)


@probe(scenarios=["complete"], runs=0)
async def complete_run(preflight: Observation) -> Observation:
    """An ordinary run: the one that the preflight made anyway."""
    return preflight


@probe(scenarios=["tools"])
async def tools_run(client: Driver) -> Observation:
    """A run that calls tools."""
    return await client.run("tools")


@probe(scenarios=["silence"])
async def silence_run(client: Driver) -> Observation:
    """A run with a silence in its middle."""
    return await client.run("silence")


@probe(scenarios=["slow-start"])
async def slow_start_run(client: Driver) -> Observation:
    """A run that is silent before its first event."""
    return await client.run("slow-start")


@probe(scenarios=["echo"])
async def echo_run(client: Driver) -> Observation:
    """A run that answers with a planted text."""
    return await client.run("echo")


@probe(scenarios=["long"])
async def long_run(client: Driver) -> Observation:
    """A run of some hundred events."""
    return await client.run("long")


@probe(scenarios=["pauses"])
async def pauses_run(client: Driver) -> Observation:
    """A run with planted pauses between its events."""
    return await client.run("pauses")


@probe(scenarios=["pauses"])
async def gzip_run(client: Driver) -> Observation:
    """The same for a client that accepts gzip."""
    return await client.run("pauses", headers={"Accept-Encoding": "gzip"})


@probe(scenarios=["crash"])
async def crash_run(client: Driver) -> Observation:
    """A run in which the agent raises an exception after some text."""
    return await client.run("crash", backoff=briefly())


@probe(scenarios=["crash-first"])
async def crash_first_run(client: Driver) -> Observation:
    """A run in which the agent raises before the first event."""
    return await client.run("crash-first", backoff=briefly())


@probe(scenarios=["crash-cancelled"])
async def crash_cancelled_run(client: Driver) -> Observation:
    """A run in which the agent is cancelled from inside."""
    return await client.run("crash-cancelled", backoff=briefly())


@probe(scenarios=["crash-exit"], exclusive=True)
async def crash_exit_run(client: Driver) -> Observation:
    """A run in which the agent raises SystemExit, which ends careless servers."""
    return await client.run("crash-exit", backoff=briefly())


@probe(scenarios=["crash-tool"])
async def crash_tool_run(client: Driver) -> Observation:
    """A run in which a tool raises."""
    return await client.run("crash-tool", backoff=briefly())


@probe(scenarios=["fail"])
async def fail_run(client: Driver) -> Observation:
    """A run whose agent reports a failure itself."""
    return await client.run("fail")


@probe(scenarios=["interrupt"])
async def interrupt_run(client: Driver) -> Observation:
    """A run that waits for a person, who answers as soon as the stream asks."""
    return await client.run_and_answer("interrupt")


@dataclass(frozen=True)
class Survivor:
    """A run that was under way when another one crashed beside it, and that crash."""

    run: Observation
    crash: Observation | None


LONGER = 4.0
"""Seconds of silence where a busy machine takes longer for a crash than for the usual one."""


@probe(scenarios=["silence", "crash"], runs=2)
async def survivor_run(client: Driver) -> Survivor:
    """A run that is under way while another one crashes beside it."""
    usual, longer = client.control("silence"), client.control("silence", LONGER)
    client.control("crash")
    survivor = await _crash_beside(client, usual)
    over_before = survivor.crash is None and survivor.run.outcome is Outcome.SUCCESS
    if over_before and (longer.scenario.seconds or 0.0) > (usual.scenario.seconds or 0.0):
        return await _crash_beside(client, longer)
    return survivor


async def _crash_beside(client: Driver, control: Control) -> Survivor:
    under_way = anyio.Event()
    over: list[Observation] = []
    crashed: list[Observation] = []

    def notice(block: Block) -> None:
        if block.event is not None:
            under_way.set()

    async def crash_beside() -> None:
        await under_way.wait()
        crash = await client.run("crash", reconnect=False)
        if not over:  # else it did not crash beside anything
            crashed.append(crash)

    async with anyio.create_task_group() as beside:
        beside.start_soon(crash_beside)
        seen = await client.run("silence", control=control, on_block=notice)
        over.append(seen)
        under_way.set()
    return Survivor(seen, crashed[0] if crashed else None)


GOOD = ("complete_run", "tools_run", "silence_run", "slow_start_run", "echo_run", "long_run")
BAD = (
    "crash_run",
    "crash_first_run",
    "crash_cancelled_run",
    "crash_exit_run",
    "crash_tool_run",
    "fail_run",
)


@probe(runs=0, optional=GOOD)
async def good_runs(
    complete_run: Observation | None,
    tools_run: Observation | None,
    silence_run: Observation | None,
    slow_start_run: Observation | None,
    echo_run: Observation | None,
    long_run: Observation | None,
) -> list[Observation]:
    """Every run that is meant to end well and that could be provoked."""
    runs = (complete_run, tools_run, silence_run, slow_start_run, echo_run, long_run)
    return [run for run in runs if run is not None]


@probe(runs=0, optional=BAD)
async def bad_runs(
    crash_run: Observation | None,
    crash_first_run: Observation | None,
    crash_cancelled_run: Observation | None,
    crash_exit_run: Observation | None,
    crash_tool_run: Observation | None,
    fail_run: Observation | None,
) -> list[Observation]:
    """Every run that is meant to fail and that could be provoked."""
    runs = (
        crash_run,
        crash_first_run,
        crash_cancelled_run,
        crash_exit_run,
        crash_tool_run,
        fail_run,
    )
    return [run for run in runs if run is not None]


CRASHES = ("crash_run", "crash_first_run", "crash_tool_run")


@probe(runs=0, optional=CRASHES)
async def crashed_runs(
    crash_run: Observation | None,
    crash_first_run: Observation | None,
    crash_tool_run: Observation | None,
) -> list[Observation]:
    """Every run in which an ordinary exception was provoked, at whatever point."""
    runs = (crash_run, crash_first_run, crash_tool_run)
    return [run for run in runs if run is not None]


@probe(runs=0)
async def all_runs(good_runs: list[Observation], bad_runs: list[Observation]) -> list[Observation]:
    """Every run that could be provoked."""
    return good_runs + bad_runs
