"""When events arrive: as they are made, not in heaps, and nothing stays behind at the end."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from conformance_cases.heartbeat import declared_pause, pauses
from conformance_cases.resume import ends_early
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import HEAD_AT_ONCE, HELD_BACK, SILENCE_SHORTFALL
from pytest_agentstream.verdicts import (
    ControlBroken,
    InDoubt,
    NotTested,
    expect,
    expect_at_most,
)

if TYPE_CHECKING:
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.observing import Observation

BUFFERED = "every user: the answer comes in heaps, or all at once after a long silence"


@requirement(
    "delivery.head-at-once",
    SHOULD,
    tier="live",
    text="The response head arrives at once, before the first event.",
    source="WHATWG HTML 9.2.3: open fires with the head; EventSource shows a connection by it",
    breaks="clients and proxies with a time-out for the head: they give up on a slow first token",
    hint="begin the response before the agent runs",
    presupposes=["heartbeat.invisible"],
    timing=True,
)
def test_head_at_once(slow_start_run: Observation) -> None:
    run = slow_start_run
    seconds = run.declared.seconds
    if seconds is None:
        raise NotTested(
            "`slow-start` does not say how long it takes to the first event",
            "declare it: slow-start = { …, seconds = 5 }",
        )
    head = run.first.head
    first = run.content[0].at if run.content else run.first.end.at
    if head is not None and head.at <= min(HEAD_AT_ONCE, seconds / 2):
        return  # at once, whatever the agent did then
    if first < seconds * SILENCE_SHORTFALL - run.lag:
        raise ControlBroken(
            "slow-start",
            expected=f"{seconds:g} s of silence before the first event, as declared",
            actual=f"the first event after {first:.3f} s",
            recording=run.first,
        )
    expect_at_most(
        head.at if head else first,
        min(HEAD_AT_ONCE, seconds / 2),
        lag=run.lag,
        from_request=True,
        expected=f"the head within {min(HEAD_AT_ONCE, seconds / 2):g} s",
        actual=f"the head after {head.at:.3f} s" if head else "no head",
        at=head,
        recording=run.first,
        hint="begin the response before the agent runs",
    )


def expect_spread(run: Observation) -> None:
    """Fail unless the planted pauses can be seen between the arrivals of events."""
    pause = run.declared.pause
    if pause is None:
        raise NotTested(
            f"`{run.scenario}` does not say how long it pauses between events",
            f"declare it: {run.scenario} = {{ …, pause = 0.5 }}",
        )
    if run.outcome is not Outcome.SUCCESS:
        raise NotTested(f"`{run.scenario}` did not end in success, so its pauses prove nothing")
    events = [event for event in run.content if event.exchange is run.first]
    lasted = max([run.terminals[0][0].at, *(event.at for event in events)])
    if lasted < pause * SILENCE_SHORTFALL - run.lag:
        raise ControlBroken(
            run.scenario,
            expected=f"pauses of {pause:g} s, as declared",
            actual=f"a run that took {lasted:.3f} s in all",
            recording=run.first,
        )
    longest, around = longest_gap(events)
    if abs(longest - pause / 2) <= run.lag:
        raise InDoubt(f"a gap of {longest:.3f} s between events where {pause:g} s are planted")
    gaps = [two.at - one.at for one, two in pairwise(events)]
    heaped = sum(gap < pause / 10 for gap in gaps)
    # so slow a run has no reason for heaps; the wait for the first event is not counted
    spread = bool(events) and events[-1].at - events[0].at >= len(events) * pause / 2
    expect(
        not spread or heaped * 2 <= len(gaps) + 1,
        expected=f"events that arrive one by one, with pauses of {pause:g} s",
        actual=f"{heaped + 1} of {len(events)} events in heaps, over {lasted:.3f} s",
        at=around,
    )
    expect(
        longest >= pause / 2,
        expected=f"pauses of {pause:g} s between events as they arrive",
        actual=f"{len(events)} events with no gap over {longest:.3f} s, the first after "
        f"{events[0].at if events else 0.0:.3f} s of {lasted:.3f} s",
        at=around,
    )


def longest_gap(events: list[Event]) -> tuple[float, tuple[Event, ...]]:
    gaps = [(two.at - one.at, (one, two)) for one, two in pairwise(events)]
    return max(gaps, key=lambda gap: gap[0], default=(0.0, tuple(events[:1])))


@requirement(
    "delivery.incremental",
    MUST,
    tier="live",
    text="Events arrive as they are made.",
    source="the point of a stream; sse-starlette #84, dify #41755",
    breaks=BUFFERED,
    hint="flush each event; look for compression, middleware and proxies that buffer",
    presupposes=["heartbeat.invisible"],
    timing=True,
)
def test_incremental(pauses_run: Observation) -> None:
    expect_spread(pauses_run)


@requirement(
    "delivery.incremental-gzip",
    MUST,
    tier="live",
    text="Events arrive as they are made, also for a client that accepts gzip.",
    source="RFC 9110 12.5.3; starlette PR 2753 (gzip middleware buffers)",
    breaks="browsers and every client that accepts gzip: they get heaps, while curl shows a stream",
    hint="leave text/event-stream out of compression, or flush the compressor with each event",
    presupposes=["delivery.incremental"],
    timing=True,
)
def test_incremental_gzip(gzip_run: Observation) -> None:
    expect_spread(gzip_run)


@requirement(
    "delivery.one-event-one-write",
    SHOULD,
    tier="live",
    text="An event is not held back until the next one.",
    source="the point of a stream",
    breaks="users: the last words before a pause come behind it",
    hint="write the blank line with its event, and flush",
    presupposes=["heartbeat.invisible"],
    timing=True,
)
def test_one_event_one_write(silence_run: Observation) -> None:
    run = silence_run
    marker = run.declared.marker
    if marker is None:
        raise NotTested(
            "no marker is declared that the agent emits right before its silence",
            'declare it: silence = { …, marker = "the last words" }',
        )
    run.needs_text()
    longest = declared_pause(run)
    bearing = [event for event in run.events if marker in (run.text_of(event) or "")]
    if not bearing:
        raise ControlBroken(
            run.scenario,
            expected=f"the marker {marker!r} in the text before the silence, as declared",
            actual="no such text",
            recording=run.first,
        )
    held = bearing[0].at
    least = min(longest.seconds, (run.declared.seconds or 0.0) * SILENCE_SHORTFALL)
    long = [pause for pause in pauses(run) if pause.seconds >= least]
    pause = next((p for p in long if p.start >= held), None) or next(
        (p for p in long if p.end == held), None
    )
    if pause is None and ends_early(run):
        raise NotTested("the silence goes over several streams, so nothing was held back in one")
    if pause is None or pause.end < held:
        ours = max(run.lag, run.denied)
        if longest.seconds <= ours * 2:
            raise InDoubt(f"a pause of {longest.seconds:.3f} s, and our own lag was {ours:.3f} s")
        raise ControlBroken(
            run.scenario,
            expected=f"the silence behind the marker {marker!r}, as declared",
            actual=f"a silence that is over {held - longest.end:.3f} s before it comes",
            recording=longest.exchange,
        )
    if pause.start == 0.0:
        raise NotTested(
            "the marker is the first event, so it may have been held back or slow to be made",
            "map a `silence` that says something before its marker",
        )
    after = held - pause.start
    expect_at_most(
        max(after, 0.0),
        max(HELD_BACK, pause.seconds / 2),
        lag=run.lag,
        expected="the marker's event before the silence",
        actual=f"it came {after:.3f} s into the silence, which lasted {pause.seconds:.3f} s",
        at=bearing[0],
        hint="write the blank line with its event, and flush",
    )


@requirement(
    "delivery.batching",
    SHOULD,
    tier="live",
    text="Batching leaves nothing behind at the end.",
    source="token batchers with a timer, such as agent-event-stream's",
    breaks="users: the last words are missing, and nobody says so",
    hint="flush the batch before the terminal",
    presupposes=[
        "framing.utf-8",
        "framing.newlines-in-text",
        "framing.unicode-separators",
        "terminal.last",
    ],
)
def test_batching(echo_run: Observation) -> None:
    run = echo_run
    if run.declared.text is None or not run.declared.verbatim:
        run.planted_segments("")
    run.needs_text()
    sent = run.declared.text or ""
    tail = sent[-20:]
    expect(
        run.text.endswith(tail),
        expected=f"the planted text to its end, {tail!r}",
        actual=f"text that ends in {run.text[-20:]!r}, {len(run.text)} of {len(sent)} characters",
        at=run.content[-1] if run.content else run.first,
    )
