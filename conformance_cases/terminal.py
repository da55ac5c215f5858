"""How a run ends: with exactly one terminal, whatever happened, and with the truth in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_agentstream.cases import requirement, sample
from pytest_agentstream.dialects.payload import parse_json
from pytest_agentstream.dialects.reading import Outcome, Role
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import CLOSE_AFTER_TERMINAL
from pytest_agentstream.verdicts import (
    ControlBroken,
    NotApplicable,
    NotTested,
    expect,
    expect_at_most,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance_cases.probes.runs import Survivor
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording


def how_it_ended(run: Observation) -> str:
    """The end of a run in words: what was said last, and how the body ended."""
    exchange = breaking_exchange(run)
    last = run.events[-1] if run.events else None
    said = (
        f"the last event is {last.type or last.sentinel or 'without a type'}"
        if last
        else "no event"
    )
    ends = {
        EndKind.COMPLETE: "then the body ends cleanly",
        EndKind.CLOSE_DELIMITED: "then the connection closes, which ends the body",
        EndKind.CUT: "then the body is cut",
        EndKind.RESET: "then the connection is reset",
        EndKind.TIMEOUT: f"then nothing for the time-out ({exchange.end.phase})",
        EndKind.STOPPED: "and the stream was still open when the client stopped reading",
    }
    gone = "; since then the server refuses connections"
    after = gone if run.last.end.kind is EndKind.REFUSED and run.last is not exchange else ""
    return f"{said}, {ends.get(exchange.end.kind, str(exchange.end.kind))}{after}"


def breaking_exchange(run: Observation) -> Recording:
    """The last exchange that was answered at all: how that one ended is how the run did."""
    answered = [exchange for exchange in run.exchanges if exchange.head is not None]
    return answered[-1] if answered else run.last


def was_cut(run: Observation) -> bool:
    return breaking_exchange(run).broken_off


def breaks_of(run: Observation) -> str:
    """Who suffers from an end without a terminal: it depends on how the body ended."""
    habits = run.dialect.profile.habits
    return habits.cut if was_cut(run) else habits.clean_end


def until_cut(run: Observation) -> Observation:
    """The crashed run up to its first cut, unless a later exchange told of it: so it ended.

    A reconnect may have run the agent again, which neither excuses the crash nor denies it.
    """
    told = run.outcome not in {None, Outcome.SUCCESS} or run.last.end.kind is EndKind.REFUSED
    for number, exchange in enumerate(run.exchanges[:-1], 1):
        if exchange.broken_off and not told:
            return replace(run, run=replace(run.run, exchanges=run.exchanges[:number]))
    return run


def is_http_error(run: Observation) -> bool:
    return run.first.status is not None and run.first.status >= 400


@requirement(
    "terminal.success-said",
    MUST,
    tier="resilient",
    text="Success is said by a terminal, not implied by the end of the body.",
    source="the dialect's terminal; ag-ui #2300, litellm #40260, vllm-mlx #101",
    hint="send the terminal as the last thing of every run, in a finally block",
    presupposes=["framing.complete-blocks"],
)
def test_success_said(complete_run: Observation) -> None:
    expect(
        complete_run.terminals,
        expected="a terminal that says success",
        actual=how_it_ended(complete_run),
        at=breaking_exchange(complete_run),
        breaks=breaks_of(complete_run),
    )
    terminal, outcome = complete_run.terminals[0]
    expect(
        outcome is Outcome.SUCCESS,
        expected="a terminal that says success",
        actual=f"a terminal that says {outcome}",
        at=(*complete_run.errors[:1], terminal),
        hint="`complete` is mapped to a run that should end well; the server says it did not",
    )


@requirement(
    "terminal.exactly-one",
    MUST,
    tier="resilient",
    text="A run has exactly one terminal.",
    source="the dialect's terminal; ag-ui #1892, vllm PR 378",
    breaks="@ag-ui/client rejects the run; others handle an end twice, or wait for one",
    hint="one place that ends a run, guarded against a second call",
    presupposes=["terminal.success-said"],
    needs=sample(terminals=1),
)
def test_exactly_one(all_runs: list[Observation]) -> None:
    for run in all_runs:
        expect(
            len(run.terminals) < 2,
            expected="one terminal",
            actual=f"{len(run.terminals)} terminals",
            at=tuple(event for event, _ in run.terminals[:2]),
        )
    for run in all_runs:
        if run.scenario in GOOD:
            expect(
                run.terminals,
                expected="one terminal",
                actual=f"none in `{run.scenario}`: {how_it_ended(run)}",
                at=run.last,
                breaks=breaks_of(run),
            )


GOOD = frozenset({"complete", "tools", "silence", "slow-start", "echo", "long"})
"""Scenarios that end well; that crashes end at all is what `terminal.on-crash` is about."""


@requirement(
    "terminal.last",
    MUST,
    tier="resilient",
    text="No event comes after the terminal, except what the dialect puts there.",
    source="the dialect; agentscope-java #2642",
    breaks="@ag-ui/client rejects the run; others have let go of it",
    hint="end the stream with its terminal",
    presupposes=["terminal.exactly-one"],
    needs=sample(terminals=1),
)
def test_last(all_runs: list[Observation], dialect: Dialect) -> None:
    unwatched = False
    for run in all_runs:
        if not run.terminals:
            continue
        terminal, _ = run.terminals[0]
        for event in events_behind(run, terminal):
            allowed = any(
                dialect.matches_type(event.sentinel or event.type, glob)
                for glob in dialect.profile.order.after_terminal
            )
            expect(
                allowed or event.role is Role.HEARTBEAT,
                expected="nothing after the terminal",
                actual=f"{event.type or event.sentinel or 'an event without a type'} after "
                f"{terminal.type or terminal.sentinel}",
                at=(terminal, event),
            )
        seen = terminal.exchange.ended_cleanly or was_cut(run)
        unwatched |= not seen and terminal.exchange.end.at - terminal.at < CLOSE_AFTER_TERMINAL
    if unwatched:
        raise NotTested("a recording ends with the terminal: what came after is not known")


def events_behind(run: Observation, terminal: Event) -> list[Event]:
    """The events behind the terminal in its own exchange; a replay brings nothing new."""
    same = [event for event in run.events if event.exchange is terminal.exchange]
    return [event for event in same if event.block.index > terminal.block.index]


@requirement(
    "terminal.closes",
    MUST,
    tier="resilient",
    text="The stream ends within 2 seconds of its terminal.",
    source="the dialects' clients wait for the end of the body; dify PR 40042",
    breaks="clients that read to the end of the body, and the server's own connection limit",
    hint="return from the response handler behind the terminal",
    presupposes=["terminal.exactly-one", "terminal.last", "heartbeat.stops"],
    needs=sample(terminals=1),
    timing=True,
)
def test_closes(all_runs: list[Observation]) -> None:
    for run in (run for run in all_runs if run.terminals):
        terminal, _ = run.terminals[0]
        end = terminal.exchange.end
        if end.kind is EndKind.UNKNOWN:
            raise NotTested("the recording does not say how the exchange ended")
        after = end.at - terminal.at
        still_open = end.kind in {EndKind.STOPPED, EndKind.TIMEOUT}
        expect_at_most(
            max(after, CLOSE_AFTER_TERMINAL + 0.001) if still_open else after,
            CLOSE_AFTER_TERMINAL,
            lag=0.0 if still_open else run.lag,
            expected=f"the end of the body within {CLOSE_AFTER_TERMINAL:g} s of the terminal",
            actual=f"{'still open' if still_open else 'the end'} {after:.2f} s after it, "
            f"in `{run.scenario}`",
            at=(terminal, terminal.exchange),
        )


@requirement(
    "terminal.crash-is-not-success",
    MUST,
    tier="resilient",
    text="A crash is never reported as success.",
    source="the dialect's outcomes; agno PR 9487",
    breaks="whoever acts on the answer: half of it passes for all of it",
    hint="let the terminal's outcome follow from how the agent ended",
    presupposes=["framing.complete-blocks"],
)
def test_crash_is_not_success(crashed_runs: list[Observation]) -> None:
    if not crashed_runs:
        raise NotTested(
            "no crash could be provoked", 'map one: crash = { json = { message = "crash" } }'
        )
    for run in crashed_runs:
        expect_not_success(run)
    ended = [until_cut(run) for run in crashed_runs]
    if not any(run.terminals or was_cut(run) or is_http_error(run) for run in ended):
        raise NotTested(f"no terminal says how the crash ended: {how_it_ended(crashed_runs[0])}")


def expect_not_success(run: Observation) -> None:
    """Fail where a run that crashed says success; if nothing shows a crash, doubt the control."""
    run = until_cut(run)
    for event, outcome in run.terminals:
        if outcome is not Outcome.SUCCESS:
            continue
        planted = run.declared.marker is not None and run.declared.marker in run.text
        if run.scenario == "crash-tool" and run.run.control.startswith("mapped"):
            continue  # an agent may be told of its tool's failure, and go on without it
        if run.run.control.startswith("mapped") and not run.errors and not planted:
            raise ControlBroken(
                run.scenario,
                expected="a failure of the agent that shows in some way",
                actual="success and no error: either the mapping does not make the agent fail, or "
                "the server reports the failure as success",
                recording=event.exchange,
            )
        expect(
            False,
            expected="a terminal that says failure",
            actual="a terminal that says success",
            at=(*run.errors[:1], event),
        )


def expect_failure_said(run: Observation) -> None:
    """Fail unless a crash ended in an error event, a terminal, and a whole body."""
    run = until_cut(run)
    also: tuple[str, ...] = ()
    if was_cut(run):
        also = ("http.terminated-body does not hold in this run either: the cut is how it ended",)
    expect(
        run.terminals,
        expected="an error and a terminal, then the end of the body",
        actual=how_it_ended(run),
        at=breaking_exchange(run),
        breaks=breaks_of(run),
        also=also,
    )
    expect(
        not run.terminals[0][0].exchange.broken_off,
        expected="a whole body behind the terminal",
        actual=how_it_ended(run),
        at=(run.terminals[0][0], run.last),
        breaks=breaks_of(run),
    )
    if has_error_events(run):
        expect(
            run.errors or run.outcome is not Outcome.FAILURE or _says_why(run),
            expected="an error event before the terminal",
            actual=f"a terminal that says {run.outcome} and no error",
            at=run.terminals[0][0],
        )
    expect_not_success(run)


def has_error_events(run: Observation) -> bool:
    return run.dialect.profile.errors.event is not None


def _says_why(run: Observation) -> bool:
    """Whether the terminal is itself the dialect's error event."""
    return run.terminals[0][0].type == run.dialect.profile.errors.event


