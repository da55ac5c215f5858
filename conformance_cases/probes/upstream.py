"""Runs whose LLM fails, hangs, or answers slowly: behind the server stands the LLM double."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from conformance_cases.keeping import elapsed
from conformance_cases.probes.cuts import INTO
from conformance_cases.probes.requests import Asked
from conformance_cases.probes.runs import until_told
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.faults import Cut
from pytest_agentstream.probing import probe
from pytest_agentstream.recording import Phase
from pytest_agentstream.tolerances import SILENCE_NEEDED, deadline_limit, stop_limit
from pytest_agentstream.verdicts import NotApplicable, NotTested
from pytest_agentstream.watching import Watch, after_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.controls import Control
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.doubles import Call, LlmDouble
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block

OVERLOADED = frozenset({429, 503})

UNDER_WAY = 3
"""Events after which a run has heard from its LLM: the first may come before it is asked."""

EARLIER = frozenset({Phase.HEAD, Phase.FIRST_EVENT, Phase.SILENCE})
"""Waits that are given up before a run's time is over: by `timeouts.end` it has to have failed."""

SHORTEST_GRACE = 1.0
GRACE_FACTOR = 3.0
"""A reader may come back: where a dialect can resume, a run waits for it as long as that takes."""

LONGEST_GRACE = 60.0
"""Seconds; a run that may wait for its reader for longer is not watched for so long."""

OUTLASTS = 1.5
"""A slow answer goes on for so many times as long as its run is watched."""

BEFORE_THE_STALL = 2.0
"""Seconds within which a stalling answer has begun."""


TOLD_WITHIN = 5.0
"""Seconds for which a run is joined again whose streams end without its terminal."""


async def _failing(client: Driver, dialect: Dialect, scenario: str) -> Observation:
    """A run whose LLM fails; raises `NotTested` where its own retries outlast our patience."""
    control = client.control(scenario)
    run = await client.run(scenario, control=control, backoff=until_told(dialect, TOLD_WITHIN))
    end, waited = run.last.end, elapsed(run, run.last, run.last.end.at)
    given_up = end.phase in EARLIER or is_left_open(run)
    if given_up and still_tries(client.calls_of(control), waited, time.monotonic()):
        what = end.phase or Phase.END
        raise NotTested(
            f"the server still asked its failing LLM again when it was given up after {waited:.1f} "
            f"s ({what})",
            f"raise timeouts.{what.name.lower()}, or bound the server's own retries",
        )
    return run


def is_left_open(run: Observation) -> bool:
    """Whether the client gave a run up whose streams end cleanly, one by one, without a terminal.

    It may have gone on behind them.
    """
    last = run.last
    return len(run.exchanges) > 1 and not run.terminals and last.is_stream and last.ended_cleanly


def still_tries(calls: Sequence[Call], waited: float, now: float) -> bool:
    """Whether a second or later call began in the last half of a wait of that many seconds.

    Each pause of a usual backoff is as long as all before it together.
    """
    return len(calls) > 1 and now - calls[-1].began < waited / 2


@probe(scenarios=["upstream-error"])
async def upstream_error_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM answers every call with 500."""
    return await _failing(client, dialect, "upstream-error")


@probe(scenarios=["upstream-rate-limit"])
async def upstream_rate_limit_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM answers every call with 429."""
    return await _failing(client, dialect, "upstream-rate-limit")


@probe(scenarios=["upstream-rate-limit-later"])
async def upstream_rate_limit_later_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM answers with 429 once a tool was called."""
    return await _failing(client, dialect, "upstream-rate-limit-later")


@probe(scenarios=["upstream-unavailable"])
async def upstream_unavailable_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM answers every call with 503."""
    return await _failing(client, dialect, "upstream-unavailable")


@probe(scenarios=["upstream-unavailable-later"])
async def upstream_unavailable_later_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM answers with 503 once a tool was called."""
    return await _failing(client, dialect, "upstream-unavailable-later")


@probe(scenarios=["upstream-cut"])
async def upstream_cut_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM's answer is cut off."""
    return await client.run("upstream-cut", backoff=until_told(dialect, TOLD_WITHIN))


@probe(scenarios=["upstream-short"])
async def upstream_short_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM's answer ends without a finish reason."""
    control = client.control("upstream-short")
    backoff = until_told(dialect, TOLD_WITHIN)
    run = await client.run("upstream-short", control=control, backoff=backoff)
    if run.outcome is Outcome.SUCCESS and asked_again(client.calls_of(control)):
        raise NotTested(
            "the server asked its LLM again, in a call that got a whole answer, so that its "
            "success may be a true one"
        )
    return run


def asked_again(calls: Sequence[Call]) -> bool:
    """Whether a call that got a minimal answer, as one without a stream does, came behind others.

    In one piece no answer ends without a finish reason, so that the double has only whole ones.
    """
    played = [call.began for call in calls if call.played]
    return any(not call.played and call.began > min(played, default=call.began) for call in calls)


