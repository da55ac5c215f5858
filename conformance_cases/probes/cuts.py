"""Runs that the network cuts while they live, and that a client joins again."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import anyio

from conformance_cases.probes.requests import first_event
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.faults import Cut, Fault, HalfOpen, IdleCut
from pytest_agentstream.probing import probe
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.tolerances import IDLE_CUT
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

IDLE = frozenset({Role.HEARTBEAT, Role.TERMINAL})

OVER = 0.5
"""Seconds that a client stays away for longer than a run like the one that it left lasts."""

LONGEST_AWAY = 15.0
"""Seconds: no client stays away from a run for longer, to find it over."""

MANY = 20
BETWEEN = 4
"""Events that get through between two of the many cuts."""


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
class Left:
    """A run that was cut at `where`, and should have ended in the seconds before it was joined."""

    run: Observation
    seconds: float
    where: str

    @property
    def replayed(self) -> list[Event]:
        """What the first stream that joined it brought, less its terminal and what passes."""
        joins = [exchange for exchange in self.run.exchanges[1:] if exchange.is_stream]
        return [
            event
            for event in self.run.events
            if event.exchange in joins[:1] and not event.ephemeral and event.role not in IDLE
        ]

    @property
    def was_joined(self) -> bool:
        return not self.run.run.unwaited and any(one.is_stream for one in self.run.exchanges[1:])


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
    """Stay away for at least so many seconds, so that events are produced meanwhile.

    The `first` time may be another.
    """

    def __init__(
        self, seconds: float, *, first: float | None = None, total: int = MANY * 2
    ) -> None:
        super().__init__(Random(0), total=total)
        self._away = seconds
        self._first = first

    def next(self, floor: float | None = None) -> float:
        away, self._first = self._first, None
        return max(super().next(floor), self._away if away is None else away)


async def cut_and_join(
    client: Driver,
    scenario: str,
    *plan: Fault,
    headers: Mapping[str, str] | None = None,
    first_away: float | None = None,
) -> LiveCut:
    """Start a run through cuts, follow it to its end, and read it back without any.

    A client that is `first_away` for so many seconds comes back sooner from every further cut.
    """
    away = Away((client.control(scenario).scenario.pause or 0.0) * AWAY, first=first_away)
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
    """A run that is cut inside the bytes of an event, and again just before its terminal.

    Where runs go on without their reader, the first cut is early, and the run is over behind it.
    """
    resumable(client, pauses_run)
    before_terminal = len(pauses_run.events) - 1
    until_over = stays_until_over(pauses_run)
    place = first_place(pauses_run) if until_over else before_terminal // 2
    cuts = (
        Cut(after_event=place, into_next=INTO, how="rst"),
        Cut(after_event=before_terminal - place),
    )
    return await cut_and_join(client, "pauses", *cuts, first_away=until_over)


def first_place(run: Observation) -> int:
    """The number, from 1, of a run's first event that has an id."""
    return next(number for number, event in enumerate(run.events, 1) if event.cursor is not None)


def stays_until_over(run: Observation) -> float | None:
    """For how many seconds a client stays away until a run like this one is over.

    None where that is too long, or where the dialect does not say that it goes on meanwhile.
    """
    length = sum(exchange.end.at for exchange in run.exchanges)
    seconds = length + max(OVER, (run.declared.pause or 0.0) * AWAY)
    goes_on = run.dialect.not_applicable("disconnect.continues") is None
    return seconds if goes_on and seconds <= LONGEST_AWAY else None


@probe(runs=0, optional=("cut_inside", "pauses_run"))
async def left_runs(cut_inside: LiveCut | None, pauses_run: Observation | None) -> list[Left]:
    """The run that was over before its client came back, where there is one."""
    seconds = stays_until_over(pauses_run) if pauses_run is not None else None
    if cut_inside is None or seconds is None:
        return []
    return [Left(cut_inside.run, seconds, cut_inside.where)]


@probe(scenarios=["crash"])
async def crash_left(client: Driver, crash_run: Observation, dialect: Dialect) -> Left:
    """A run whose client leaves before it crashes, and comes back when that is over."""
    seconds = stays_until_over(crash_run)
    if seconds is None or dialect.profile.resume.path is None or not crash_run.identified:
        raise NotTested("a crash that nobody reads cannot be read later, or not be waited for")
    cut = Cut(after_event=first_place(crash_run))
    async with client.through((cut,)) as cutting:
        run = await cutting.run("crash", backoff=Away(seconds, first=seconds, total=2))
    return Left(run, seconds, cut.describe())


@probe(runs=0, optional=("crash_left",))
async def left_crashes(crash_left: Left | None) -> list[Left]:
    """The run that crashed before its client came back, where there is one."""
    return [crash_left] if crash_left is not None else []


@probe(scenarios=["pauses"])
async def half_open(client: Driver, pauses_run: Observation) -> LiveCut:
    """A run whose reader is lost without the server's knowing, and joined while that holds it."""
    resumable(client, pauses_run)
    return await cut_and_join(client, "pauses", HalfOpen(after_event=2))


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
    plan = (IdleCut(seconds=IDLE_CUT * client.interval),)
    async with client.through(plan, repeat=True) as cutting:
        return await cutting.run("silence", reconnect=False)
