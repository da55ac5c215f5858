"""The ids of a run's events: there, once each, in order, and fit for a header."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement, sample
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.observing import intact
from pytest_agentstream.requirements import MUST
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from conformance_cases.probes.readback import TwoRuns
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Cursor, Event
    from pytest_agentstream.observing import Observation

LONGEST_ID = 256
EVENTSOURCE = "EventSource and every client that resumes by Last-Event-ID"


def is_cursor(event: Event, numbered: bool) -> bool:
    """Whether the event has an id that is a cursor of the dialect."""
    return event.cursor is not None and (event.cursor.number is not None or not numbered)


def first_exchange(run: Observation) -> list[tuple[Event, Cursor]]:
    """The identified events as first sent, without what a reconnect repeated."""
    return [(event, cursor) for event, cursor in run.identified if event.exchange is run.first]


@requirement(
    "ids.present",
    MUST,
    tier="resumable",
    text="Every event that must not be lost has an id.",
    source="WHATWG HTML 9.2.6: the last event id is what a reconnect sends",
    breaks=f"{EVENTSOURCE}: an event without an id is sent again, or not at all",
    hint="give every event an id where it is stored, except heartbeats",
    presupposes=[
        "framing.id-without-nul",
        "framing.no-empty-data",
        "ids.header-safe",
        "terminal.success-said",
        "heartbeat.invisible",
    ],
    needs=sample(events=2),
)
def test_present(good_runs: list[Observation], dialect: Dialect) -> None:
    numbered = dialect.profile.cursor.order == "integer"
    for run in intact(good_runs):
        for event in run.events:
            lasting = not event.ephemeral and event.role is not Role.HEARTBEAT
            expect(
                not lasting or event.sentinel is not None or is_cursor(event, numbered),
                expected="an id that is a cursor of the dialect",
                actual=f"a {event.type} with "
                + (f"the id {event.block.id!r}" if event.block.id else "no id"),
                at=event,
            )


@requirement(
    "ids.unique",
    MUST,
    tier="resumable",
    text="No id is given twice in a run.",
    source="a cursor names one place",
    breaks=f"{EVENTSOURCE}: they come back to the wrong place",
    hint="number events in one place, under one lock",
    presupposes=["ids.present"],
    needs=sample(ids=2),
)
def test_unique(good_runs: list[Observation]) -> None:
    for run in intact(good_runs):
        seen: dict[str, Event] = {}
        for event, cursor in first_exchange(run):
            before = seen.setdefault(cursor.text, event)
            expect(
                before is event,
                expected="an id that no earlier event has",
                actual=f"the id {cursor} again",
                at=(before, event),
            )


@requirement(
    "ids.strictly-increasing",
    MUST,
    tier="resumable",
    text="Ids increase strictly within a run.",
    source="the dialect's order of cursors",
    breaks=f"{EVENTSOURCE}: what lies behind the higher id is never sent",
    hint="number events where they are appended to the log",
    presupposes=["ids.unique"],
    needs=sample(ids=2),
)
def test_strictly_increasing(good_runs: list[Observation], dialect: Dialect) -> None:
    for run in intact(good_runs):
        for (earlier, low), (later, high) in pairwise(first_exchange(run)):
            if low.run == high.run:
                expect(
                    dialect.is_after(high, low),
                    expected=f"an id above {low}",
                    actual=f"{high}",
                    at=(earlier, later),
                )


@requirement(
    "ids.contiguous",
    MUST,
    tier="resumable",
    text="Ids have no holes.",
    source="the dialect: a hole says that an event was lost",
    breaks="clients that tell from a hole that they missed something, and reconnect for ever",
    hint="give a number only to what is sent",
    presupposes=["ids.strictly-increasing"],
    needs=sample(ids=2),
)
def test_contiguous(good_runs: list[Observation], dialect: Dialect) -> None:
    start = dialect.profile.cursor.first
    for run in intact(good_runs):
        numbered = [(event, c) for event, c in first_exchange(run) if c.number is not None]
        if numbered and start is not None:
            event, cursor = numbered[0]
            expect(
                cursor.number == start,
                expected=f"the first id to have the number {start}",
                actual=f"{cursor}",
                at=event,
            )
        for (earlier, low), (later, high) in pairwise(numbered):
            expect(
                high.number == (low.number or 0) + 1,
                expected=f"the number {(low.number or 0) + 1} after {low}",
                actual=f"{high}",
                at=(earlier, later),
            )


@requirement(
    "ids.header-safe",
    MUST,
    tier="resumable",
    text=f"Ids fit a header: no control characters, at most {LONGEST_ID} bytes.",
    source="RFC 9110 5.5: field values; WHATWG HTML 9.2.3 sends the id in Last-Event-ID",
    breaks=f"{EVENTSOURCE}: the reconnect is refused, or arrives without its cursor",
    hint="ids of printable ASCII, short",
    needs=sample(ids=1),
)
def test_header_safe(all_runs: list[Observation]) -> None:
    for run in all_runs:
        for event, cursor in run.identified:
            raw = cursor.text.encode("utf-8", "surrogatepass")
            expect(
                len(raw) <= LONGEST_ID and all(31 < byte != 127 for byte in raw),
                expected=f"at most {LONGEST_ID} bytes, none of them a control character",
                actual=f"an id of {len(raw)} bytes: {cursor.text[:80]!r}",
                at=event,
            )


@requirement(
    "ids.run-scoped",
    MUST,
    tier="resumable",
    text="A cursor of one run never yields another's events.",
    source="the dialect; fastmcp PR 4402, GHSA-84j6-jc92-77jm (replay across sessions)",
    breaks="users: one reads another's answer",
    hint="look the cursor up within the run that the request names, and refuse any other",
    presupposes=["resume.finished-run", "resume.error-does-not-poison"],
)
def test_run_scoped(foreign_cursor: TwoRuns, dialect: Dialect) -> None:
    own = {cursor.text for _, cursor in foreign_cursor.asked.identified}
    answer = foreign_cursor.answer
    for event in dialect.events(answer):
        expect(
            event.cursor is None or event.cursor.text in own,
            expected="a refusal, or events of the run that was asked for",
            actual=f"the event {event.cursor} of another run",
            at=event,
        )
    if "(?P<run>" in (dialect.profile.cursor.pattern or ""):
        expect(
            answer.status is not None and 400 <= answer.status < 500,
            expected="a refusal (4xx): the cursor names another run",
            actual=f"status {answer.status}",
            at=answer.head,
            recording=answer,
        )