@probe(scenarios=["upstream-garbage"])
async def upstream_garbage_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM sends something that is no JSON."""
    return await client.run("upstream-garbage", backoff=until_told(dialect, TOLD_WITHIN))


@probe(scenarios=["upstream-truncated"])
async def upstream_truncated_run(client: Driver) -> Observation:
    """A run whose LLM stops at its length limit."""
    return await client.run("upstream-truncated")


@probe(scenarios=["upstream-split"])
async def upstream_split_run(client: Driver, dialect: Dialect) -> Observation:
    """A run whose LLM sends characters in two parts."""
    return await client.run("upstream-split", backoff=until_told(dialect, TOLD_WITHIN))


@probe(scenarios=["upstream-stall"])
async def upstream_stall_run(client: Driver, target: Target, dialect: Dialect) -> Observation:
    """A run whose LLM hangs, for as long as its deadline or its heartbeats need to be seen."""
    control = client.control("upstream-stall")
    deadline, h = control.scenario.deadline, client.interval
    if deadline is None and h is None:
        raise NotTested(
            "neither a deadline nor a heartbeat interval is promised",
            "declare one: [tool.agentstream.scenarios] upstream-stall = { deadline = 60 }",
        )
    enough = BEFORE_THE_STALL + (SILENCE_NEEDED + 1) * (h or 0.0)
    if deadline is not None:
        enough = max(enough, deadline_limit(deadline) + 1.0)
    limits = target.timeouts
    bound = min(enough, limits.end)
    bounds = dict.fromkeys(("first_event", "silence"), bound)
    bounds["head"] = max(limits.head, bound)
    bounds["end"] = min(2 * bound, limits.end)  # a client that comes again waits for half of it
    timeouts = limits.model_copy(update=bounds)
    began = time.monotonic()

    def notice(block: Block) -> Watch | None:
        late = time.monotonic() - began > bound
        return Watch(0, f"not over after {bound:g} s") if late else None

    return await client.run(
        "upstream-stall",
        control=control,
        backoff=until_told(dialect, bound),
        timeouts=timeouts,
        on_block=notice,
    )


FAILED = ("upstream_rate_limit_run", "upstream_unavailable_run")
THROTTLED = (
    "upstream_rate_limit_later_run",
    "upstream_unavailable_run",
    "upstream_unavailable_later_run",
)


def with_others(*runs: Observation | None) -> list[Observation]:
    return [run for run in runs if run is not None]


@probe(runs=0, optional=FAILED)
async def failed_upstreams(
    upstream_error_run: Observation,
    upstream_rate_limit_run: Observation | None,
    upstream_unavailable_run: Observation | None,
) -> list[Observation]:
    """Every run whose LLM answers with an error, and that could be provoked."""
    return with_others(upstream_error_run, upstream_rate_limit_run, upstream_unavailable_run)


@probe(runs=0, optional=THROTTLED)
async def throttled_upstreams(
    upstream_rate_limit_run: Observation,
    upstream_rate_limit_later_run: Observation | None,
    upstream_unavailable_run: Observation | None,
    upstream_unavailable_later_run: Observation | None,
) -> list[Observation]:
    """Every run whose LLM says to come back later, at its first call or at a later one."""
    return with_others(
        upstream_rate_limit_run,
        upstream_rate_limit_later_run,
        upstream_unavailable_run,
        upstream_unavailable_later_run,
    )


@probe(runs=0, optional=["upstream_cut_run"])
async def cut_upstream(upstream_cut_run: Observation | None) -> list[Observation]:
    """The run whose LLM's answer is cut off, if it could be provoked."""
    return with_others(upstream_cut_run)


BROKEN = ("upstream_error_run", "upstream_rate_limit_run", "upstream_cut_run")
GARBLED = ("upstream_short_run", "upstream_garbage_run", "upstream_stall_run")


@probe(runs=0, optional=(*BROKEN, *GARBLED))
async def broken_upstreams(
    upstream_error_run: Observation | None,
    upstream_rate_limit_run: Observation | None,
    upstream_cut_run: Observation | None,
    upstream_short_run: Observation | None,
    upstream_garbage_run: Observation | None,
    upstream_stall_run: Observation | None,
) -> list[Observation]:
    """Every run whose LLM fails, in whatever way, and that could be provoked."""
    refused = (upstream_error_run, upstream_rate_limit_run, upstream_cut_run)
    return with_others(*refused, upstream_short_run, upstream_garbage_run, upstream_stall_run)


@probe(runs=0, optional=["overloaded", "upstream_rate_limit_run", "upstream_unavailable_run"])
async def overloads(
    overloaded: Asked | None,
    upstream_rate_limit_run: Observation | None,
    upstream_unavailable_run: Observation | None,
) -> list[Asked]:
    """Every 429 and 503: of a server that is asked too much, and of one whose LLM is."""
    runs = with_others(upstream_rate_limit_run, upstream_unavailable_run)
    passed_on = [
        Asked(f"a run whose LLM says so (`{run.scenario}`)", run.first)
        for run in runs
        if run.first.status in OVERLOADED
    ]
    return passed_on if overloaded is None else [overloaded, *passed_on]