@requirement(
    "terminal.on-crash",
    MUST,
    tier="resilient",
    text="An exception in the agent ends in an error, a terminal, and a complete body.",
    source="the dialect's terminal; ag-ui #2531, agno PR 9487",
    hint="catch around the whole agent, send error and terminal, then return normally",
    presupposes=["terminal.crash-is-not-success"],
)
def test_on_crash(crash_run: Observation) -> None:
    if is_http_error(crash_run):
        raise NotTested(
            "the crash came before the stream began, and was an HTTP error",
            "map a `crash` that comes after some text",
        )
    expect_failure_said(crash_run)


@requirement(
    "terminal.on-crash-before-first",
    MUST,
    tier="resilient",
    text="An exception before the first event is an HTTP error, or an error and a terminal.",
    source="the dialect's terminal; kubently #65 (200 with an empty body)",
    hint="catch around the whole agent, its start included",
    presupposes=["terminal.crash-is-not-success"],
)
def test_on_crash_before_first(crash_first_run: Observation) -> None:
    if not is_http_error(crash_first_run):
        expect_failure_said(crash_first_run)


@requirement(
    "terminal.base-exceptions",
    MUST,
    tier="resilient",
    text="CancelledError and SystemExit in the agent end like any other exception.",
    source="Python: both derive from BaseException, so that `except Exception` lets them pass",
    hint="catch BaseException around the agent, or end the run in a finally block",
    presupposes=["terminal.on-crash"],
)
def test_base_exceptions(crash_cancelled_run: Observation, crash_exit_run: Observation) -> None:
    for run in (crash_cancelled_run, crash_exit_run):
        if not is_http_error(run):
            expect_failure_said(run)


