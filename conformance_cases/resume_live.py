"""Coming back to a run that still lives: nothing lost and nothing twice where the parts meet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from conformance_cases.resume import (
    RESUMERS,
    ends_early,
    expect_suffix,
    is_passing,
    named,
    same_json,
)
from conformance_cases.terminal import how_it_ended
from pytest_agentstream.cases import requirement
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST
from pytest_agentstream.verdicts import NotApplicable, NotTested, expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance_cases.probes.cuts import CutStart, LiveCut, Witnessed
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.observing import Observation

CUT = "the dialect's resume; WHATWG HTML 9.2.3: reestablish the connection"


def joined(cut: LiveCut) -> LiveCut:
    """The cut itself; raises `NotTested` where the fault did not cut, or nobody joined again.

    Where we ran out of patience, nothing is known of what would have come.
    """
    unwaited = cut.run.run.unwaited
    if unwaited:
        raise NotTested(
            f"the client gave up behind {cut.where}: {unwaited}",
            "have the server ask for a shorter `retry` while it is tested, or allow a longer "
            "[tool.agentstream.timeouts] end",
        )
    if len(cut.run.exchanges) < 2:
        raise NotTested(f"the run was not joined again behind {cut.where}")
    return cut


def lasting(run: Observation) -> list[Event]:
    """Every event of every exchange that is meant to last, in the order of arrival."""
    return [event for event in run.events if not is_passing(event)]


def first_twice(run: Observation) -> tuple[Event, Event] | None:
    """The first event that came twice in a run, with its earlier self."""
    seen: dict[str, Event] = {}
    for event in lasting(run):
        if event.cursor is not None:
            before = seen.setdefault(event.cursor.text, event)
            if before is not event:
                return before, event
    return None


def expect_none_twice(cut: LiveCut) -> None:
    twice = first_twice(cut.run)
    expect(
        twice is None,
        expected=f"each event once, on both sides of {cut.where}",
        actual=f"{named(twice[1])} again" if twice else "",
        at=twice,
    )


def expect_none_lost(cut: LiveCut, dialect: Dialect) -> None:
    """Compare what a client saw through cuts with the same run read back whole."""
    if cut.whole is None or not cut.whole.is_stream:
        raise NotTested("the run could not be read back, so there is nothing to compare with")
    ends = [one.event for one in dialect.profile.order.terminal]
    read_back = dialect.events(cut.whole)
    whole = any(
        dialect.matches_type(event.sentinel or event.type, glob)
        for event in read_back
        for glob in ends
    )
    if not whole:
        raise NotTested("the run was not read back to its terminal, so nothing is known to be lost")
    got = {event.cursor.text for event in lasting(cut.run) if event.cursor is not None}
    for event in read_back:
        lost = event.cursor is not None and event.cursor.text not in got and not is_passing(event)
        expect(
            not lost,
            expected=f"{named(event)} to reach a client that was behind {cut.where}",
            actual="it never came, and the run has it",
            at=(event, cut.run.last),
        )


def expect_same_said(cut: LiveCut, uncut: Observation) -> None:
    """Compare what a client saw through cuts with the run that nobody cut.

    Only a scenario that is declared to say the same each time can be compared so: what the log
    itself has lost shows nowhere else.
    """
    run = cut.run
    if not uncut.declared.deterministic or uncut.outcome is None or run.outcome != uncut.outcome:
        return
    pairs = zip_longest(said(uncut), said(run))
    for wanted, found in pairs:
        expect(
            wanted is not None and found is not None and wanted.means == found.means,
            expected=f"{wanted or 'nothing more'}, as in the run of `{run.scenario}` that nobody "
            f"cut, behind {cut.where}",
            actual=f"{found or 'nothing more'}",
            at=tuple(one.event for one in (wanted, found) if one is not None),
            recording=run.last,
        )


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a run said: an event without a text, or texts in a row, put together."""

    event: Event
    text: str | None

    @property
    def means(self) -> tuple[str | None, str | None]:
        return self.event.type, self.text

    def __str__(self) -> str:
        shown = "" if self.text is None else f" {self.text!r}"
        return f"{self.event.type or 'an event'}{shown}"[:200]


def said(run: Observation) -> list[Said]:
    """What a run said, each event once: types, and texts put together where they follow each other.

    How a text is cut into events may depend on the clock. Of a run behind the LLM double only the
    texts are the double's.
    """
    once = {event.cursor.text: event for event in reversed(lasting(run)) if event.cursor}
    events = [event for event in lasting(run) if event.cursor and once[event.cursor.text] is event]
    if run.run.control == "double":
        events = [event for event in events if run.text_of(event) is not None]
    found: list[Said] = []
    for event in events:
        text = run.text_of(event)
        last = found[-1] if found else None
        if text and last and last.text is not None and last.event.type == event.type:
            found[-1] = Said(last.event, last.text + text)
        else:
            found.append(Said(event, text))
    return found


