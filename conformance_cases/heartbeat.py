"""Signs of life: H is the promised interval, and every limit is H times a named tolerance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from conformance_cases.keeping import elapsed
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome, Role
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import (
    FLOOD_GRACE,
    HEARTBEATS_PER_INTERVAL,
    IDLE_CUT,
    IDLE_CUT_DOUBT,
    SILENCE_NEEDED,
    SILENCE_SHORTFALL,
    heartbeat_limit,
)
from pytest_agentstream.verdicts import (
    ControlBroken,
    InDoubt,
    NotApplicable,
    NotTested,
    expect,
    expect_at_most,
)

if TYPE_CHECKING:
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block


@dataclass(frozen=True, slots=True)
class Pause:
    """A span of time without events that carry the run, in one exchange; times in seconds."""

    exchange: Recording
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def interval(target: Target, dialect: Dialect) -> float:
    """H in seconds; raises `NotTested` where none is promised."""
    h = target.heartbeat or dialect.profile.heartbeat.interval
    if h is None:
        raise NotTested(
            "no heartbeat interval is promised", "promise one: --agentstream-heartbeat 15"
        )
    return h


def pauses(run: Observation) -> list[Pause]:
    """The pauses between events that carry the run, the wait for the first included."""
    found = []
    for exchange in run.exchanges:
        times = [0.0]
        times += [
            e.at for e in run.events if e.exchange is exchange and e.role is not Role.HEARTBEAT
        ]
        if exchange.end.kind is not EndKind.STOPPED and not run.terminals:
            times.append(exchange.end.at)
        found += [Pause(exchange, start, end) for start, end in pairwise(times)]
    return found


def arrivals(pause: Pause) -> list[float]:
    """When anything at all arrived within a pause, its edges included; the head counts.

    The first bytes of the event that ends the pause are none of it, comments before them are.
    """
    exchange = pause.exchange
    ending = next((b for b in exchange.blocks if b.event and b.at == pause.end), None)
    fields = [line for line in ending.lines if line.kind == "field"] if ending else []
    edge = exchange.arrival(fields[0].start) if fields else pause.end
    head = [exchange.head.at] if exchange.head else []
    times = [*head, *(chunk.at for chunk in exchange.chunks)]
    inside = [at for at in times if pause.start < at < edge]
    return [pause.start, *inside, pause.end]


def declared_pause(run: Observation, *, inside: bool = False) -> Pause:
    """The pause that the scenario declares, found in the run; `inside` it, not before it begins.

    Raises `NotTested` where none is declared and `ControlBroken` where there is none so long.
    """
    seconds = run.declared.seconds
    if seconds is None:
        raise NotTested(
            f"`{run.scenario}` does not say how long its pause is",
            f"declare it: {run.scenario} = {{ …, seconds = 55 }}",
        )
    found = [
        one for one in pauses(run) if not (inside and one.exchange is run.first and not one.start)
    ]
    none = Pause(run.first, 0.0, 0.0)
    longest = max(found, key=lambda pause: pause.seconds, default=none)
    shortfall = seconds * SILENCE_SHORTFALL - longest.seconds
    if 0 < shortfall <= run.lag:
        raise InDoubt(f"a pause of {longest.seconds:.3f} s instead of {seconds:g} s")
    if shortfall > 0 and run.outcome is not Outcome.SUCCESS:
        raise NotTested(f"`{run.scenario}` did not end in success, so its pause proves nothing")
    if shortfall > 0 and across_streams(run, inside=inside) >= seconds * SILENCE_SHORTFALL:
        raise NotTested(
            f"the pause of {seconds:g} s goes over several streams, each ended before it was over, "
            f"and the longest part of it is {longest.seconds:.3f} s",
            "let streams go on for longer than that while they are tested",
        )
    if shortfall > 0:
        raise ControlBroken(
            run.scenario,
            expected=f"a pause of {seconds:g} s between events, as declared",
            actual=f"no pause longer than {longest.seconds:.3f} s",
            recording=longest.exchange,
        )
    return longest


def across_streams(run: Observation, *, inside: bool = False) -> float:
    """The longest pause of a run, the time between its streams included; see `declared_pause`."""
    carrying = [event for event in run.events if event.role is not Role.HEARTBEAT]
    times = [] if inside else [0.0]
    times += [elapsed(run, event.exchange, event.at) for event in carrying]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def silence(run: Observation, h: float) -> Pause:
    """The silence of a run; raises `NotTested` where it is too short to prove anything."""
    seconds = run.declared.seconds
    if seconds is not None and seconds < SILENCE_NEEDED * h * (1 - 1e-6):
        raise NotTested(
            f"needs a `silence` of {SILENCE_NEEDED * h:g} s; the mapped one lasts {seconds:g} s",
            f"map a longer one, with seconds = {SILENCE_NEEDED * h:g}, or promise a shorter H",
        )
    return declared_pause(run, inside=True)


def expect_pace(run: Observation, pause: Pause, h: float) -> None:
    """Fail unless something arrived at least every H, with the tolerance of `heartbeat_limit`."""
    limit = heartbeat_limit(h)
    start, end = max(pairwise(arrivals(pause)), key=lambda pair: pair[1] - pair[0])
    expect_at_most(
        end - start,
        limit,
        lag=run.lag,
        denied=run.denied,
        expected=f"something at least every {h:g} s (no gap over {limit:.3f} s)",
        actual=f"nothing for {end - start:.3f} s, from {start:.3f} s to {end:.3f} s",
        at=_at(pause, end),
        recording=pause.exchange,
    )


def _at(pause: Pause, when: float) -> Block | Recording:
    """The block that ended a gap, or the exchange where none did."""
    return next((b for b in pause.exchange.blocks if b.at >= when), pause.exchange)


@requirement(
    "heartbeat.invisible",
    MUST,
    tier="live",
    text="Heartbeats are comments, or events that the dialect calls heartbeats.",
    source="WHATWG HTML 9.2.7: a comment line about every 15 seconds; the dialect",
    breaks="every client that shows what it gets: an empty token is a token",
    hint="send a comment line",
    timing=True,
)
def test_invisible(silence_run: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    try:
        if len(arrivals(silence(silence_run, h))) == 2:
            raise NotApplicable("the server sends no heartbeat, not in the whole silence")
    except ControlBroken:
        same = Counter(repr((event.type, event.payload)) for event in silence_run.content)
        what, times = same.most_common(1)[0] if same else ("", 0)
        seconds = silence_run.declared.seconds or 0.0
        lasted = sum(pause.seconds for pause in pauses(silence_run))
        if times < 3 or lasted < seconds * SILENCE_SHORTFALL:
            raise
        events = [e for e in silence_run.content if repr((e.type, e.payload)) == what]
        expect(
            False,
            expected="comments, or heartbeat events of the dialect",
            actual=f"the same {events[0].type} event {times} times, through the whole silence",
            at=tuple(events[:2]),
        )


@requirement(
    "heartbeat.present",
    MUST,
    tier="live",
    text="Something is sent during a silence.",
    source="WHATWG HTML 9.2.7; the promise of H",
    breaks="whoever sits behind a load balancer: the idle connection is cut without a word",
    hint="send a comment line when nothing else was sent for H/2",
    presupposes=["heartbeat.invisible"],
    timing=True,
)
def test_present(silence_run: Observation, target: Target, dialect: Dialect) -> None:
    pause = silence(silence_run, interval(target, dialect))
    expect(
        len(arrivals(pause)) > 2,
        expected="at least one sign of life during the silence",
        actual=f"not one byte for {pause.seconds:.3f} s, "
        f"from {pause.start:.3f} s to {pause.end:.3f} s",
        at=_at(pause, pause.end),
        recording=pause.exchange,
    )


@requirement(
    "heartbeat.keeps-pace",
    MUST,
    tier="live",
    text="No gap is longer than H for the whole of a silence.",
    source="the promise of H",
    breaks="proxies and clients that count on H: they cut a living stream",
    hint="restart the heartbeat's timer after each heartbeat, too",
    presupposes=["heartbeat.present"],
    timing=True,
)
def test_keeps_pace(silence_run: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    expect_pace(silence_run, silence(silence_run, h), h)


@requirement(
    "heartbeat.starts-early",
    MUST,
    tier="live",
    text="Heartbeats begin before the first event.",
    source="the promise of H; agent-framework #6611, CopilotKit #6980",
    breaks="clients that wait for a slow first token: they give up on a living run",
    hint="start the heartbeat with the response, not with the first event",
    presupposes=["heartbeat.keeps-pace", "delivery.head-at-once"],
    timing=True,
)
def test_starts_early(slow_start_run: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    expect_pace(slow_start_run, _long_enough(slow_start_run, h), h)


@requirement(
    "heartbeat.while-tool-runs",
    MUST,
    tier="live",
    text="Heartbeats go on while a tool runs.",
    source="the promise of H; pydantic-ai #8389",
    breaks="clients that wait for a slow tool: they give up on a living run",
    hint="beat beside the agent, not between its events",
    presupposes=["heartbeat.keeps-pace"],
    timing=True,
)
def test_while_tool_runs(tools_run: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    expect_pace(tools_run, _long_enough(tools_run, h), h)


def _long_enough(run: Observation, h: float) -> Pause:
    """The declared pause of a run, if a heartbeat is due within it."""
    needed = heartbeat_limit(h) / SILENCE_SHORTFALL
    seconds = run.declared.seconds
    if seconds is not None and seconds <= needed:
        raise NotTested(
            f"needs a `{run.scenario}` that pauses for over {needed:.2f} s, not {seconds:g} s",
            f"map a longer one, with seconds = {2 * h:g}",
        )
    return declared_pause(run)


@requirement(
    "heartbeat.no-cursor",
    MUST,
    tier="live",
    text="Heartbeats never move the cursor past an event that was not delivered.",
    source="WHATWG HTML 9.2.6: an id takes effect without data, too; NVIDIA aiq #272",
    breaks="every client that resumes: the event with that number is lost",
    hint="send no id with a heartbeat",
)
def test_no_cursor(all_runs: list[Observation]) -> None:
    comments = any(block.comments for run in all_runs for block in run.blocks)
    events = any(e.ephemeral or e.role is Role.HEARTBEAT for run in all_runs for e in run.events)
    if not comments and not events:
        raise NotTested("no heartbeat was seen", "map a `silence` scenario, so that one is due")
    for run in all_runs:
        for exchange in run.exchanges:
            for block in exchange.blocks:
                silent = block.event is None and block.complete
                expect(
                    not (silent and block.id and block.comments),
                    expected="a heartbeat without an id",
                    actual=f"the id {block.id!r} and no event",
                    at=block,
                    recording=exchange,
                )
        before = None
        for event in run.events:
            moved = event.cursor is not None and event.cursor != before
            expect(
                not ((event.ephemeral or event.role is Role.HEARTBEAT) and moved),
                expected="a heartbeat without an id of its own",
                actual=f"a heartbeat with the id {event.cursor}",
                at=event,
            )
            before = event.cursor


@requirement(
    "heartbeat.not-a-flood",
    SHOULD,
    tier="live",
    text="An idle stream gets about five heartbeats per H at the most.",
    source="the promise of H",
    breaks="batteries and logs",
    hint="one heartbeat every H/2 is plenty",
    presupposes=["heartbeat.present"],
    timing=True,
)
def test_not_a_flood(silence_run: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    pause = silence(silence_run, h)
    allowed = HEARTBEATS_PER_INTERVAL * pause.seconds / h + FLOOD_GRACE
    came = heartbeats_within(silence_run, pause)
    expect(
        came <= allowed,
        expected=f"at most {allowed:.0f} heartbeats in {pause.seconds:.2f} s",
        actual=f"{came} heartbeats",
        at=_at(pause, pause.end),
        recording=pause.exchange,
    )


def heartbeats_within(run: Observation, pause: Pause) -> int:
    """Comment lines and heartbeat events that arrived within a pause."""
    exchange = pause.exchange
    comments = [
        line.start for block in exchange.blocks for line in block.lines if line.kind == "comment"
    ]
    times = [exchange.arrival(start) for start in comments]
    times += [e.at for e in run.events if e.role is Role.HEARTBEAT and e.exchange is exchange]
    return sum(1 for at in times if pause.start < at < pause.end)


@requirement(
    "heartbeat.survives-idle-cut",
    MUST,
    tier="live",
    text="A stream outlives a silence behind a proxy that cuts idle connections after 1.5 H.",
    source="the promise of H; load balancers cut idle connections without a word",
    breaks="whoever sits behind a load balancer: the stream dies silently",
    hint="send a comment line when nothing else was sent for H/2",
    presupposes=["heartbeat.keeps-pace", "terminal.success-said"],
    timing=True,
)
def test_survives_idle_cut(idle_cut: Observation, target: Target, dialect: Dialect) -> None:
    h = interval(target, dialect)
    succeeded = idle_cut.outcome is Outcome.SUCCESS
    if not (succeeded or idle_cut.last.broken_off):
        raise NotTested(
            f"`silence` did not end in success, and not by a cut either ({idle_cut.last.end.kind})",
            "map a silence that the server outlives without any proxy",
        )
    if not succeeded and idle_cut.lag > IDLE_CUT_DOUBT * h:
        # the proxy that cuts shares our loop: late itself, it cuts a good server
        raise InDoubt(
            f"a cut after {idle_cut.last.end.at:.2f} s, beside {idle_cut.lag:.3f} s of lag"
        )
    expect(
        succeeded,
        expected=f"the whole run through a proxy that cuts after {IDLE_CUT * h:g} s without a byte",
        actual=f"a cut after {idle_cut.last.end.at:.2f} s ({idle_cut.last.end.kind})",
        at=idle_cut.last,
    )
    gap = max(end - start for start, end in pairwise(arrivals(silence(idle_cut, h))))
    if gap > IDLE_CUT * h:
        raise InDoubt(
            f"{gap:.3f} s without a byte were not cut, {idle_cut.lag:.3f} s of lag beside it"
        )


@requirement(
    "heartbeat.stops",
    MUST,
    tier="live",
    text="There are no heartbeats for ever behind the terminal.",
    source="the promise of H: a heartbeat says that something may still come",
    breaks="clients that wait for the end of the body: they wait for ever",
    hint="end the stream with its terminal, and the heartbeat with the stream",
)
def test_stops(all_runs: list[Observation]) -> None:
    terminals = [run.terminals[0][0] for run in all_runs if run.terminals]
    if not terminals:
        raise NotTested("no run has a terminal behind which heartbeats could go on")
    for terminal in terminals:
        exchange = terminal.exchange
        behind = [
            block
            for block in exchange.blocks
            if block.index > terminal.block.index and block.comments
        ]
        expect(
            exchange.ended_cleanly or not behind,
            expected="no heartbeats behind the terminal",
            actual=f"{sum(len(b.comments) for b in behind)} heartbeats in the "
            f"{exchange.end.at - terminal.at:.1f} s that were watched, and no end",
            at=tuple(behind[:2]),
            recording=exchange,
        )
