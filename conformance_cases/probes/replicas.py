"""Runs that are started at one replica and read at another."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio

from conformance_cases.keeping import moment
from conformance_cases.probes.cuts import AWAY, noticing, resumable
from conformance_cases.probes.readback import Answer, cursors_of
from pytest_agentstream.driving import is_refused
from pytest_agentstream.probing import probe
from pytest_agentstream.scripts import tag_in
from pytest_agentstream.tolerances import CALLED_WITHIN
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance_cases.probes.killing import Killed
    from pytest_agentstream.controls import Control
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.doubles import Call, LlmDouble
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block

LONGEST_AWAY = 10.0
"""Seconds; where clients are asked to stay away for longer, nobody is waited for so long."""


@dataclass(frozen=True)
class Elsewhere:
    """A run of one replica, and what another had of it.

    `live` came behind the first cursor while the run went on, `over` behind `cursor` when it had
    ended. `again` is the same start with the same idempotency key. A replica may hear of it late:
    what it refuses is asked for once more, no sooner than a client comes that was cut off and waits
    as long as the server's `retry` says.
    """

    run: Observation
    live: Recording | None
    over: Answer
    again: Recording | None


@dataclass(frozen=True)
class _Twice:
    """A run of one replica, joined and started again at another; see `Elsewhere`.

    `wait` is for how many seconds a client stays away that was cut off, `asked` what the server's
    `retry` says of that.
    """

    run: Observation
    live: Recording | None
    again: Recording | None
    wait: float
    asked: float


async def at_both(client: Driver, other: Driver, control: Control, dialect: Dialect) -> _Twice:
    """Start a run; join it, and start it again with its key, at another replica."""
    first: list[Event] = []
    seen = anyio.Event()
    live: list[Recording] = []
    again: list[Recording] = []
    key = dialect.profile.start.idempotency_header
    headers = {key: client.unique()} if key is not None else {}
    away = (control.scenario.pause or 0.0) * AWAY
    asked = [0]
    begun = noticing(client, first, seen)

    def notice(block: Block) -> None:
        if block.retry is not None:
            asked.append(block.retry)
        begun(block)

    def wait() -> float:
        return min(max(away, asked[-1] / 1000), LONGEST_AWAY)

    async def join() -> None:
        await seen.wait()
        await anyio.sleep(away)
        with suppress(NotTested):  # where the dialect gives a run no address of its own
            live.append(await other.join_patiently(first[0], wait()))

    async def start_again() -> None:
        await seen.wait()
        await anyio.sleep(wait())
        again.append(await other.start_patiently(control, joins=True, headers=headers))

    async with anyio.create_task_group() as beside:
        beside.start_soon(join)
        if headers:
            beside.start_soon(start_again)
        run = await client.run("pauses", control=control, headers=headers, on_block=notice)
        if not first:
            beside.cancel_scope.cancel()
    joined, started = (found[0] if found else None for found in (live, again))
    return _Twice(run, joined, started, wait(), asked[-1] / 1000)


@probe(scenarios=["pauses"])
async def elsewhere(
    client: Driver, replicas: Sequence[Driver], pauses_run: Observation, dialect: Dialect
) -> Elsewhere:
    """A run at one replica, joined, started again, and read back at another."""
    resumable(client, pauses_run)
    other, control = replicas[0], client.control("pauses")
    twice = await at_both(client, other, control, dialect)
    cursors = cursors_of(twice.run)
    middle = cursors[len(cursors) // 2].text
    for seconds in ((control.scenario.pause or 0.0) * AWAY, twice.wait):
        await anyio.sleep(seconds)
        answer = await other.resume_patiently(twice.run, middle, **other.replaying)
        if not is_refused(answer):
            break
    refused = is_refused(answer) or (twice.live is not None and is_refused(twice.live))
    if refused and twice.asked > LONGEST_AWAY:
        raise NotTested(
            "the other replica did not know the run yet, and clients are asked to stay away for "
            f"{twice.asked:g} s, longer than the {LONGEST_AWAY:g} s that are waited for"
        )
    return Elsewhere(twice.run, twice.live, Answer(middle, answer), twice.again)


@dataclass(frozen=True)
class Paid:
    """How many answers of the LLM were begun for a run that two processes saw, in `what` way.

    `usual` is how many a run like it takes that one process sees alone.
    """

    run: Observation
    what: str
    calls: int
    usual: int


@probe(scenarios=["pauses", "pauses"])
async def paid_twice(
    client: Driver, replicas: Sequence[Driver], double: LlmDouble, dialect: Dialect
) -> Paid:
    """A run that is joined and started again at another replica, and one that is not."""
    controls = [client.control("pauses", scripted=True) for _ in range(2)]
    if any(control.tag is None for control in controls):
        raise NotTested(
            "`pauses` is mapped, so that the LLM double does not know its calls",
            "leave that mapping out: the double does it",
        )
    both, alone = controls
    async with anyio.create_task_group() as beside:
        beside.start_soon(partial(client.run, "pauses", control=alone))
        twice = await at_both(client, replicas[0], both, dialect)
    asked, over = twice.again or twice.live, moment(twice.run.last, twice.run.last.end.at)
    if asked is None or asked.head is None or moment(asked, asked.head.at) >= over:
        raise NotTested("no other replica could be asked for a run while it was under way")
    await anyio.sleep(CALLED_WITHIN)  # on a busy machine a second executor asks late
    usual, found = (len(answers_of(double.calls, control.tag)) for control in (alone, both))
    return Paid(twice.run, "started again and joined at another replica", found, usual)


def answers_of(calls: Sequence[Call], tag: str | None) -> list[float]:
    """When the answers of the LLM began that a run with this tag got, by `time.monotonic()`.

    A call for something beside, such as a title, is none of them.
    """
    return [call.began for call in calls if call.played and tag and call.tag == tag]


@dataclass(frozen=True)
class Executions:
    """What would show that a run was executed or ended twice; None is what could not be tried.

    `doubled` is whether there is an LLM double, which counts what was paid.
    """

    killed: Killed | None
    elsewhere: Elsewhere | None
    paid: tuple[Paid, ...] = ()
    doubled: bool = False


@probe(runs=0, optional=("killed_run", "elsewhere", "paid_twice", "double", "long_run"))
async def executions(
    killed_run: Killed | None,
    elsewhere: Elsewhere | None,
    paid_twice: Paid | None,
    long_run: Observation | None,
    double: LlmDouble | None,
) -> Executions:
    """A run whose process was killed, and one that was started at two replicas."""
    if killed_run is None and elsewhere is None:
        raise NotTested(
            "no second process could execute or end a run",
            "have two started: --agentstream-command … --agentstream-command …",
        )
    paid = [] if paid_twice is None else [paid_twice]
    if double is not None and killed_run is not None and long_run is not None:
        paid += around_kill(double.calls, killed_run, long_run)
    return Executions(killed_run, elsewhere, tuple(paid), double is not None)


def around_kill(calls: Sequence[Call], killed: Killed, alone: Observation) -> list[Paid]:
    """What was paid for a run until its process was killed, and what behind that."""
    usual = len(answers_of(calls, tag_in(alone.declared.prompt)))
    at = killed.at.timestamp() - time.time() + time.monotonic()
    behind = [began > at for began in answers_of(calls, tag_in(killed.run.declared.prompt))]
    return [
        Paid(killed.run, "until its process was killed", behind.count(False), usual),
        Paid(killed.run, "when its process had been killed", behind.count(True), usual),
    ]
