"""What a client's going means: for its own run, and for everybody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance_cases.terminal import breaking_exchange, how_it_ended
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.requirements import MUST
from pytest_agentstream.verdicts import NotTested, expect, expect_at_most

if TYPE_CHECKING:
    from conformance_cases.probes.cuts import Left, LiveCut
    from conformance_cases.probes.upstream import GoneInside, Stopped
    from pytest_agentstream.observing import Observation

GONE = frozenset({404, 410})

SHORTEST_REST = 0.2
"""Seconds: what a run says in less may come at once, whether it waits or not."""


def expect_stopped(stopped: Stopped, what: str) -> None:
    """Fail unless the call of the run's LLM was closed within the limit; `what` should close it."""
    call, limit = stopped.call, stopped.limit
    after = None if call.ended is None else call.ended - stopped.at
    watched = limit if stopped.watched is None else stopped.watched
    unstopped = call.cancelled is None and (after is None or watched < after <= limit)
    if unstopped and watched < limit:
        raise NotTested(
            f"the work went on for {watched:g} s after {what}, as long as it was watched, "
            f"and may for {limit:g} s: clients are told to stay away for so long",
            "have the server ask for a shorter `retry`, of some seconds, while it is tested",
        )
    if call.cancelled is None and after is not None and after <= limit:
        raise NotTested(
            f"the LLM's answer was over {after:.2f} s after {what}, by itself: only one of "
            f"more than {limit:g} s shows who stops it"
        )
    expect(
        call.cancelled is not None and after is not None and after <= limit,
        expected=f"the end of the work, and of the call of the LLM, within {limit:g} s of {what}",
        actual=f"a call that went on for {'more than ' if after is None else ''}"
        f"{limit if after is None else after:.2f} s ({call.sent} bytes were sent)",
        at=stopped.run.last,
    )


@requirement(
    "disconnect.cancels",
    MUST,
    tier="resilient",
    text="Where a disconnect cancels, the work stops within 5 s and H of the client's going.",
    source="the dialect's resume: what a disconnect means",
    breaks="whoever pays for the LLM: it writes answers that nobody reads",
    hint="watch the connection beside the agent, and cancel the agent's task",
    presupposes=["cancel.explicit"],
    timing=True,
)
def test_cancels(left_run: Stopped) -> None:
    expect_stopped(left_run, "the client's going")


@requirement(
    "disconnect.continues",
    MUST,
    tier="resilient",
    text="Where a run goes on without its reader, it does, and can be joined again.",
    source="the dialect's resume: what a disconnect means",
    breaks="every client that resumes: it comes back to a run that is dead",
    hint="let the run belong to no connection",
    presupposes=["terminal.success-said", "resume.finished-run"],
)
def test_continues(live_cut: LiveCut, left_runs: list[Left], pauses_run: Observation) -> None:
    run = live_cut.run
    if pauses_run.outcome is not Outcome.SUCCESS:
        raise NotTested(f"`pauses` does not end in success anyway: {how_it_ended(pauses_run)}")
    if len(run.exchanges) < 2:
        raise NotTested("the client was never gone: the run was over before the cut")
    refused = run.last.status in GONE and not run.terminals
    died = run.outcome in {Outcome.CANCELLED, Outcome.FAILURE}
    expect(
        not (refused or died),
        expected="a run that goes on while nobody reads it, to its success",
        actual=f"status {run.last.status} where it was joined again"
        if refused
        else f"a terminal that says {run.outcome}, behind the client's going",
        at=run.terminals[0][0] if run.terminals else run.last,
    )
    if not run.terminals:
        raise NotTested(f"how the run ended is not known: {how_it_ended(run)}")
    if not left_runs:
        raise NotTested(
            "no client stayed away from `pauses` until it was over", "map a shorter one"
        )
    for left in left_runs:
        expect_gone_on(left, pauses_run)


def expect_gone_on(left: Left, uncut: Observation) -> None:
    """Fail where a run was not over when its client came back, as though it had waited.

    The first event behind the cut may have been on its way; what the run says behind the second
    takes as long again where it waits.
    """
    run, replayed = left.run, left.replayed
    if not left.was_joined or run.outcome is not uncut.outcome:
        return
    if len(replayed) < 2:
        raise NotTested(f"nothing shows that `{run.scenario}` went on behind {left.where}")
    rest = last_seconds(uncut, len(replayed))
    late = replayed[-1].at - replayed[0].at
    if rest < SHORTEST_REST or (late > rest / 2 and not uncut.declared.deterministic):
        raise NotTested(
            f"nothing shows that `{run.scenario}` went on behind {left.where}",
            f"where it is the same each time, declare it: {run.scenario} = "
            "{ …, pause = 0.3, deterministic = true }",
        )
    expect_at_most(
        late,
        rest / 2,
        lag=run.lag,
        denied=run.denied,
        expected=f"all that the run said in the {left.seconds:.2f} s that nobody read it, at once",
        actual=f"{late:.3f} s from the first event that was replayed to the last, as though it "
        "had waited",
        at=(replayed[0], replayed[-1]),
    )


def last_seconds(run: Observation, events: int) -> float:
    """How long the last of so many events took in a run, from the second of them."""
    lasting = [e for e in run.content if not e.ephemeral and e.exchange is run.first]
    counted = lasting[-events:][1:]
    return counted[-1].at - counted[0].at if counted else 0.0


def ended_well(run: Observation) -> bool:
    """Whether nothing went wrong in a run, in a dialect that may have no word for success."""
    if run.outcome is None:
        return breaking_exchange(run).ended_cleanly
    return run.outcome not in {Outcome.CANCELLED, Outcome.FAILURE}


@requirement(
    "disconnect.mid-event",
    MUST,
    tier="resilient",
    text="A client that goes inside an event harms nobody else.",
    source="the promise of a server: streams are independent",
    breaks="every other user of the process",
    hint="let an error of one connection end that connection's task only",
    presupposes=["terminal.success-said", "terminal.exactly-one"],
)
def test_mid_event(gone_inside: GoneInside, pauses_run: Observation) -> None:
    gone, beside = gone_inside.gone, gone_inside.beside
    if not gone_inside.in_time:
        raise NotTested("no client went while another run was under way", "map longer `pauses`")
    if not gone.last.broken_off:
        raise NotTested(f"the client did not go inside an event: {how_it_ended(gone)}")
    if not ended_well(pauses_run):
        raise NotTested(f"`pauses` does not end well anyway: {how_it_ended(pauses_run)}")
    cut = next((exchange for exchange in beside.exchanges if exchange.broken_off), None)
    expect(
        beside.outcome is pauses_run.outcome and ended_well(beside) and cut is None,
        expected="the run beside it to go on to its end, uncut, as `pauses` does alone",
        actual=how_it_ended(beside)
        if cut is None
        else f"a stream that broke off ({cut.end.kind}), as a client beside it went",
        at=cut or beside.last,
    )