@requirement(
    "terminal.nothing-lost-before-crash",
    MUST,
    tier="resilient",
    text="What the agent emitted before it crashed arrives before the error.",
    source="fastapi.sse loses the last event before an exception",
    breaks="users, who lose the last words; and whoever debugs the crash by them",
    hint="flush what is queued before the error is sent",
    presupposes=["terminal.crash-is-not-success"],
)
def test_nothing_lost_before_crash(crash_run: Observation) -> None:
    marker = crash_run.declared.marker
    if marker is None:
        raise NotTested(
            "no marker is declared that the agent emits last before it crashes",
            'declare it: crash = { …, marker = "the last words" }',
        )
    crash_run = until_cut(crash_run)
    crash_run.needs_text()
    error = crash_run.errors[0] if crash_run.errors else None
    before = [
        event
        for event in crash_run.events
        if error is None
        or event.exchange is not error.exchange
        or event.block.index < error.block.index
        if crash_run.text_of(event) is not None
    ]
    text = "".join(crash_run.text_of(event) or "" for event in before)
    expect(
        marker in text,
        expected=f"the marker {marker!r} before the {'cut' if error is None else 'error'}",
        actual=f"text that ends in {text[-40:]!r}",
        at=(*before[-1:], error if error is not None else crash_run.last),
    )


