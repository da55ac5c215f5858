"""Runs whose process is ended in their middle: by SIGKILL, and by SIGTERM."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from conformance_cases.keeping import keeping_of
from conformance_cases.probes.cuts import resumable
from conformance_cases.probes.readback import Answer, cursors_of
from conformance_cases.probes.replicas import LONGEST_AWAY
from conformance_cases.probes.requests import first_event
from conformance_cases.probes.runs import SHORTLY, Until
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.probing import probe
from pytest_agentstream.process import ProcessError
from pytest_agentstream.recording import EndKind, Run
from pytest_agentstream.tolerances import LEASE_FACTOR, LEASE_GRACE, SHUTDOWN_GRACE
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target, Timeouts
    from pytest_agentstream.watching import Watch
    from pytest_agentstream.wire import Block

LEAST = 3
PART = 8
"""The process is killed once a client has seen this part of the run, and LEAST events."""

LONGEST_LEASE = 30.0
"""Seconds; a longer lease is not waited for, and who ends the run is not known then."""

SURELY = 10.0
"""Seconds in which a killed process is gone."""

NEWCOMERS = (0.02, 0.2, 0.5)
"""Seconds behind a SIGTERM at which runs are started, as long as the process lives."""


@dataclass(frozen=True)
class Finished:
    """A run that was over before the process was killed, and what came behind its first cursor."""

    run: Observation
    answer: Answer


@dataclass(frozen=True)
class Killed:
    """A run whose process got SIGKILL in its middle, and what came of it after a restart.

    `run` is what its client saw until then, `at` when that was; `restarted` is when it was to be
    started again. `again` are the answers of the
    restarted process to cursors of it, the last one first; `finished` are runs that were over,
    asked for while another run has events already. `beside` is a reader at another replica that was
    there all the time, `whole` the run read back in the end, here and at that replica, where it
    has come to an end. `others` is whether the restarted process has events of another run.

    `broken` says why the process could not be started again; nothing else is known then.
    """

    run: Observation
    at: datetime
    again: tuple[Answer, ...] = ()
    finished: tuple[Finished, ...] = ()
    beside: Recording | None = None
    whole: tuple[Recording, ...] = ()
    broken: str = ""
    restarted: datetime | None = None
    others: bool = True


@dataclass
class _Murder:
    """Kill the process of a run as soon as its client has seen enough of it."""

    client: Driver
    process: ManagedProcess
    least: int
    seen: list[Event] = field(default_factory=list)
    begun: anyio.Event = field(default_factory=anyio.Event)
    witnessed: anyio.Event = field(default_factory=anyio.Event)
    witness_over: anyio.Event = field(default_factory=anyio.Event)
    enough: bool = False
    at: datetime | None = None

    def notice(self, block: Block) -> None:
        self.seen += (e for e in self.client.events_of(block) if e.cursor is not None)
        if self.seen:
            self.begun.set()
        due = self.least if self.witnessed.is_set() else 2 * self.least
        if len(self.seen) >= due and self.at is None:
            # here and now: whatever is stored later than it is sent is not stored yet
            self.process.kill()
            self.at = datetime.now(UTC)

    async def witness(self, replica: Driver, came: list[Recording]) -> None:
        """Read the run at another replica, from its first event on, until it is over, or enough."""

        def arrived(block: Block) -> None:
            self.witnessed.set()

        await self.begun.wait()
        with suppress(NotTested):  # where the dialect gives a run no address of its own
            came.append(await replica.join(self.seen[0], on_block=arrived))
            while went_on(self.client, came[-1]) and not self.enough:
                await anyio.sleep(away(came[-1]))
                came.append(await replica.join(self.seen[0]))
        self.witnessed.set()
        self.witness_over.set()


def went_on(client: Driver, answer: Recording) -> bool:
    """Whether a stream ended cleanly without its run's terminal, so that its client comes again."""
    if not (answer.is_stream and answer.ended_cleanly):
        return False
    events = (event for block in answer.blocks for event in client.events_of(block))
    return not any(event.role is Role.TERMINAL for event in events)


def away(answer: Recording) -> float:
    """Seconds that a client stays away whose stream ended."""
    asked = [block.retry for block in answer.blocks if block.retry is not None]
    return min(max(SHORTLY, asked[-1] / 1000 if asked else 0.0), LONGEST_AWAY)