@requirement(
    "resume.live-tail",
    MUST,
    tier="resumable",
    text="A resumed live run goes on to its terminal, and the stream closes.",
    source=f"{CUT}; mcp's resumed stream never closes",
    breaks=f"{RESUMERS}: they wait for ever, or never see the end",
    hint="after the replay, follow the log until its terminal, then return",
    presupposes=[
        "ids.survive-reconnect",
        "resume.after-last-event",
        "schema.constant-identity",
        "terminal.closes",
    ],
)
def test_live_tail(live_cut: LiveCut) -> None:
    cut = joined(live_cut)
    expect(
        cut.run.terminals,
        expected=f"the terminal, behind {cut.where}",
        actual=f"{how_it_ended(cut.run)}; {cut.run.run.synthetic}",
        at=cut.run.last,
    )
    end = cut.run.last.end
    expect(
        end.kind not in {EndKind.STOPPED, EndKind.TIMEOUT},
        expected="the end of the resumed stream behind its terminal",
        actual=f"still open {end.at - cut.run.terminals[0][0].at:.2f} s after it",
        at=(cut.run.terminals[0][0], cut.run.last),
    )
    ours = len(cut.run.exchanges) <= cut.cuts  # the run was over before all cuts were made
    expect(
        ours or not cut.run.last.broken_off,
        expected="a whole body of the resumed stream behind its terminal",
        actual=how_it_ended(cut.run),
        at=(cut.run.terminals[0][0], cut.run.last),
    )
    expect(
        sum(exchange.is_stream for exchange in cut.run.exchanges) <= cut.cuts + 1,
        expected=f"as many reconnects as cuts: {cut.cuts}",
        actual=f"{len(cut.run.exchanges) - 1}: a resumed stream ended before its run",
        at=cut.run.exchanges[1],
    )


@requirement(
    "resume.no-duplicates",
    MUST,
    tier="resumable",
    text="No event is sent twice across replay and live tail.",
    source=f"{CUT}; vercel/ai #18457 (message doubled)",
    breaks="EventSource and every client that appends text",
    hint="take the snapshot of the log and the subscription to it under one lock",
    presupposes=["resume.live-tail", "ids.unique"],
)
def test_no_duplicates(live_cut: LiveCut) -> None:
    expect_none_twice(joined(live_cut))


@requirement(
    "resume.no-gaps",
    MUST,
    tier="resumable",
    text="Events that are produced while a client is away are there when it comes back.",
    source=f"{CUT}; langgraph #7778 (join drops events)",
    breaks=f"{RESUMERS}: the answer has a hole",
    hint="replay from the log before the live tail",
    presupposes=["resume.live-tail", "resume.same-events"],
)
def test_no_gaps(live_cut: LiveCut, pauses_run: Observation, dialect: Dialect) -> None:
    expect_none_lost(joined(live_cut), dialect)
    expect_same_said(live_cut, pauses_run)


@requirement(
    "resume.mid-event-cut",
    MUST,
    tier="resumable",
    text="An event that is cut inside its bytes comes again, whole.",
    source="WHATWG HTML 9.2.6: an incomplete event is discarded; its id does not count",
    breaks=f"{RESUMERS}: the event is lost, although the server sent it",
    hint="go by the client's cursor, never by what was written to the socket",
    presupposes=["resume.no-gaps", "resume.no-duplicates", "resume.same-events"],
)
def test_mid_event_cut(cut_inside: LiveCut, dialect: Dialect) -> None:
    joined(cut_inside)
    expect_none_twice(cut_inside)
    expect_none_lost(cut_inside, dialect)
    if cut_inside.whole is not None:
        expect_whole(cut_inside, dialect.events(cut_inside.whole))


def expect_whole(cut: LiveCut, read_back: Sequence[Event]) -> None:
    """Fail unless what a client got through cuts is, event by event, what the run has."""
    got = {event.cursor.text: event for event in lasting(cut.run) if event.cursor is not None}
    for event in read_back:
        mine = got.get(event.cursor.text) if event.cursor is not None else None
        expect(
            mine is None or (mine.type == event.type and same_json(mine.payload, event.payload)),
            expected=f"{named(event)} to be the same on both sides of {cut.where}",
            actual=f"{mine.payload!r}"[:200] if mine else "",
            at=(mine, event) if mine else event,
        )


@requirement(
    "resume.before-first-id",
    MUST,
    tier="resumable",
    text="Cuts before any id was seen lose nothing, and start nothing twice.",
    source=f"{CUT}; mcp typescript-sdk #2499 (second cut before any id loses the cursor)",
    breaks=f"{RESUMERS}: the beginning is lost, or the run starts over",
    hint="name the run in the head, and let a reconnect without a cursor mean its beginning",
    presupposes=[
        "ids.contiguous",
        "resume.no-gaps",
        "resume.no-duplicates",
        "retry.duplicate-start",
    ],
)
def test_before_first_id(cut_before_ids: CutStart, dialect: Dialect) -> None:
    if dialect.profile.resume.path is None and cut_before_ids.again is None:
        raise NotApplicable(
            f"in the dialect {dialect.name} a reconnect without an id is another start, "
            "and it has no idempotency key"
        )
    cut = joined(cut_before_ids.cut)
    run = cut.run
    expect(
        run.terminals,
        expected=f"the run, from its beginning to its terminal, behind {cut.where}",
        actual=f"{how_it_ended(run)}; {run.run.synthetic}",
        at=run.last,
    )
    first = dialect.profile.cursor.first
    for event, cursor in run.identified[:1]:
        expect(
            first is None or cursor.number == first,
            expected=f"the first event of the run, number {first}",
            actual=f"{named(event)}",
            at=event,
        )
    expect_none_twice(cut)
    expect_none_lost(cut, dialect)
    if cut_before_ids.again is not None:
        expect_suffix(run, None, cut_before_ids.again, early=ends_early(run))
    names = {cursor.run for _, cursor in run.identified if cursor.run is not None}
    expect(
        len(names) <= 1,
        expected="one run",
        actual=f"events of {len(names)} runs",
        at=run.last,
    )


