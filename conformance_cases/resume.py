"""Coming back: nothing lost, nothing twice, whatever the network did. Judged within one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome, Role
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import BESIDE_REPLAY, SENT_WITHIN
from pytest_agentstream.verdicts import NotTested, expect, expect_at_most

if TYPE_CHECKING:
    from conformance_cases.probes.cuts import Left
    from conformance_cases.probes.readback import Answer, BesideReplay, ReadBack
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Cursor, Event
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording

RESUMERS = "EventSource and every client that resumes"
OTHERWISE = (
    "where your server resumes by another request, declare that in a dialect of your own: [resume] "
    'method = "POST", path = "…"'
)
CURSOR = "the dialect's resume; WHATWG HTML 9.2.3: Last-Event-ID"


def sent_after(run: Observation, cursor: Cursor | None) -> list[Event]:
    """The events first sent behind a cursor, or all of them; ephemeral ones are nobody's loss."""
    known: set[str] = set()
    events = []
    for event in run.events:
        again = event.cursor is not None and event.cursor.text in known
        known |= {event.cursor.text} if event.cursor is not None else set()
        if not again and not is_passing(event):
            events.append(event)
    if cursor is None:
        return events
    at = max((n for n, event in enumerate(events) if event.cursor == cursor), default=-1)
    return events[at + 1 :]


def came(run: Observation, answer: Recording) -> list[Event]:
    """The events of an answer that are meant to last."""
    return [event for event in run.dialect.events(answer) if not is_passing(event)]


def is_passing(event: Event) -> bool:
    return event.ephemeral or event.role is Role.HEARTBEAT


