"""How runs end when their process does: told to, or without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance_cases.durable import (
    expect_retryable,
    joined_with,
    restarted,
    seconds_behind,
    stop_if_leased,
)
from conformance_cases.keeping import keeping_of, moment
from conformance_cases.probes.killing import LONGEST_LEASE
from conformance_cases.terminal import how_it_ended
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.recording import EndKind, Run
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import HANGS, LEASE_FACTOR, LEASE_GRACE, SHUTDOWN_GRACE
from pytest_agentstream.verdicts import NotTested, expect, expect_at_most

if TYPE_CHECKING:
    from datetime import datetime

    from conformance_cases.probes.killing import Killed, Newcomer, ShutDown
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.target import Target

REFUSALS = frozenset({429, 502, 503, 504})
"""Statuses that say to come again; a gateway before a server that is gone has two of its own."""

NO_ANSWER = frozenset({EndKind.REFUSED, EndKind.RESET, EndKind.CUT})


@requirement(
    "terminal.on-shutdown",
    MUST,
    tier="resilient",
    text="At SIGTERM open streams end within the grace: as they should, or in a retryable error.",
    source="docs/protocol.md 6.9; the declared shutdown grace",
    breaks="every client that is connected while a new version is deployed",
    hint="at SIGTERM, before connections are closed, end what still runs in a retryable error",
    presupposes=["terminal.exactly-one"],
    timing=True,
)
def test_on_shutdown(shut_down: ShutDown, dialect: Dialect, target: Target) -> None:
    grace = target.grace or 0.0
    judged: list[Observation] = []
    for run in shut_down.runs:
        ended = run.terminals[0][0] if run.terminals else None
        if ended is not None and moment(ended.exchange, ended.at) < shut_down.at:
            continue  # it was over before
        if ended is None and not was_open(run, shut_down.at):
            continue  # nobody could come again to be told
        judged.append(run)
        cut = next((e for e in run.exchanges if e.broken_off and e.head is not None), None)
        expect(
            ended is None or cut is None or moment(cut, cut.end.at) < shut_down.at,
            expected=f"the end of the stream of `{run.scenario}` as it should, behind SIGTERM",
            actual=f"a stream that broke off ({cut.end.kind if cut else ''}), behind SIGTERM",
            at=cut,
        )
        after = (moment(run.last, run.last.end.at) - shut_down.at).total_seconds()
        expect(
            ended is not None,
            expected=f"the end of `{run.scenario}`, or a retryable error and the terminal, within "
            f"{grace:g} s of SIGTERM",
            actual=f"{how_it_ended(run)}, {after:.2f} s after SIGTERM",
            at=run.last,
        )
        if ended is None:
            continue
        expect_at_most(
            (moment(ended.exchange, ended.at) - shut_down.at).total_seconds(),
            grace + SHUTDOWN_GRACE,
            lag=run.lag,
            expected=f"the terminal within {grace:g} s of SIGTERM",
            actual=f"the terminal {after:.2f} s after it",
            at=ended,
            from_request=True,
        )
        outcome = run.terminals[0][1]
        expect(
            outcome in {Outcome.SUCCESS, Outcome.FAILURE},
            expected="a run that comes to its end, or ends in a retryable error",
            actual=f"a terminal that says {outcome}, which nobody tries again",
            at=ended,
        )
        if outcome is Outcome.FAILURE:
            expect_retryable(run, ended, dialect)
    if not judged:
        raise NotTested("every run or its stream was over before SIGTERM", "map a longer `silence`")
    if not shut_down.outlives and all(run.outcome is Outcome.SUCCESS for run in judged):
        raise NotTested(
            f"every run came to its end, and none lasts longer than the grace of {grace:g} s",
            "map a longer `silence`, with its `seconds`, or declare a shorter grace",
        )


def was_open(run: Observation, at: datetime) -> bool:
    """Whether a stream of the run was open at that time, and is no one that ends early anyway."""
    ends = [(one, moment(one, one.end.at)) for one in run.exchanges if one.is_stream]
    behind = [one for one, end in ends if end >= at and moment(one, 0.0) <= at]
    early = any(one.ended_cleanly and end < at for one, end in ends)
    return any(not (early and one.ended_cleanly) for one in behind)


@requirement(
    "terminal.refuses-on-shutdown",
    SHOULD,
    tier="resilient",
    text="Runs that are started while the server ends are refused, or get 503.",
    source="RFC 9110 15.6.4: the server is unable to handle the request, and when to retry",
    breaks="clients that start a run during a deployment: they wait for a server that is gone",
    hint="answer 503 with Retry-After from SIGTERM on, or close the listening socket first",
    timing=True,
)
def test_refuses_on_shutdown(shut_down: ShutDown, dialect: Dialect) -> None:
    for newcomer in shut_down.newcomers:
        expect_turned_away(newcomer, dialect)


def expect_turned_away(newcomer: Newcomer, dialect: Dialect) -> None:
    """Fail where a start was left hanging, or begun and dropped; one that is served is fine."""
    answer, came = newcomer.recording, f"a run started {newcomer.after:g} s after SIGTERM"
    if answer.head is None:
        actual = f"no answer for {answer.end.at:.2f} s ({answer.end.kind})"
        expected = f"a refusal, or 503, for {came}"
        expect(answer.end.kind in NO_ANSWER, expected=expected, actual=actual, at=answer)
        expect_at_most(
            answer.end.at,
            HANGS,
            lag=answer.lag,
            denied=answer.denied,
            expected=expected,
            actual=actual,
            at=answer,
            from_request=True,
        )
        return
    if not answer.is_stream:
        expect(
            answer.status in REFUSALS,
            expected=f"503 for {came}",
            actual=f"status {answer.status}",
            at=answer.head,
            recording=answer,
        )
        return
    reading = dialect.read(Run("complete", "", (answer,)))
    expect(
        reading.terminals,
        expected=f"a refusal, or 503, for {came}, or a whole run",
        actual=f"a stream of {len(reading.events)} events without a terminal",
        at=answer,
    )


@requirement(
    "terminal.dead-producer",
    MUST,
    tier="resilient",
    text="A run whose process is dead ends for its readers: no heartbeats for ever.",
    source="docs/protocol.md 4.4",
    breaks="clients that trust heartbeats: the stream looks alive, and nothing comes any more",
    hint="let the process that produces a run hold a lease; whoever finds it expired ends the run",
    presupposes=["terminal.exactly-one", "durable.other-replica"],
    timing=True,
)
def test_dead_producer(killed_run: Killed, target: Target) -> None:
    killed = restarted(killed_run)
    reader = killed.beside
    if reader is None:
        raise NotTested(
            "nobody read the run through another process than the one that was killed",
            "have a second one started: --agentstream-command … --agentstream-command …",
        )
    if not reader.is_stream:
        raise NotTested(
            f"the other replica answered {reader.status} to the run; see durable.other-replica"
        )
    seen = joined_with(killed.run, reader)
    if not seen.terminals and reader.broken_off and killed.whole[1:]:
        seen = joined_with(killed.run, killed.whole[1])  # its client comes again
        expect(
            seen.terminals,
            expected="the run's terminal at the other replica",
            actual=how_it_ended(seen),
            at=killed.whole[1],
        )
        raise NotTested(
            "the other replica dropped the reader, and the run was read again only when its "
            "process had been started again; whether anybody notices without that is not known"
        )
    lease = keeping_of(killed.run, target).lease
    after = seconds_behind(killed, reader)
    if not seen.terminals:
        stop_if_leased(killed, reader, lease)
    expect(
        seen.terminals,
        expected="a terminal for the reader at another replica, once the run's process is dead",
        actual=f"{how_it_ended(seen)}, {after:.1f} s after SIGKILL",
        at=reader,
    )
    terminal, _ = seen.terminals[0]
    ended = moment(terminal.exchange, terminal.at)
    waited_for = lease is not None and lease <= LONGEST_LEASE
    if not waited_for and killed.restarted is not None and ended > killed.restarted:
        raise NotTested(
            "the run ended when its process was started again; whether anybody notices without "
            "that is not known",
            f"declare a lease of at most {LONGEST_LEASE:g} s: [tool.agentstream] lease = 30",
        )
    if lease is None:
        return
    expect_at_most(
        (ended - killed.at).total_seconds(),
        lease * LEASE_FACTOR + LEASE_GRACE,
        lag=reader.lag,
        expected=f"a terminal soon behind the lease of {lease:g} s",
        actual=f"the terminal {(ended - killed.at).total_seconds():.2f} s after SIGKILL",
        at=terminal,
        from_request=True,
    )
