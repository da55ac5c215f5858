"""What a server goes on holding for readers that are gone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from pytest_agentstream.faults import HalfOpen
from pytest_agentstream.probing import probe
from pytest_agentstream.process import ProcessError
from pytest_agentstream.recording import EndKind
from pytest_agentstream.tolerances import RELEASED_WITHIN, held_limit
from pytest_agentstream.verdicts import NotTested
from pytest_agentstream.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.process import ManagedProcess, Usage
    from pytest_agentstream.wire import Block

STORM = 100
TIMES = 5
"""What is held is looked at so often, while it grows: pools of workers come to an end, no leak."""

HELD = 0.5
"""Seconds for which a stream of a storm is held behind its first event, while others open."""

OPENED_WITHIN, STUCK = 60.0, 20.0
"""Seconds in which the streams of a storm come to show an event, and in which one more does; those
that do not are dropped too."""

QUIET = 0.2
"""Seconds for which nothing changes before it counts as settled."""

SAMPLED_EVERY, SELDOM = 0.02, 0.1
"""Seconds between two looks at a process, while it changes and while it does not."""

LOST = 5
"""Readers that are lost at once."""


@dataclass(frozen=True)
class Storms:
    """Two storms of streams that were opened and dropped.

    `dropped` are the streams of the second one that had shown an event and went on; `during` is the
    most that it took, `before` and `after` were measured when what each storm left had settled, for
    which the second was given `waited` seconds.
    """

    dropped: int
    before: Usage
    during: Usage
    after: Usage
    waited: float


@probe(consent="attack", scenarios=["pauses", "complete"], runs=2 * STORM + 2 + 1, exclusive=True)
async def aborted_storms(
    client: Driver, process: ManagedProcess, pauses_run: Observation
) -> Storms:
    """A hundred streams that are opened and dropped, and a hundred more.

    Where that leaves something, other hundreds tell a leak from pools that have grown.
    """
    length = sum(exchange.end.at for exchange in pauses_run.exchanges)
    bound = length + RELEASED_WITHIN
    fresh = await usage_of(client, process)  # where it cannot be measured nothing is started
    shown, during = await _storm(client, process)
    if not shown:  # and so it would be again
        return Storms(0, during, during, during, 0.0)
    await client.start(client.control("pauses"))  # a server that is behind has come to it then
    after = await _settled(client, process, bound)
    if not _has_closed(fresh, shown, after):  # it may be late, and close them yet
        after = await _settled(client, process, bound, partial(_has_closed, fresh, shown))
    found: list[Storms] = []
    for _ in range(TIMES):
        before = after
        dropped, during = await _storm(client, process)
        if found and dropped < STORM / 2:
            break  # no descriptor is left for more: what leaked until then is judged
        await client.run("complete")
        began = anyio.current_time()
        after = await _settled(client, process, bound, partial(_is_as, before, dropped))
        found.append(Storms(dropped, before, during, after, anyio.current_time() - began))
        if _is_as(before, dropped, after):
            break
    return found[-1]


async def usage_of(client: Driver, process: ManagedProcess) -> Usage:
    """Sample in a thread: children are looked for among all processes of the machine.

    Raises `ServerDied` or `ServerGone` where the process has ended by itself.
    """
    with suppress(ProcessError):
        found = await anyio.to_thread.run_sync(process.usage)
        if found.threads:
            return found
    await client.request("OPTIONS", "")  # nobody answers: the driver finds out why
    raise NotTested(f"what {process.name} holds can't be measured: it has ended")


def _has_closed(before: Usage, dropped: int, now: Usage) -> bool:
    return now.descriptors - before.descriptors <= held_limit(dropped)


def _is_as(before: Usage, dropped: int, now: Usage) -> bool:
    kept = now.threads - before.threads
    return _has_closed(before, dropped, now) and kept <= held_limit(dropped)


async def _storm(client: Driver, process: ManagedProcess) -> tuple[int, Usage]:
    """Open streams, drop all; return how many had shown an event then, and the most they took."""
    control = client.control("pauses")
    waiting, dropped = STORM, 0
    began = latest = anyio.current_time()
    during = await usage_of(client, process)

    def one_less() -> None:
        nonlocal waiting, latest
        waiting, latest = waiting - 1, anyio.current_time()

    async def open_one() -> None:
        nonlocal dropped
        shown = over = False

        def notice(block: Block) -> Watch | None:
            nonlocal shown
            if block.event is None or shown:
                return None
            shown = True
            one_less()
            return Watch(HELD, "dropped")

        try:
            answer = await client.start(control, on_block=notice)
            over = answer.end.kind is not EndKind.STOPPED
        finally:
            if not shown:
                one_less()
            dropped += shown and not over

    def is_open() -> bool:
        now = anyio.current_time()
        return not waiting or now - latest > STUCK or now - began > OPENED_WITHIN

    async with anyio.create_task_group() as storm:
        for _ in range(STORM):
            storm.start_soon(open_one)
        done = False
        while not done:
            done = is_open()
            now = await usage_of(client, process)
            during = max(during, now, key=lambda one: one.descriptors)
            await anyio.sleep(SAMPLED_EVERY)
        storm.cancel_scope.cancel()
    return dropped, during


async def _settled(
    client: Driver,
    process: ManagedProcess,
    bound: float,
    is_enough: Callable[[Usage], bool] | None = None,
) -> Usage:
    """Sample until it is enough, or, where nothing says what is, until nothing changes."""
    last, since = await usage_of(client, process), anyio.current_time()
    latest = since + bound
    while (now := anyio.current_time()) < latest:
        if is_enough is not None and is_enough(last):
            break
        if is_enough is None and now - since >= QUIET:
            break
        await anyio.sleep(SAMPLED_EVERY if now - since < QUIET else SELDOM)
        found = await usage_of(client, process)
        if (found.descriptors, found.threads) != (last.descriptors, last.threads):
            since = anyio.current_time()
        last = found
    return last


@dataclass(frozen=True)
class Lost:
    """So many readers that were lost in the middle of their runs, without the server's knowing.

    `after` was measured when their descriptors were given back, or `waited` seconds behind.
    """

    runs: tuple[Observation, ...]
    before: Usage
    after: Usage
    waited: float


@probe(consent="attack", scenarios=["complete"], runs=2 * LOST, exclusive=True)
async def lost_readers(client: Driver, process: ManagedProcess, complete_run: Observation) -> Lost:
    """Readers that a network loses: nothing is read or closed any more, and the runs go on.

    As many that are not lost come before, so that what runs share, pools above all, is there
    already; and where something is held, others are lost behind them.
    """
    length = sum(exchange.end.at for exchange in complete_run.exchanges)
    await _runs(client)
    after = await _settled(client, process, RELEASED_WITHIN)
    async with client.through(*[(HalfOpen(after_event=1),)] * (TIMES * LOST)) as losing:
        for _ in range(TIMES):
            before = after
            runs = await _runs(losing)
            began = anyio.current_time()
            after = await _settled(
                client, process, length + RELEASED_WITHIN, partial(_has_given_back, before)
            )
            lost = tuple(run for run in runs if run.events)
            found = Lost(lost, before, after, anyio.current_time() - began)
            if _has_given_back(before, after):
                break
    return found


def _has_given_back(before: Usage, now: Usage) -> bool:
    return now.descriptors - before.descriptors <= LOST // 2


async def _runs(client: Driver) -> list[Observation]:
    """Runs at once, whose connections are not to be used again: that they may be kept for."""
    found: list[Observation] = []
    headers = {"Connection": "close"}

    async def run() -> None:
        found.append(await client.run("complete", reconnect=False, headers=headers))

    async with anyio.create_task_group() as readers:
        for _ in range(LOST):
            readers.start_soon(run)
    return found