@dataclass(frozen=True)
class Stopped:
    """A run that was to stop, and the call of its LLM.

    `at` is when the client cancelled or went, as `time.monotonic()` says, and `limit` how many
    seconds later the work has stopped; `watched`, where it is less, how many it was watched for.
    `answers` are those to the cancels.
    """

    run: Observation
    call: Call
    at: float
    limit: float
    answers: tuple[Recording, ...] = ()
    watched: float | None = None


def slow(client: Driver, seconds: float | None = None) -> tuple[Control, str]:
    """How a slow answer is asked for, of `seconds` at least, and its tag.

    Raises `NotTested` where it is not scripted.
    """
    control = client.control("upstream-slow", seconds=seconds)
    if control.tag is None:
        raise NotTested(
            "`upstream-slow` is mapped, so that the LLM double does not know its calls",
            "leave that mapping out: the double does it",
        )
    return control, control.tag


async def call_of(double: LlmDouble, tag: str, until: float) -> Call:
    """The call of a run once it has ended, or as it is at a time of `time.monotonic()`."""
    try:
        return await double.wait_for(tag, ended=True, seconds=max(until - time.monotonic(), 0.01))
    except TimeoutError:
        pass
    try:
        return await double.wait_for(tag, seconds=0.01)
    except TimeoutError:
        raise NotTested("the run's LLM was not asked before the run was to stop") from None


@probe(scenarios=["upstream-slow"])
async def cancelled_run(client: Driver, dialect: Dialect, double: LlmDouble) -> Stopped:
    """A run that is cancelled while its LLM answers, and once more when it is over."""
    if dialect.profile.resume.cancel is None:
        raise NotApplicable(f"the dialect {dialect.name} has no request that cancels a run")
    control, tag = slow(client)
    limit = stop_limit(client.interval)
    backoff = until_told(dialect, limit)
    seen: list[Event] = []
    answers: list[Recording] = []
    under_way = anyio.Event()
    asked: list[float] = []

    def notice(block: Block) -> Watch | None:
        if len(seen) < UNDER_WAY:
            seen.extend(client.events_of(block))
        if len(seen) >= UNDER_WAY:
            under_way.set()
        late = asked and time.monotonic() - asked[0] > limit
        return Watch(0, f"not over {limit:g} s after it was cancelled") if late else None

    async def cancel() -> None:
        await under_way.wait()
        asked.append(time.monotonic())
        answers.append(await client.cancel(seen[-1]))

    async with anyio.create_task_group() as beside:
        beside.start_soon(cancel)
        run = await client.run("upstream-slow", control=control, on_block=notice, backoff=backoff)
        if not asked:
            beside.cancel_scope.cancel()
    if not asked:
        raise NotTested("the run was over before it could be cancelled")
    answers.append(await client.cancel(seen[-1]))
    call = await call_of(double, tag, asked[0] + limit)
    return Stopped(run, call, asked[0], limit, tuple(answers))


@probe(scenarios=["upstream-slow"])
async def left_run(
    client: Driver, dialect: Dialect, double: LlmDouble, complete_run: Observation
) -> Stopped:
    """A run whose client goes while the LLM answers, where that cancels it."""
    known = grace_of(complete_run)
    watched = stop_limit(client.interval) + min(known, LONGEST_GRACE)
    control, tag = slow(client, watched * OUTLASTS)
    if dialect.profile.start.disconnect_cancels:
        control = client.cancelled_by_leaving(control)
    leaves = after_events(UNDER_WAY)
    run = await client.run("upstream-slow", control=control, on_block=leaves, reconnect=False)
    left = time.monotonic()
    if run.terminals:
        raise NotTested("the run was over before its client could go")
    limit = stop_limit(client.interval) + max(known, grace_of(run))
    return Stopped(run, await call_of(double, tag, left + watched), left, limit, (), watched)


def grace_of(run: Observation) -> float:
    """Seconds that a run which can be resumed waits for its reader."""
    if run.dialect.profile.resume.kind == "none":
        return 0.0
    said: Sequence[int] = [block.retry for block in run.blocks if block.retry is not None]
    return max(GRACE_FACTOR * (said[-1] if said else 0) / 1000, SHORTEST_GRACE)


@dataclass(frozen=True)
class GoneInside:
    """A run whose client went inside an event, and one that was under way beside it."""

    gone: Observation
    beside: Observation
    in_time: bool


@probe(scenarios=["pauses", "pauses"], exclusive=True)
async def gone_inside(client: Driver) -> GoneInside:
    """A client that goes inside a block, beside another one: it may end a careless process."""
    under_way = anyio.Event()
    gone: list[Observation] = []
    over: list[Observation] = []

    def notice(block: Block) -> None:
        if block.event is not None:
            under_way.set()

    async def go_inside() -> None:
        await under_way.wait()
        plan = (Cut(after_event=0, into_next=INTO, how="rst"),)
        async with client.through(plan) as cutting:
            run = await cutting.run("pauses", leaves=True, reconnect=False)
        if not over:
            gone.append(run)

    client.control("pauses")
    async with anyio.create_task_group() as group:
        group.start_soon(go_inside)
        beside = await client.run("pauses", on_block=notice)
        over.append(beside)
        under_way.set()
    return GoneInside(gone[0] if gone else beside, beside, bool(gone))