@requirement(
    "terminal.no-internals",
    MUST,
    tier="resilient",
    text="A secret in an exception's text never reaches the client.",
    source="CWE-209: error messages with sensitive information",
    breaks="the operator: paths, queries and keys are shown to every user",
    hint="send a fixed sentence and an id; log the exception",
)
def test_no_internals(all_runs: list[Observation]) -> None:
    planted = [run for run in all_runs if run.declared.secret]
    if not planted:
        raise NotTested(
            "no secret is declared that the crash's exception carries",
            'declare it: crash = { …, secret = "srv/app" }',
        )
    for run in planted:
        secret = run.declared.secret or ""
        for exchange in run.exchanges:
            at = exchange.body.find(secret.encode())
            expect(
                at < 0,
                expected="no text of the exception",
                actual=f"the planted secret at byte {at}",
                at=_block_at(exchange, at),
                recording=exchange,
            )
            expect(
                not any(secret in text for text in decoded(exchange)),
                expected="no text of the exception",
                actual="the planted secret, once headers and JSON are decoded",
                at=exchange,
            )
        for event in run.events:
            expect(
                not any(secret in text for text in leaves(event.payload)),
                expected="no text of the exception",
                actual="the planted secret, once the JSON is decoded",
                at=event,
            )
        expect(
            secret not in run.text,
            expected="no text of the exception",
            actual="the planted secret, in the text of several events",
            at=run.last,
        )
    if all(run.outcome is Outcome.SUCCESS and not run.errors for run in planted):
        raise NotTested(
            "no run that was to crash shows a failure, so no exception's text could have leaked",
            f"mend the mapping of `{planted[0].scenario}`",
        )


def leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    for part in value if isinstance(value, list | dict) else ():
        yield from leaves(part)
    if isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)


def decoded(exchange: Recording) -> Iterator[str]:
    """The texts of an answer beside its events: header values, and the JSON of a refusal."""
    if exchange.head is not None:
        yield from (value for _, value in exchange.head.headers)
    if not exchange.is_stream:
        yield from leaves(parse_json(exchange.body[:REFUSAL].decode("utf-8", "replace")).value)


def _block_at(exchange: Recording, offset: int):  # type: ignore[no-untyped-def]
    return next((b for b in exchange.blocks if b.start <= offset < b.end), exchange)


REFUSAL = 65536
"""Bytes of a refusal that are read."""

STACK = re.compile(
    r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+"
    r"|\bat [\w.$<>]+ ?\([^)]*:\d+(:\d+)?\)"
)