@probe(
    consent="attack",
    scenarios=["complete", "long"],
    runs=3,
    exclusive=True,
    optional=("replicas",),
)
async def killed_run(
    client: Driver,
    process: ManagedProcess,
    complete_run: Observation,
    long_run: Observation,
    replicas: Sequence[Driver] | None,
    target: Target,
) -> Killed:
    """A run in whose middle its process is killed, started again, and asked for the run."""
    resumable(client, long_run)
    finished = await client.run("complete")
    murder = _Murder(client, process, max(LEAST, len(long_run.identified) // PART))
    came: list[Recording] = []
    async with anyio.create_task_group() as beside:
        if replicas:
            beside.start_soon(murder.witness, replicas[0], came)
        else:
            murder.witnessed.set()
        run = await client.run("long", reconnect=False, on_block=murder.notice)
        at = murder.at
        if at is None or run.terminals:
            raise NotTested(
                f"`long` was over with {len(run.events)} events, before the process could be "
                "killed in its middle",
                "map a longer one",
            )
        await process.wait_ended(SURELY)
        lease = keeping_of(run, target).lease
        if replicas and lease is not None and lease <= LONGEST_LEASE:
            with anyio.move_on_after(lease * LEASE_FACTOR + LEASE_GRACE):
                await murder.witness_over.wait()  # the restarted process may end the run as well
        again_at = datetime.now(UTC)
        try:
            await process.restart()
        except ProcessError as error:
            beside.cancel_scope.cancel()
            return Killed(run, at, broken=str(error))
        # so that there are other events that a cursor of before could be taken for
        other = await client.start_patiently(client.control("long"), on_block=first_event)
        others = other.is_stream and any(block.event is not None for block in other.blocks)
        again, over = await _ask_again(client, run, (complete_run, finished), _noticed(at, lease))
        murder.enough = True
        killed = Killed(run, at, again, over, restarted=again_at, others=others)
    places = [client, *(replicas or ())[:1]] if _is_over(killed) else []
    whole: dict[int, Recording] = {}

    async def read_back(number: int) -> None:
        place, first = places[number], cursors_of(run)[0].text
        whole[number] = await place.resume_patiently(run, first, **client.replaying)

    async with anyio.create_task_group() as reading:
        for number in range(len(places)):
            reading.start_soon(read_back, number)
    found = tuple(whole[number] for number in sorted(whole))
    return replace(killed, beside=came[-1] if came else None, whole=found)


def _is_over(killed: Killed) -> bool:
    """Whether the run has come to an end, so that it can be read back."""
    run = killed.run
    answers = (answer.recording for answer in killed.again)
    return any(run.dialect.read(Run("", "", (run.first, one))).terminals for one in answers)


def _noticed(at: datetime, lease: float | None) -> datetime:
    """When it has been noticed that the process of a run is dead, or nobody waits any longer."""
    known = lease if lease is not None and lease <= LONGEST_LEASE else 0.0
    return at + timedelta(seconds=known * LEASE_FACTOR + LEASE_GRACE)


async def _ask_again(
    client: Driver, run: Observation, over: Sequence[Observation], until: datetime
) -> tuple[tuple[Answer, ...], tuple[Finished, ...]]:
    """Ask for a run at its last, a middle and its first cursor, and for finished ones.

    Where a stream ends without the run's terminal, it is asked for again, `until` that time.
    """
    cursors = cursors_of(run)
    chosen = list(dict.fromkeys([cursors[-1], cursors[len(cursors) // 2], cursors[0]]))
    live: dict[int, Answer] = {}
    done: dict[int, Finished] = {}

    async def ask(number: int) -> None:
        text = chosen[number].text
        answer = await client.resume_patiently(run, text)
        while went_on(client, answer) and datetime.now(UTC) < until:
            await anyio.sleep(away(answer))
            answer = await client.resume_patiently(run, text)
        live[number] = Answer(text, answer)

    async def ask_finished(number: int) -> None:
        text = cursors_of(over[number])[0].text
        answer = await client.resume_patiently(over[number], text, **client.replaying)
        done[number] = Finished(over[number], Answer(text, answer))

    async with anyio.create_task_group() as asking:
        for number in range(len(chosen)):
            asking.start_soon(ask, number)
        for number in range(len(over)):
            asking.start_soon(ask_finished, number)
    return (
        tuple(live[number] for number in sorted(live)),
        tuple(done[number] for number in sorted(done)),
    )


@dataclass(frozen=True)
class Newcomer:
    """A run that was started so many seconds behind a SIGTERM, and the answer."""

    after: float
    recording: Recording


@dataclass(frozen=True)
class ShutDown:
    """Runs that were under way when their process got SIGTERM, and those that came behind it.

    `outlives` is whether one of them was to last longer than the process may.
    """

    at: datetime
    runs: tuple[Observation, ...]
    newcomers: tuple[Newcomer, ...]
    outlives: bool = True


def while_it_lives(process: ManagedProcess) -> Until:
    """Join runs again whose streams end before their process does; nobody listens behind that."""
    return Until(lambda made: "" if process.alive else "its process has ended")


@probe(consent="attack", scenarios=["silence"], runs=2 + len(NEWCOMERS), exclusive=True)
async def shut_down(client: Driver, process: ManagedProcess, target: Target) -> ShutDown:
    """Runs under way, idle and not, when their process is told to end; and runs started then."""
    grace = target.grace
    if grace is None:
        raise NotTested("no shutdown grace is declared", "declare it: --agentstream-grace 10")
    needed = grace + 2 * SHUTDOWN_GRACE
    silence = client.control("silence")
    if (silence.scenario.seconds or 0.0) < needed:
        silence = client.control("silence", seconds=needed)
    scenarios = ["silence", *(name for name in ("long",) if _has(client, name))]
    runs: dict[str, Observation] = {}
    limits = target.timeouts
    waits = {
        "silence": max(limits.silence, needed),
        "end": max(limits.end, needed + limits.silence),
    }
    timeouts = limits.model_copy(update=waits)
    streaming = {name: anyio.Event() for name in scenarios}
    over = anyio.Event()

    async def follow(name: str) -> None:
        def notice(block: Block) -> Watch | None:
            if block.event is not None:
                streaming[name].set()
            return None

        control = silence if name == "silence" else client.control(name)
        runs[name] = await client.run(
            name,
            control=control,
            timeouts=timeouts,
            backoff=while_it_lives(process),
            on_block=notice,
        )
        streaming[name].set()
        if len(runs) == len(scenarios):
            over.set()

    newcomers: list[Newcomer] = []
    async with anyio.create_task_group() as under_way:
        for name in scenarios:
            under_way.start_soon(follow, name)
        for event in streaming.values():
            await event.wait()
        at, began = datetime.now(UTC), anyio.current_time()
        process.terminate()
        under_way.start_soon(_come, client, process, _within(target, grace), newcomers)
        if await process.wait_ended(grace + SHUTDOWN_GRACE) is None:
            with anyio.move_on_after(began + grace + SHUTDOWN_GRACE - anyio.current_time()):
                await over.wait()
            process.kill()  # what is open still is cut off, and seen to have been open
    newcomers.sort(key=lambda one: one.after)
    outlives = (silence.scenario.seconds or 0.0) >= needed
    return ShutDown(at, tuple(runs[name] for name in scenarios), tuple(newcomers), outlives)


async def _come(
    client: Driver, process: ManagedProcess, timeouts: Timeouts, newcomers: list[Newcomer]
) -> None:
    """Start runs behind a SIGTERM, as long as somebody is there, and one at least."""
    control = client.control("complete")

    async def start(after: float) -> None:
        newcomers.append(Newcomer(after, await client.start(control, timeouts=timeouts)))

    waited = 0.0
    async with anyio.create_task_group() as starting:
        for after in NEWCOMERS:
            await process.wait_ended(after - waited)
            waited = after
            gone = any(one.recording.end.kind is EndKind.REFUSED for one in newcomers)
            if not gone and (process.alive or after == NEWCOMERS[0]):
                starting.start_soon(start, after)


def _within(target: Target, grace: float) -> Timeouts:
    """Time-outs of a start that is to be answered within the grace."""
    limit = round(grace + SHUTDOWN_GRACE, 3)
    waits = dict.fromkeys(("head", "first_event", "silence", "end"), limit)
    return target.timeouts.model_copy(update=waits)


def _has(client: Driver, scenario: str) -> bool:
    try:
        client.control(scenario)
    except NotTested:
        return False
    return True