def same_place(one: Event, other: Event) -> bool:
    """Whether two events are the same place of a run; those without cursors are told by content."""
    if one.cursor is not None or other.cursor is not None:
        return one.cursor == other.cursor
    return (one.type, one.payload, one.sentinel) == (other.type, other.payload, other.sentinel)


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: objects have no order, and 1 is 1.0 (RFC 8259 4, 6)."""
    if repr(one) == repr(other):
        return True
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other) or (one != one and other != other)  # NaN is not itself


def named(event: Event) -> str:
    what = event.type or event.sentinel or "an event without a type"
    return f"{what} ({event.cursor})" if event.cursor else what


def ends_early(run: Observation) -> bool:
    """Whether a stream of the run ended cleanly, and the run went on."""
    return any(one.is_stream and one.ended_cleanly for one in run.exchanges[:-1])


def expect_suffix(
    run: Observation, cursor: Cursor | None, answer: Recording, *, early: bool = False
) -> None:
    """Fail unless an answer brings exactly what was first sent behind the cursor.

    Raises `NotTested` where it came from a live run of a server that ends its streams `early`, and
    this one was over as well before it had brought all.
    """
    wanted, found = sent_after(run, cursor), came(run, answer)
    behind = f"behind {cursor}" if cursor else "from the start"
    expect(
        answer.is_stream or (answer.status == 204 and not wanted),
        expected=f"a stream of the {len(wanted)} events {behind}",
        actual=f"status {answer.status}" if answer.head else f"no answer ({answer.end.kind})",
        at=answer.head or answer,
        recording=answer,
    )
    for number, event in enumerate(wanted):
        if number >= len(found):
            expect(
                early and answer.ended_cleanly,
                expected=f"{named(event)} next, {behind}",
                actual="nothing more",
                at=(event, answer),
            )
            raise NotTested(
                f"the stream {behind} ended before the run was over, as others of this server do",
                "let streams go on until their run is over while they are tested",
            )
        expect(
            same_place(event, found[number]),
            expected=f"{named(event)} next, {behind}",
            actual=named(found[number]),
            at=(event, found[number]),
        )
    if len(found) > len(wanted):
        expect(
            False,
            expected=f"no event beyond the {len(wanted)} {behind}",
            actual=f"{named(found[len(wanted)])} as well",
            at=found[len(wanted)],
        )


@requirement(
    "resume.finished-run",
    MUST,
    tier="resumable",
    text="A finished run replays the rest with its terminal, and the stream ends.",
    source=f"{CURSOR}; aegra #472 (rejoining a finished run hangs)",
    breaks=f"{RESUMERS}: they wait for ever, or reconnect for ever",
    hint="replay from the log, then close: there is no live tail to wait for",
    presupposes=[
        "http.status-200",
        "http.content-type",
        "ids.present",
        "terminal.exactly-one",
        "terminal.closes",
    ],
)
def test_finished_run(readback: ReadBack, dialect: Dialect) -> None:
    for cursor, answer in readback.answers:
        if not sent_after(readback.first, cursor):
            continue
        expect(
            answer.head is not None and answer.end.kind not in {EndKind.TIMEOUT, EndKind.STOPPED},
            expected=f"an end of the stream that resumes behind {cursor}",
            actual=f"still open after {answer.end.at:.2f} s",
            at=answer,
        )
        expect(
            not answer.broken_off,
            expected=f"a whole body of the stream that resumes behind {cursor}",
            actual=f"a body that is {'cut' if answer.end.kind is EndKind.CUT else 'reset'}",
            at=answer,
        )
        expect(
            200 <= (answer.status or 0) < 300,
            expected=f"the rest of the finished run behind {cursor}",
            actual=f"status {answer.status}",
            at=answer.head or answer,
            recording=answer,
            hint=OTHERWISE if answer.status in {404, 405} else "",
        )


@requirement(
    "resume.after-last-event",
    MUST,
    tier="resumable",
    text="A client that was cut just before the terminal gets the terminal.",
    source=CURSOR,
    breaks=f"{RESUMERS}: the answer is whole, and never ends",
    hint="the terminal is an event of the log like any other",
    presupposes=[
        "resume.exact-suffix",
        "ids.strictly-increasing",
        "schema.constant-identity",
    ],
)
def test_after_last_event(readback: ReadBack, left_runs: list[Left]) -> None:
    for cursor, answer in readback.answers:
        rest = sent_after(readback.first, cursor)
        if len(rest) == 1:
            found = came(readback.first, answer)
            expect(
                any(same_place(rest[0], event) for event in found),
                expected=f"the terminal, {named(rest[0])}",
                actual=f"{len(found)} events" if found else "nothing",
                at=(rest[0], answer),
            )
    for left in left_runs:
        expect(
            left.run.terminals or not left.was_joined or not left.run.last.ended_cleanly,
            expected=f"the terminal of a run that ended in the {left.seconds:.2f} s that nobody "
            "read it",
            actual=f"{len(left.replayed)} events, and no terminal",
            at=left.run.last,
        )


@requirement(
    "resume.exact-suffix",
    MUST,
    tier="resumable",
    text="Resuming behind a cursor brings exactly the events behind it.",
    source=CURSOR,
    breaks=f"{RESUMERS}: a text has a word twice, or lacks one",
    hint="replay from the first stored event whose id is greater than the cursor",
    presupposes=["resume.finished-run", "ids.unique"],
)
def test_exact_suffix(readback: ReadBack) -> None:
    for cursor, answer in readback.answers:
        if len(sent_after(readback.first, cursor)) > 1:
            expect_suffix(readback.first, cursor, answer)


@requirement(
    "resume.same-events",
    MUST,
    tier="resumable",
    text="A replayed event is the event first sent: id, type and payload.",
    source=CURSOR,
    breaks=f"{RESUMERS}: they see another answer than the one that was given",
    hint="store what was sent, and replay that",
    presupposes=["resume.exact-suffix"],
)
def test_same_events(readback: ReadBack) -> None:
    for cursor, answer in readback.answers:
        pairs = zip(sent_after(readback.first, cursor), came(readback.first, answer), strict=False)
        for first, again in pairs:
            expect(
                first.type == again.type and same_json(first.payload, again.payload),
                expected=f"{first.type} {first.payload!r}"[:200],
                actual=f"{again.type} {again.payload!r}"[:200],
                at=(first, again),
            )


@requirement(
    "resume.crash-terminal",
    MUST,
    tier="resumable",
    text="The end of a crashed run can be replayed.",
    source=CURSOR,
    breaks=f"{RESUMERS}: they never learn that the run has failed",
    hint="append error and terminal to the log before they are sent",
    presupposes=["resume.after-last-event", "terminal.on-crash"],
)
def test_crash_terminal(crash_readback: ReadBack, left_crashes: list[Left]) -> None:
    for cursor, answer in crash_readback.answers:
        expect_suffix(crash_readback.first, cursor, answer)
    for left in left_crashes:
        expect_crash_kept(left)


def expect_crash_kept(left: Left) -> None:
    """Fail where a run that crashed while nobody read it has another end, or none."""
    run = left.run
    if not left.was_joined or not run.last.ended_cleanly:
        return
    expect(
        run.terminals,
        expected="the terminal of a run that crashed while nobody read it",
        actual=f"{len(left.replayed)} events, and no terminal",
        at=run.last,
    )
    planted = run.declared.marker is not None and run.declared.marker in run.text
    expect(
        run.outcome is not Outcome.SUCCESS
        or not (planted or run.errors or run.declared.deterministic),
        expected="a terminal that says failure, for a run that crashed while nobody read it",
        actual="a terminal that says success",
        at=run.terminals[0][0],
    )


@requirement(
    "resume.same-request",
    MUST,
    tier="resumable",
    text="Repeating the start request with Last-Event-ID resumes the run.",
    source="WHATWG HTML 9.2.3: EventSource repeats its URL; fetch-event-source repeats its POST",
    breaks="EventSource and fetch-event-source: the run starts again, with its side effects",
    hint="look for Last-Event-ID before starting anything",
    presupposes=["resume.exact-suffix"],
)
def test_same_request(same_request: Answer, complete_run: Observation, dialect: Dialect) -> None:
    cursor = dialect.parse_cursor(same_request.cursor)
    expect_suffix(complete_run, cursor, same_request.recording)


@requirement(
    "resume.unknown-cursor",
    SHOULD,
    tier="resumable",
    text="A malformed cursor gets a clear error: never silence, never a fresh start.",
    source="the dialect; four servers gave four answers",
    breaks=f"{RESUMERS}: they wait for what never comes, or show everything twice",
    hint="answer 400 with a sentence",
    presupposes=["ids.present", "resume.error-does-not-poison"],
)
def test_unknown_cursor(unusable_cursors: list[Answer]) -> None:
    for answer in unusable_cursors:
        expect_refused(answer, f"the cursor {answer.cursor[:40]!r}")


def expect_refused(answer: Answer, what: str) -> None:
    found = answer.recording
    said = f"status {found.status}, {len(found.body)} bytes"
    expect(
        found.status is not None and 400 <= found.status < 500,
        expected=f"a refusal (4xx) of {what}",
        actual=said if found.head else f"no answer ({found.end.kind})",
        at=found.head or found,
        recording=found,
    )


@requirement(
    "resume.error-does-not-poison",
    MUST,
    tier="resumable",
    text="A refusal carries no id that would become the cursor.",
    source="seen in a server: a refusal with `id: error`, which the next reconnect sent back",
    breaks="EventSource: it keeps the id and is refused for ever",
    hint="no id: line outside of events of the run",
    presupposes=["ids.present"],
)
def test_error_does_not_poison(refused_cursors: list[Answer], complete_run: Observation) -> None:
    own = {cursor.text for _, cursor in complete_run.identified}
    for answer in refused_cursors:
        told = any(
            event.role is Role.ERROR for event in complete_run.dialect.events(answer.recording)
        )
        if not told and (answer.recording.status or 0) < 400:
            continue  # no refusal: what it is instead is what `resume.unknown-cursor` is about
        for block in answer.recording.blocks:
            expect(
                block.id is None or block.id in own or not block.complete,
                expected="no id, or one of the run",
                actual=f"the id {block.id!r}",
                at=block,
                recording=answer.recording,
            )


@requirement(
    "resume.future-cursor",
    SHOULD,
    tier="resumable",
    text="A cursor ahead of the run is refused.",
    source="the dialect",
    breaks=f"{RESUMERS} after a server lost its log: they wait for what never comes, or take "
    "it for the end",
    hint="answer 409 when the run is finished, or after a short wait for a lagging replica",
    presupposes=["resume.finished-run", "resume.error-does-not-poison"],
)
def test_future_cursor(future_cursor: Answer) -> None:
    expect_refused(future_cursor, f"{future_cursor.cursor}, far ahead of the run")


@requirement(
    "resume.expired-cursor",
    MUST,
    tier="resumable",
    text="An expired cursor is told apart from `nothing new`.",
    source="RFC 9110 15.5.11: 410; the dialect",
    breaks=f"{RESUMERS}: they take half an answer for all of it",
    hint="remember for a while that the run has been, and answer 410",
    presupposes=["resume.exact-suffix", "resume.error-does-not-poison"],
)
def test_expired_cursor(expired_cursor: Answer) -> None:
    expect_refused(expired_cursor, f"{expired_cursor.cursor}, whose run is no longer kept")


@requirement(
    "resume.header-and-query",
    SHOULD,
    tier="resumable",
    text="The cursor means the same in header and query, and the header wins.",
    source="the dialect; EventSource cannot send headers on its first request",
    breaks="pages that put a cursor into the URL: after a reconnect it is out of date",
    hint="read Last-Event-ID first, then the query",
    presupposes=["resume.exact-suffix"],
)
def test_header_and_query(
    header_and_query: tuple[Answer, Answer], complete_run: Observation, dialect: Dialect
) -> None:
    for answer in header_and_query:
        expect_suffix(complete_run, dialect.parse_cursor(answer.cursor), answer.recording)


@requirement(
    "resume.slow-replay",
    SHOULD,
    tier="resumable",
    text="Replaying ten thousand events delays no other stream.",
    source="the promise of a server: runs are independent",
    breaks="every other user of the process, whenever somebody comes back to a long run",
    hint="read the log in pieces, and let others run in between",
    presupposes=["resume.exact-suffix"],
    timing=True,
)
def test_slow_replay(beside_replay: BesideReplay, complete_run: Observation) -> None:
    run = beside_replay.beside
    if not beside_replay.replay.is_stream:
        raise NotTested("the long run could not be read back")
    if beside_replay.replay.end.at < SENT_WITHIN:
        raise NotTested("the replay was over before the run beside it began")
    if not run.events or not complete_run.events:
        raise NotTested("the run beside the replay brought no event")
    first = run.events[0]
    expect_at_most(
        first.at,
        complete_run.events[0].at + BESIDE_REPLAY,
        lag=run.lag,
        denied=run.denied,
        from_request=True,
        expected=f"the first event of a run at most {BESIDE_REPLAY:g} s later than alone, beside "
        f"a replay of {beside_replay.events} events",
        actual=f"after {first.at:.3f} s",
        at=first,
        hint="read the log in pieces, and let others run in between",
    )
