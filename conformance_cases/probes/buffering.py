"""What a server keeps in memory for readers that do not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from conformance_cases.probes.holding import SAMPLED_EVERY, usage_of
from pytest_agentstream.faults import HalfOpen
from pytest_agentstream.probing import probe
from pytest_agentstream.tolerances import BACKLOG_PART, RELEASED_WITHIN
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.target import Target

GLANCES = 2
"""Stalled runs that are measured before it is looked at more closely."""

ROUNDS = 3
"""Memory that grows for another reason does not grow by so much this often."""

GROWN = 0.3
"""Seconds for which memory does not grow before it counts as grown."""

LONGEST_FLOOD = 30.0
"""Seconds; a run that takes longer is not waited for by readers that do not read."""

BEHIND = 1.25
"""An agent that writes for nobody takes about as long as one that is read."""

IN_KERNEL = 4 * 2**20
"""Bytes that a kernel takes for a reader that does not read, as much as Linux allows it."""

LEAST_BYTES = 2 * IN_KERNEL
"""A run of fewer bytes disappears there, and in the noise."""

GRAIN = 2**18
"""Bytes of resident memory that come and go."""


@dataclass(frozen=True)
class Backlog:
    """What a long run costs in memory whose reader is stalled, in bytes.

    `size` is what one run sends, `readers` how many were stalled while memory grew by `grown`;
    `run` is the last one of these. `reading` is what as many runs cost whose readers read, where
    that had to be known.
    """

    run: Observation
    size: int
    readers: int
    grown: int
    reading: int | None
    allowed: float


@probe(consent="load", scenarios=["flood"], runs=3, exclusive=True)
async def backlog(client: Driver, process: ManagedProcess, target: Target) -> Backlog:
    """Runs that say much, with readers that stop at once; where they cost much, beside others.

    What a process has given back to its allocator hides what it takes next, so the first run is not
    judged, and all stalled readers are held. A log in memory grows with every run, so what runs
    cost whose readers read is measured where a stalled one costs much.
    """
    plans = [(HalfOpen(after_event=1),)] * (1 + GLANCES + ROUNDS)
    limits = target.timeouts
    timeouts = limits.model_copy(update={"end": min(limits.end, LONGEST_FLOOD)})
    async with client.through(*plans) as stalling:
        size = 0
        stalled: list[Observation] = []

        took = 0.0

        async def read() -> None:
            nonlocal size, took
            began = anyio.current_time()
            size = await client.drain("flood", timeouts=timeouts)
            took = anyio.current_time() - began

        async def stall() -> None:
            stalled.append(await stalling.run("flood", reconnect=False))

        await _cost(client, process, stall, read)
        if took >= timeouts.end:
            raise NotTested(
                f"`flood` takes longer than the {timeouts.end:g} s that are waited for",
                "map a run that says as much in less time",
            )
        if size < LEAST_BYTES:
            raise NotTested(
                f"`flood` sends {size} bytes, and {LEAST_BYTES} are needed to see where they stay",
                "map a run that says more",
            )
        least = took * BEHIND
        allowed = (size - IN_KERNEL) * BACKLOG_PART
        for _ in range(GLANCES):
            grown = await _cost(client, process, stall, least=least)
            if grown <= allowed:
                return Backlog(stalled[-1], size, 1, grown, None, allowed)
        costs = [await _cost(client, process, read) for _ in range(ROUNDS)]
        reading = max(0, *costs[1:]) * ROUNDS
        grown = sum([await _cost(client, process, stall, least=least) for _ in range(ROUNDS)])
        allowed = reading + allowed * ROUNDS
        return Backlog(stalled[-1], size, ROUNDS, grown, reading, allowed)


async def _cost(
    client: Driver,
    process: ManagedProcess,
    *calls: Callable[[], Coroutine[None, None, None]],
    least: float = 0.0,
) -> int:
    """What it costs in resident memory to do things at once, measured when that has settled.

    That is no sooner than `least` seconds: an agent that is slow takes memory slowly.
    """
    before = last = (await usage_of(client, process)).rss
    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(call)
    began = since = anyio.current_time()
    while (now := anyio.current_time()) - since < GROWN or now - began < least:
        if now - began > least + RELEASED_WITHIN:
            break
        await anyio.sleep(SAMPLED_EVERY)
        found = (await usage_of(client, process)).rss
        if abs(found - last) > GRAIN:
            since, last = anyio.current_time(), found
    return (await usage_of(client, process)).rss - before
