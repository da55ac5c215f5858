"""What a server makes of an LLM that fails: it says so, in time, and goes on living meanwhile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conformance_cases.heartbeat import expect_pace, interval, pauses
from conformance_cases.keeping import elapsed
from conformance_cases.probes.upstream import is_left_open
from conformance_cases.terminal import (
    breaking_exchange,
    expect_failure_said,
    how_it_ended,
    is_http_error,
    leaves,
)
from pytest_agentstream.cases import requirement
from pytest_agentstream.controls import DOUBLE
from pytest_agentstream.dialects.paths import find
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import SILENCE_NEEDED, deadline_limit
from pytest_agentstream.verdicts import NotTested, expect, expect_at_most

if TYPE_CHECKING:
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.target import Target

BROKEN = {"U+FFFD": re.compile("\ufffd"), "half a character": re.compile("[\ud800-\udfff]")}
"""What a character that came in two parts may become."""

SAID = ["terminal.on-crash", "terminal.handled-failure"]


@requirement(
    "terminal.on-upstream-error",
    MUST,
    tier="resilient",
    text="An LLM that answers 5xx or 429 again and again ends the run in an error and a terminal.",
    source="the dialect's terminal; RFC 9110 15.6: a gateway says that its upstream failed",
    breaks="users, who wait for an answer that nobody writes",
    hint="bound the SDK's retries; catch its exceptions around the whole agent",
    presupposes=SAID,
)
def test_on_upstream_error(failed_upstreams: list[Observation]) -> None:
    for run in failed_upstreams:
        expect_failure(run)


def expect_failure(run: Observation) -> None:
    """Fail unless the run says that it failed: before its stream, in HTTP, or in the stream."""
    if not is_http_error(run):
        expect_failure_said(run)


@requirement(
    "terminal.on-upstream-cut",
    MUST,
    tier="resilient",
    text="An LLM's answer that is cut off is an error, not a short success.",
    source="the dialect's outcomes; RFC 9112 8: an incomplete message is no message",
    breaks="whoever acts on the answer: half of it passes for all of it",
    hint="do not end the stream as usual when the upstream's body did not end",
    presupposes=SAID,
)
def test_on_upstream_cut(upstream_cut_run: Observation) -> None:
    expect_failure(upstream_cut_run)


@requirement(
    "terminal.on-upstream-short",
    SHOULD,
    tier="resilient",
    text="An LLM's answer that ends without a finish reason is not a plain success.",
    source="the LLM dialects: a finish reason or stop reason ends every answer",
    breaks="whoever acts on the answer: half of it passes for all of it",
    hint="report success only when the model has said why it stopped",
    presupposes=SAID,
)
def test_on_upstream_short(
    upstream_short_run: Observation, cut_upstream: list[Observation]
) -> None:
    if not upstream_short_run.is_incomplete:
        stop_if_alike(upstream_short_run, cut_upstream)
        expect_failure(upstream_short_run)


def stop_if_alike(run: Observation, cut: list[Observation]) -> None:
    """Raise `NotTested` where a failure is said with the flaw of `terminal.on-upstream-cut`.

    That is one cause, and red there: an error is said, and no terminal behind it.
    """
    if any(_without_terminal(one) and _without_terminal(run) for one in cut):
        raise NotTested(
            "it is said by an error without a terminal, as where the LLM's answer is cut off",
            "mend terminal.on-upstream-cut first",
        )


def _without_terminal(run: Observation) -> bool:
    return bool(run.errors) and not run.terminals


@requirement(
    "terminal.on-upstream-garbage",
    MUST,
    tier="resilient",
    text="Malformed data from the LLM ends the run in an error and a terminal.",
    source="the dialect's terminal; RFC 8259: what is lost in it is not known",
    breaks="users: the stream dies, or goes on without what was lost",
    hint="catch the SDK's decoding errors with all its others",
    presupposes=SAID,
)
def test_on_upstream_garbage(
    upstream_garbage_run: Observation, cut_upstream: list[Observation]
) -> None:
    stop_if_alike(upstream_garbage_run, cut_upstream)
    expect_failure(upstream_garbage_run)


@requirement(
    "terminal.truncation-said",
    SHOULD,
    tier="resilient",
    text="An answer that stops at a length limit or a filter, or is empty, is not a plain success.",
    source="the LLM dialects' finish reasons; the dialect's place for them",
    breaks="whoever acts on the answer: it stops in its middle, and nothing says so",
    hint="hand the finish reason on",
    presupposes=["terminal.success-said"],
)
def test_truncation_said(upstream_truncated_run: Observation) -> None:
    run = upstream_truncated_run
    if not (run.terminals or is_http_error(run)):
        raise NotTested(f"the run did not come to a terminal: {how_it_ended(run)}")
    expect(
        run.is_incomplete or run.outcome is not Outcome.SUCCESS,
        expected="a word that the answer is not whole, where the dialect has a place for it",
        actual="a plain success, and the LLM stopped at its length limit",
        at=run.terminals[0][0] if run.terminals else run.last,
    )


@requirement(
    "terminal.deadline",
    MUST,
    tier="resilient",
    text="An LLM that hangs ends the run within its declared deadline.",
    source="the deadline that the configuration declares",
    breaks="users, who wait for ever; and the server, whose runs pile up",
    hint="bound the whole run, not only its calls",
    presupposes=["terminal.on-crash"],
    timing=True,
)
def test_deadline(upstream_stall_run: Observation, cut_upstream: list[Observation]) -> None:
    run, deadline = upstream_stall_run, upstream_stall_run.declared.deadline
    if deadline is None:
        raise NotTested(
            "no deadline is declared for a run whose LLM hangs",
            "declare it: [tool.agentstream.scenarios] upstream-stall = { deadline = 60 }",
        )
    limit, exchange = deadline_limit(deadline), breaking_exchange(run)
    terminal = run.terminals[0][0] if run.terminals else None
    last = terminal.exchange if terminal else exchange
    ended = elapsed(run, last, terminal.at if terminal else exchange.end.at)
    still_open = not terminal and exchange.end.kind in {EndKind.TIMEOUT, EndKind.STOPPED}
    if (still_open or is_left_open(run)) and ended < limit:
        raise NotTested(
            f"the run was given up after {ended:.1f} s, sooner than its deadline of {deadline:g} s",
            "declare a shorter one, or raise timeouts.end",
        )
    expect_at_most(
        ended,
        limit,
        lag=0.0 if still_open else run.lag,
        expected=f"the end of the run within {limit:.2f} s, for a deadline of {deadline:g} s",
        actual=f"{how_it_ended(run)}, after {ended:.2f} s",
        at=terminal or exchange,
        from_request=True,
    )
    stop_if_alike(run, cut_upstream)
    expect_failure(run)


@requirement(
    "heartbeat.while-upstream-stalls",
    MUST,
    tier="live",
    text="Heartbeats go on while the LLM hangs.",
    source="the promise of H",
    breaks="clients and proxies that count on H: they give up on a living run",
    hint="beat beside the agent; never call the LLM in a way that blocks the event loop",
    presupposes=["heartbeat.keeps-pace"],
    timing=True,
)
def test_while_upstream_stalls(
    upstream_stall_run: Observation, target: Target, dialect: Dialect
) -> None:
    h = interval(target, dialect)
    if is_http_error(upstream_stall_run):
        raise NotTested("the run failed in HTTP, before there was a stream")
    longest = max(pauses(upstream_stall_run), key=lambda pause: pause.seconds)
    needed = SILENCE_NEEDED * h
    if longest.seconds < needed:
        raise NotTested(
            f"needs an LLM that hangs for {needed:g} s, and the run ended after "
            f"{longest.seconds:.2f} s of it",
            "promise a shorter H, or a longer deadline",
        )
    expect_pace(upstream_stall_run, longest, h)


@requirement(
    "retry.consistent",
    SHOULD,
    tier="resilient",
    text="The LLM's 429 and 503 get the same retry class, before the stream and in it.",
    source="RFC 9110 15.6.4 and RFC 6585 4: both say to come back later; the dialect's errors",
    breaks="clients, which give up on what can succeed, or retry what another part calls final",
    hint="classify in one place, by the upstream's status",
    presupposes=["terminal.on-upstream-error", "retry.class-in-stream"],
)
def test_consistent(throttled_upstreams: list[Observation]) -> None:
    classes = [
        (run, found) for run in throttled_upstreams if (found := retry_class(run)) is not None
    ]
    if len(classes) < 2:
        raise NotTested(f"{len(classes)} runs whose LLM said 429 or 503 have a retry class", DOUBLE)
    first, said = classes[0]
    for run, other in classes[1:]:
        expect(
            other is said,
            expected=f"retryable {str(said).lower()}, as in `{first.scenario}`",
            actual=f"retryable {str(other).lower()} in `{run.scenario}`",
            at=tuple(one.errors[0] if one.errors else one.first for one in (first, run)),
        )


def retry_class(run: Observation) -> bool | None:
    """Whether a failed run says that a retry can help; None where it does not say."""
    errors = run.dialect.profile.errors
    if is_http_error(run):
        return run.first.status in errors.retryable_statuses
    for event in run.errors:
        value = find(event.payload, errors.retryable_path) if errors.retryable_path else None
        if isinstance(value, bool):
            return value
    return None


@requirement(
    "framing.no-replacement-characters",
    SHOULD,
    tier="core",
    text="A character that comes from the LLM in two parts arrives whole: no U+FFFD, no half.",
    source="Unicode 3.9: U+FFFD stands for what could not be decoded; RFC 8259 8.2 on halves",
    breaks="users of every language but English",
    hint="decode the upstream's bytes incrementally; join surrogate halves before encoding",
    presupposes=["framing.utf-8"],
)
def test_no_replacement_characters(upstream_split_run: Observation) -> None:
    run = upstream_split_run
    run.needs_text()
    for event in run.events:
        for what, broken in BROKEN.items():
            found = [text for text in leaves(event.payload) if broken.search(text)]
            expect(
                not found,
                expected="the characters that the LLM sent",
                actual=f"{what} in {found[0][:60]!r}" if found else "",
                at=event,
            )
    expect(
        run.outcome is Outcome.SUCCESS,
        expected="a run that ends in success, since the LLM did",
        actual=f"{how_it_ended(run)}, in a run whose LLM sends characters in two parts",
        at=(*run.errors[:1], run.last),
    )
    if not any(ord(character) > 0x7F for character in run.text):
        raise NotTested("no text that the LLM sent came through")
