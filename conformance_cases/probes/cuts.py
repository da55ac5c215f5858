"""Runs that the network cuts while they live, and that a client joins again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.faults import Cut, IdleCut
from pytest_agentstream.probing import probe
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block

INTO = 12
"""Bytes of an event that get through before the cut: enough to be in its middle, in any dialect."""

MANY = 20
BETWEEN = 4
"""Events that get through between two of the many cuts."""

IDLE = 1.5
"""An idle connection is cut after so many H, as impatient load balancers do."""


@dataclass(frozen=True)
class LiveCut:
    """A run that was cut and joined again, and the same run read back whole once it was over.

    `where` is the fault in words, `cuts` how many there were to be. `whole` is the run read back
    behind its first cursor, or None where it has none.
    """

    where: str
    cuts: int
    run: Observation
    whole: Recording | None


@dataclass(frozen=True)
class Witnessed:
    """A run and a second reader that joined it while it lived, from the first cursor on."""

    run: Observation
    witness: Recording | None


def resumable(client: Driver, run: Observation) -> None:
    """Raise `NotTested` unless cuts of this run can prove something."""
    if len(run.identified) < 4:
        raise NotTested(f"`{run.scenario}` sends {len(run.identified)} ids, too few to be cut")


async def cut_and_join(client: Driver, scenario: str, *plan: Cut) -> LiveCut:
    """Start a run through cuts, follow it to its end, and read it back without any."""
    async with client.through(*((cut,) for cut in plan)) as cutting:
        run = await cutting.run(scenario)
    where = plan[0].describe() + (f", and {len(plan) - 1} more" if len(plan) > 1 else "")
    ids = [cursor.text for _, cursor in run.identified]
    whole = await client.resume(run, ids[0], **client.replaying) if ids else None
    return LiveCut(where, len(plan), run, whole)


@probe(scenarios=["pauses"])
async def live_cut(client: Driver, pauses_run: Observation) -> LiveCut:
    """One run, cut early, in its middle, and just before its terminal."""
    resumable(client, pauses_run)
    before_terminal = len(pauses_run.events) - 1
    middle = max(2, before_terminal // 2)
    return await cut_and_join(
        client,
        "pauses",
        Cut(after_event=1),
        Cut(after_event=middle - 1),
        Cut(after_event=before_terminal - middle),
    )


@probe(scenarios=["pauses"])
async def cut_inside(client: Driver, pauses_run: Observation) -> LiveCut:
    """A run that is cut inside the bytes of an event."""
    resumable(client, pauses_run)
    middle = len(pauses_run.events) // 2
    return await cut_and_join(client, "pauses", Cut(after_event=middle, into_next=INTO, how="rst"))


@probe(scenarios=["pauses"])
async def cut_before_ids(client: Driver, pauses_run: Observation) -> LiveCut:
    """A run that is cut twice before any id came."""
    resumable(client, pauses_run)
    return await cut_and_join(client, "pauses", Cut(after_event=0), Cut(after_event=0))


@probe(scenarios=["long"])
async def many_cuts(client: Driver, long_run: Observation) -> LiveCut:
    """A run that is cut twenty times."""
    resumable(client, long_run)
    if len(long_run.events) < MANY * BETWEEN:
        raise NotTested(
            f"`long` sends {len(long_run.events)} events, and {MANY} cuts need {MANY * BETWEEN}",
            "map a longer one",
        )
    return await cut_and_join(client, "long", *(Cut(after_event=BETWEEN) for _ in range(MANY)))


@probe(scenarios=["pauses"])
async def witnessed(client: Driver, pauses_run: Observation) -> Witnessed:
    """A run with a second reader beside the first."""
    resumable(client, pauses_run)
    first: list[Event] = []
    seen = anyio.Event()
    answers: list[Recording] = []

    async def witness() -> None:
        await seen.wait()
        answers.append(await client.join(first[0]))

    async with anyio.create_task_group() as beside:
        beside.start_soon(witness)
        run = await client.run("pauses", on_block=noticing(client, first, seen))
        if not first:
            beside.cancel_scope.cancel()
    return Witnessed(run, answers[0] if answers else None)


def noticing(client: Driver, found: list[Event], seen: anyio.Event) -> Callable[[Block], None]:
    """Notice the first event with an id while its exchange goes on."""

    def notice(block: Block) -> None:
        if not found:
            found.extend(e for e in client.events_of(block) if e.cursor is not None)
        if found:
            seen.set()

    return notice


@probe(scenarios=["silence"])
async def idle_cut(client: Driver) -> Observation:
    """A run with a silence, behind a proxy that cuts idle connections."""
    if client.interval is None:
        raise NotTested(
            "no heartbeat interval is promised", "promise one: --agentstream-heartbeat 15"
        )
    plan = (IdleCut(seconds=IDLE * client.interval),)
    async with client.through(plan, repeat=True) as cutting:
        return await cutting.run("silence", reconnect=False)