@requirement(
    "resume.many-cuts",
    MUST,
    tier="resumable",
    text="Twenty cuts in one run lose and repeat nothing.",
    source=CUT,
    breaks=f"{RESUMERS} on a bad network: the answer drifts",
    hint="go by the client's cursor alone; keep no count of your own for each client",
    presupposes=["resume.no-gaps", "resume.no-duplicates", "disconnect.continues"],
)
def test_many_cuts(many_cuts: LiveCut, dialect: Dialect) -> None:
    run = joined(many_cuts).run
    expect(
        run.terminals,
        expected="the terminal, in the end",
        actual=f"{how_it_ended(run)}; {run.run.synthetic}",
        at=run.last,
    )
    expect_none_twice(many_cuts)
    expect_none_lost(many_cuts, dialect)


@requirement(
    "resume.two-readers",
    MUST,
    tier="resumable",
    text="Where two readers are allowed, each gets all.",
    source="the dialect",
    breaks="whoever opens a second tab: each of the two gets a part",
    hint="let every reader read the log; never hand events out from one queue",
    presupposes=["resume.no-gaps"],
)
def test_two_readers(witnessed: Witnessed, pauses_run: Observation) -> None:
    run, witness = witnessed.run, witnessed.witness
    if witness is None:
        raise NotTested("the second reader did not come in time")
    first, cursor = run.identified[0]
    if run.terminals and witness.head is not None:
        terminal = run.terminals[0][0]
        lived = terminal.at - first.at  # the witness was begun when the first event came
        if terminal.exchange is first.exchange and lived <= witness.head.at:
            raise NotTested("the run was over when the second reader was let in")
    expect_suffix(run, cursor, witness, early=ends_early(pauses_run))
    expect(
        run.terminals,
        expected="the first reader to get the whole run too",
        actual=how_it_ended(run),
        at=run.last,
    )


@requirement(
    "ids.survive-reconnect",
    MUST,
    tier="resumable",
    text="Numbering goes on after a reconnect.",
    source="the dialect's order of cursors",
    breaks=f"{RESUMERS}: the second reconnect comes back to the wrong place",
    hint="number by the run, not by the connection",
    presupposes=["ids.strictly-increasing"],
)
def test_survive_reconnect(live_cut: LiveCut, dialect: Dialect) -> None:
    if dialect.profile.cursor.order != "integer":
        raise NotApplicable(f"the dialect {dialect.name} has opaque ids, which have no order")
    run = joined(live_cut).run
    known: dict[str, Event] = {}
    for event, cursor in run.identified:
        before = known.setdefault(cursor.text, event)
        expect(
            before.type == event.type and same_json(before.payload, event.payload),
            expected=f"another id than {cursor}, which was given before the reconnect",
            actual=f"{named(event)} for another event",
            at=(before, event),
        )
    for earlier, later in pairwise(run.exchanges):
        last = [c for event, c in run.identified if event.exchange is earlier][-1:]
        first = [(event, c) for event, c in run.identified if event.exchange is later][:1]
        for low, (event, high) in zip(last, first, strict=False):
            start = dialect.profile.cursor.first
            expect(
                high.number != start or (low.number or 0) < 2,
                expected=f"numbering that goes on from {low}",
                actual=f"{high}, from the start",
                at=event,
            )


@requirement(
    "resume.old-connection-open",
    MUST,
    tier="resumable",
    text="Resuming works while the dead connection is still held.",
    source="TCP: a server learns late, or never, that its peer is gone; field reports of 409",
    breaks=f"{RESUMERS} behind a phone network: they are refused until the old connection expires",
    hint="let the newer reader in, whatever the older one seems to do",
    presupposes=["resume.no-gaps", "resume.no-duplicates", "resume.two-readers"],
)
def test_old_connection_open(half_open: LiveCut, dialect: Dialect) -> None:
    cut = joined(half_open)
    expect(
        cut.run.terminals,
        expected=f"the rest of the run, to its terminal, behind {cut.where}",
        actual=f"{how_it_ended(cut.run)}; {cut.run.run.synthetic}",
        at=cut.run.last,
    )
    expect_none_twice(cut)
    expect_none_lost(cut, dialect)