@requirement(
    "terminal.no-stack-traces",
    SHOULD,
    tier="resilient",
    text="An error says nothing that looks like a stack trace.",
    source="CWE-209; a heuristic, so never more than a warning",
    breaks="the operator: the inside of the server is shown to every user",
    hint="send a fixed sentence and an id; log the exception",
    presupposes=["terminal.no-internals"],
)
def test_no_stack_traces(bad_runs: list[Observation], broken_upstreams: list[Observation]) -> None:
    failed = bad_runs + broken_upstreams
    errors = [(run, event) for run in failed for event in run.errors]
    refused = [run for run in failed if is_http_error(run)]
    if not failed:
        raise NotTested("no failure could be provoked", "map a `crash` or a `fail` scenario")
    if not errors and not refused:
        raise NotApplicable("no failure ended in an error whose text could be read")
    for _, event in errors:
        found = STACK.search(repr(event.payload).replace("\\\\n", "\n"))
        expect(
            found is None,
            expected="a sentence for users",
            actual=f"what looks like a stack trace: {found[0]!r}" if found else "",
            at=event,
        )
    for run in refused:
        found = STACK.search(run.first.body[:65536].decode("utf-8", "replace"))
        expect(
            found is None,
            expected="a sentence for users",
            actual=f"what looks like a stack trace: {found[0]!r}" if found else "",
            at=run.first,
        )


@requirement(
    "terminal.handled-failure",
    MUST,
    tier="resilient",
    text="A failure that the agent reports itself ends in an error and a terminal for it.",
    source="the dialect's terminal and outcomes",
    breaks="whoever acts on the outcome",
    hint="let the terminal's outcome follow from the error",
    presupposes=["framing.complete-blocks"],
)
def test_handled_failure(fail_run: Observation) -> None:
    if is_http_error(fail_run):
        return
    expect_failure_said(fail_run)


@requirement(
    "terminal.interrupt-said",
    MUST,
    tier="resilient",
    text="Waiting for a person is said, as the dialect says it.",
    source="the dialect",
    breaks="users, who are not asked and wait",
    hint="send the dialect's event before waiting",
)
def test_interrupt_said(interrupt_run: Observation) -> None:
    asked = [event for event in interrupt_run.events if event.role is Role.INPUT]
    expect(
        asked or interrupt_run.outcome is Outcome.INTERRUPT,
        expected="an event that asks for input, or a terminal that says interrupt",
        actual=how_it_ended(interrupt_run),
        at=interrupt_run.last,
    )


@requirement(
    "terminal.interrupt-answered",
    MUST,
    tier="resilient",
    text="A run that waits for a person goes on with the answer, to its terminal.",
    source="the dialect",
    breaks="users, who answer and see nothing happen",
    hint="wake the run when the answer comes",
    presupposes=["terminal.interrupt-said", "framing.complete-blocks"],
)
def test_interrupt_answered(interrupt_run: Observation, dialect: Dialect) -> None:
    if dialect.profile.resume.answer is None:
        raise NotTested(f"the dialect {dialect.name} does not declare how a run is answered")
    expect(
        interrupt_run.outcome is Outcome.SUCCESS,
        expected="success, once the answer was given",
        actual=how_it_ended(interrupt_run),
        at=interrupt_run.last,
    )


@requirement(
    "terminal.others-survive-crash",
    MUST,
    tier="resilient",
    text="One run's crash leaves the others as they are.",
    source="the promise of a server: runs are independent",
    breaks="every other user of the process",
    hint="catch around each run; nothing a run raises may leave its task",
    presupposes=["terminal.success-said", "terminal.exactly-one"],
)
def test_others_survive_crash(survivor_run: Survivor) -> None:
    run, crash = survivor_run.run, survivor_run.crash
    if run.outcome is Outcome.SUCCESS and crash is None:
        raise NotTested("no crash was over while another run was under way", "map a longer silence")
    if crash is not None and crash.outcome is Outcome.SUCCESS and not crash.errors:
        raise NotTested("nothing crashed beside the run", "mend the mapping of `crash`")
    expect(
        run.outcome is Outcome.SUCCESS,
        expected="the run beside the crash to end in success",
        actual=how_it_ended(run),
        at=run.last,
    )
