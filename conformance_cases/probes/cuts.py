"""Runs that the network cuts while they live, and that a client joins again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import anyio

from conformance_cases.probes.requests import first_event
from pytest_agentstream.faults import Cut, IdleCut
from pytest_agentstream.probing import probe
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block

INTO = 12
"""Bytes of an event that get through before the cut: enough to be in its middle, in any dialect."""

HEAD_BYTES = 5
"""Bytes of the head that get through where the cut comes before it: too few for a status."""

AWAY = 1.5
"""A client stays away for so many planted pauses: at least one event is produced meanwhile."""

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
class CutStart:
    """A run that was cut before any id, and its start sent again with its key, if it has one."""

    cut: LiveCut
    again: Recording | None


@dataclass(frozen=True)
class Witnessed:
    """A run, and what came while it lived: a second reader behind its first cursor, the same start.

    `again` is the start sent again with the same idempotency key, where the dialect has one.
    """

    run: Observation
    witness: Recording | None
    again: Recording | None


def resumable(client: Driver, run: Observation) -> None:
    """Raise `NotTested` unless cuts of this run can prove something."""
    if len(run.identified) < 4:
        raise NotTested(f"`{run.scenario}` sends {len(run.identified)} ids, too few to be cut")


class Away(Backoff):
    """Stay away for at least so many seconds, so that events are produced meanwhile."""

    def __init__(self, seconds: float) -> None:
        super().__init__(Random(0), total=MANY * 2)
        self._away = seconds

    def next(self, floor: float | None = None) -> float:
        return max(super().next(floor), self._away)


async def cut_and_join(
    client: Driver, scenario: str, *plan: Cut, headers: Mapping[str, str] | None = None
) -> LiveCut:
    """Start a run through cuts, follow it to its end, and read it back without any."""
    away = Away((client.control(scenario).scenario.pause or 0.0) * AWAY)
    async with client.through(*((cut,) for cut in plan)) as cutting:
        run = await cutting.run(scenario, backoff=away, headers=headers)
    where = ", then ".join(dict.fromkeys(cut.describe() for cut in plan))
    ids = [cursor.text for _, cursor in run.identified]
    whole = await client.resume(run, ids[0], **client.replaying) if ids else None
    return LiveCut(where, len(plan), run, whole)


@probe(scenarios=["pauses"])
async def live_cut(client: Driver, pauses_run: Observation) -> LiveCut:
    """One run, cut early and in its middle, and then followed while it lives to its terminal."""
    resumable(client, pauses_run)
    middle = max(2, (len(pauses_run.events) - 1) // 2)
    cuts = (Cut(after_event=1), Cut(after_event=middle - 1))
    return await cut_and_join(client, "pauses", *cuts)


@probe(scenarios=["pauses"])
async def cut_inside(client: Driver, pauses_run: Observation) -> LiveCut:
    """A run that is cut inside the bytes of an event, and again just before its terminal."""
    resumable(client, pauses_run)
    before_terminal = len(pauses_run.events) - 1
    middle = before_terminal // 2
    cuts = (
        Cut(after_event=middle, into_next=INTO, how="rst"),
        Cut(after_event=before_terminal - middle),
    )
    return await cut_and_join(client, "pauses", *cuts)


@probe(scenarios=["pauses"])
async def cut_before_ids(client: Driver, pauses_run: Observation, dialect: Dialect) -> CutStart:
    """A run that is cut twice before any id came; where it has a key, once before its head.

    Where it has a key, the start is sent once more in the end.
    """
    resumable(client, pauses_run)
    key = dialect.profile.start.idempotency_header
    behind_head = Cut(after_event=0)
    if key is None:
        return CutStart(await cut_and_join(client, "pauses", behind_head, behind_head), None)
    headers = {key: client.unique()}
    before_head = Cut(after_bytes=HEAD_BYTES)
    cut = await cut_and_join(client, "pauses", before_head, behind_head, headers=headers)
    control = client.control("pauses")
    return CutStart(cut, await client.start(control, headers=headers, joins=True))


@probe(scenarios=["long"])
async def many_cuts(client: Driver, complete_run: Observation) -> LiveCut:
    """A run that is cut twenty times."""
    resumable(client, complete_run)
    cut = await cut_and_join(client, "long", *(Cut(after_event=BETWEEN) for _ in range(MANY)))
    if len(cut.run.exchanges) <= MANY and cut.run.terminals:
        sent = len(cut.run.events)
        raise NotTested(
            f"`long` sends {sent} events, and {MANY} cuts need {MANY * BETWEEN}",
            "map a longer one",
        )
    return cut


@probe(scenarios=["pauses"])
async def witnessed(client: Driver, pauses_run: Observation, dialect: Dialect) -> Witnessed:
    """A run with a second reader beside the first, and the same start again while it lives."""
    resumable(client, pauses_run)
    first: list[Event] = []
    seen = anyio.Event()
    answers: list[Recording] = []
    again: list[Recording] = []
    key = dialect.profile.start.idempotency_header
    headers = {key: client.unique()} if key is not None else {}

    async def witness() -> None:
        await seen.wait()
        answers.append(await client.join(first[0]))

    async def start_again() -> None:
        await seen.wait()
        control = client.control("pauses")
        again.append(await client.start(control, joins=True, headers=headers, on_block=first_event))

    async with anyio.create_task_group() as beside:
        beside.start_soon(witness)
        if headers:
            beside.start_soon(start_again)
        run = await client.run("pauses", headers=headers, on_block=noticing(client, first, seen))
        if not first:
            beside.cancel_scope.cancel()
    return Witnessed(run, answers[0] if answers else None, again[0] if again else None)


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
