"""Runs outlive the process that keeps them: restarts, replicas, retention."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from conformance_cases.keeping import durably_kept, keeping_of, moment
from conformance_cases.resume import (
    came,
    ends_early,
    expect_suffix,
    named,
    same_json,
    same_place,
    sent_after,
)
from conformance_cases.terminal import how_it_ended
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.paths import find
from pytest_agentstream.dialects.reading import Outcome, Role
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import EndKind, Run
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import LEASE_FACTOR, LEASE_GRACE, RETENTION_GRACE
from pytest_agentstream.verdicts import InDoubt, NotApplicable, NotTested, expect

if TYPE_CHECKING:
    from conformance_cases.probes.killing import Finished, Killed
    from conformance_cases.probes.readback import Answer, Kept
    from conformance_cases.probes.replicas import Elsewhere, Executions
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Cursor, Event
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target

CLIENTS = "every client that resumes, after each deployment and each crash"
GONE = frozenset({404, 410})


def restarted(killed: Killed) -> Killed:
    """What came of it; raises `NotTested` where the process could not be started again."""
    if killed.broken:
        raise NotTested(f"the server did not start again after SIGKILL: {killed.broken}")
    return killed


def seconds_behind(killed: Killed, reader: Recording) -> float:
    """How long behind the kill a reader came to its end."""
    return (moment(reader, reader.end.at) - killed.at).total_seconds()


def stop_if_leased(killed: Killed, reader: Recording, lease: float | None) -> None:
    """Raise `NotTested` where a reader without a terminal was given up before the lease was over.

    Until then nobody knows that the run's process is dead.
    """
    after = seconds_behind(killed, reader)
    given_up = reader.end.kind is EndKind.TIMEOUT
    if given_up and lease is not None and after < lease * LEASE_FACTOR + LEASE_GRACE:
        raise NotTested(
            f"the lease of {lease:g} s was not over when the reader was given up, {after:.1f} s "
            "after SIGKILL",
            "declare a shorter lease, or raise timeouts.silence and timeouts.end",
        )


def is_forgotten(killed: Killed, answer: Recording, target: Target) -> bool:
    """Whether a run was rightly refused: another replica ended it so long ago.

    Its reader there saw the end; where it was given up before, the lease says when that came.
    """
    keeping, reader = keeping_of(killed.run, target), killed.beside
    if answer.status != 410 or keeping.retention is None or reader is None:
        return False
    ends = [event for event, _ in joined_with(killed.run, reader).terminals]
    if ends:
        ended = moment(ends[0].exchange, ends[0].at)
    elif keeping.lease is not None:
        ended = killed.at + timedelta(seconds=keeping.lease)
    else:
        return False
    since = moment(answer, answer.head.at if answer.head else answer.end.at) - ended
    return since.total_seconds() + RETENTION_GRACE >= keeping.retention


def answered(answer: Recording) -> str:
    return f"status {answer.status}" if answer.head else f"no answer ({answer.end.kind})"


def parsed(dialect: Dialect, answer: Answer) -> Cursor:
    cursor = dialect.parse_cursor(answer.cursor)
    if cursor is None:
        raise NotTested(f"{answer.cursor} is no cursor of the dialect {dialect.name}")
    return cursor


def expect_replayed(run: Observation, cursor: Cursor, answer: Recording) -> None:
    """Fail unless an answer begins with what a client saw behind the cursor."""
    wanted, found = sent_after(run, cursor), came(run, answer)
    expect(
        answer.is_stream,
        expected=f"the {len(wanted)} events that a client saw behind {cursor} before SIGKILL",
        actual=answered(answer),
        at=answer.head or answer,
        recording=answer,
    )
    for number, event in enumerate(wanted):
        again = found[number] if number < len(found) else None
        expect(
            again is not None and same_place(event, again),
            expected=f"{named(event)} again, which a client saw before SIGKILL",
            actual=named(again) if again is not None else "nothing more",
            at=(event, again or answer),
        )
        expect(
            again is not None and again.type == event.type and _same_payload(event, again),
            expected=f"{named(event)} as a client saw it before SIGKILL",
            actual=f"{again.type if again else None}: {again.payload if again else None!r}"[:200],
            at=(event, again or answer),
        )


def _same_payload(one: Event, other: Event) -> bool:
    return same_json(one.payload, other.payload) and one.sentinel == other.sentinel


@requirement(
    "durable.sent-is-stored",
    MUST,
    tier="durable",
    text="What a client saw before SIGKILL can be replayed after it.",
    source="the server's own word that its log is durable",
    breaks=f"{CLIENTS}: their cursor is ahead of the run, or its events are others",
    hint="store an event, and wait until it is stored, before it is sent to anybody",
    presupposes=["resume.exact-suffix", "resume.same-events"],
)
def test_sent_is_stored(killed_run: Killed, dialect: Dialect, target: Target) -> None:
    keeping = durably_kept(killed_run.run, target)
    expect(
        not killed_run.broken,
        expected="the server to start again after SIGKILL, with its log",
        actual=killed_run.broken,
        at=killed_run.run.last,
    )
    for answer in killed_run.again[1:]:
        if not is_forgotten(killed_run, answer.recording, target):
            expect_replayed(killed_run.run, parsed(dialect, answer), answer.recording)
    finished = killed_run.finished[-1]
    answer = finished.answer
    is_over = moment(answer.recording, 0.0) - moment(finished.run.last, finished.run.last.end.at)
    if answer.recording.status == 410 and is_over.total_seconds() >= (keeping.retention or 0.0):
        return
    expect_suffix(finished.run, parsed(dialect, answer), answer.recording)


@requirement(
    "durable.kill-and-resume",
    MUST,
    tier="durable",
    text="After SIGKILL and a restart a run goes on, or ends in a retryable error; nothing twice.",
    source="the server's own word that its log is durable; docs/protocol.md 4.4 and 6.6",
    breaks=f"{CLIENTS}: they wait for ever, or get part of the answer again",
    hint="at a restart, or when a lease has expired, append an error and the terminal to what the "
    "dead process left",
    presupposes=["durable.sent-is-stored", "terminal.dead-producer"],
)
def test_kill_and_resume(killed_run: Killed, dialect: Dialect, target: Target) -> None:
    durably_kept(killed_run.run, target)
    before, answer = restarted(killed_run).run, killed_run.again[0]
    last, recording = parsed(dialect, answer), answer.recording
    if is_forgotten(killed_run, recording, target):
        raise NotTested(
            f"the run was ended, and its retention over, when its process was there again: "
            f"{answered(recording)}",
            "declare a longer retention, or have the process start sooner",
        )
    expect(
        recording.is_stream,
        expected=f"the rest of the run behind {last}, or its end",
        actual=answered(recording),
        at=recording.head or recording,
        recording=recording,
    )
    known = {event.cursor.text: event for event in before.events if event.cursor is not None}
    for event in came(before, recording):
        cursor = event.cursor
        if cursor is None:
            continue
        expect(
            cursor.text not in known,
            expected=f"only what comes behind {last}",
            actual=f"{named(event)} again",
            at=(known.get(cursor.text, event), event),
        )
        ordered = dialect.profile.cursor.order == "integer"
        expect(
            not ordered or dialect.is_after(cursor, last),
            expected=f"numbering that goes on behind {last}",
            actual=named(event),
            at=event,
        )
    if not joined_with(before, recording).terminals:
        stop_if_leased(killed_run, recording, keeping_of(before, target).lease)
    expect_ended(before, recording, dialect)


def expect_ended(before: Observation, answer: Recording, dialect: Dialect) -> None:
    """Fail unless a run that was joined again came to its end, or to a retryable error."""
    whole = joined_with(before, answer)
    expect(
        whole.terminals,
        expected="the run to go on to its terminal, or to end in a retryable error",
        actual=how_it_ended(whole),
        at=answer,
    )
    terminal, outcome = whole.terminals[0]
    expect(
        outcome in {Outcome.SUCCESS, Outcome.FAILURE},
        expected="a run that goes on to success, or ends in a retryable error",
        actual=f"{named(terminal)}, which says {outcome}",
        at=terminal,
    )
    if outcome is Outcome.FAILURE:
        expect_retryable(whole, terminal, dialect)


def expect_retryable(run: Observation, terminal: Event, dialect: Dialect) -> None:
    """Fail unless the error that ended a run says that a retry can help, where it has a place."""
    path = dialect.profile.errors.retryable_path
    if path is None:
        return
    error = run.errors[-1] if run.errors else None
    expect(
        error is not None and find(error.payload, path) is True,
        expected=f"an error that says that a retry can help ({path} is true)",
        actual=f"{error.payload!r}"[:200] if error is not None else "a terminal without an error",
        at=error or terminal,
        hint="the process ended, not the request: the same request may succeed",
    )


def joined_with(before: Observation, answer: Recording) -> Observation:
    """The run as a client has it that joined it again with this answer."""
    run = Run(before.scenario, before.run.control, (*before.exchanges, answer))
    return Observation(run, before.dialect, before.declared, before.number)


@requirement(
    "durable.epoch",
    MUST,
    tier="durable",
    text="A cursor whose history is lost is refused, never matched against other events.",
    source="the dialect's resume; docs/protocol.md 11.2",
    breaks=f"{CLIENTS}: they append another answer to the half that they have",
    hint="name the run in the cursor, by a name that is never given twice, or number the epochs",
    presupposes=["resume.exact-suffix", "resume.same-events", "durable.kill-and-resume"],
)
def test_epoch(killed_run: Killed, dialect: Dialect) -> None:
    killed = restarted(killed_run)
    for finished in killed.finished:
        expect_refused_or_same(finished, parsed(dialect, finished.answer))
    known = {event.cursor.text: event for event in killed.run.events if event.cursor is not None}
    name = next((c.run for _, c in killed.run.identified), None)
    for answer in killed.again:
        for event in came(killed.run, answer.recording) if answer.recording.is_stream else ():
            own = known.get(event.cursor.text, event) if event.cursor is not None else event
            foreign = event.cursor is not None and event.cursor.run != name
            expect(
                not foreign and own.type == event.type and _same_payload(own, event),
                expected=f"a refusal, or the run that {answer.cursor} is of",
                actual=f"{named(event)}, another event",
                at=(own, event),
            )
    if not killed.others:
        raise NotTested(
            "no other run could be started behind the restart, so there was nothing to mistake"
        )


def expect_refused_or_same(finished: Finished, cursor: Cursor) -> None:
    """Fail where a cursor of before a restart gets anything but a refusal, or its own run."""
    run, answer = finished.run, finished.answer.recording
    if not answer.is_stream:
        expect(
            answer.head is not None,
            expected=f"a refusal of {cursor}, or the rest of its run",
            actual=answered(answer),
            at=answer,
        )
        return
    wanted, found = sent_after(run, cursor), came(run, answer)
    told = any(event.role is Role.ERROR for event in found)
    expect(
        found,
        expected=f"a refusal of {cursor}, or the {len(wanted)} events behind it",
        actual=f"a stream without an event, {answer.end.kind} after {answer.end.at:.2f} s",
        at=answer.head or answer,
        recording=answer,
    )
    for event, own in zip(found, wanted, strict=False):
        same = same_place(own, event) and own.type == event.type and _same_payload(own, event)
        expect(
            same or told,
            expected=f"a refusal of {cursor}, or {named(own)}, which came behind it",
            actual=f"{named(event)}: {event.payload!r}"[:200],
            at=(own, event),
        )


@requirement(
    "durable.other-replica",
    MUST,
    tier="durable",
    text="A run that one replica started resumes at another, while it lives and when it is over.",
    source="the server's own word that its log is durable, and that these are its replicas",
    breaks="every client behind a load balancer: a reconnect comes to any replica",
    hint="keep the log where all replicas read it, and tell readers of what others append",
    presupposes=["resume.exact-suffix", "resume.live-tail"],
)
def test_other_replica(elsewhere: Elsewhere, dialect: Dialect, target: Target) -> None:
    run = elsewhere.run
    durably_kept(run, target)
    expect_suffix(run, parsed(dialect, elsewhere.over), elsewhere.over.recording)
    if elsewhere.live is not None:
        expect_suffix(run, run.identified[0][1], elsewhere.live, early=ends_early(run))


@requirement(
    "durable.one-executor",
    MUST,
    tier="durable",
    text="A run is executed once and ended once, however many replicas there are.",
    source="the server's own word that these are its replicas; docs/protocol.md 11.6",
    breaks="whoever pays for the agent's work, and clients that read behind the first terminal",
    hint="hold a lease on each run, fence it with a number, end runs by compare-and-append",
    presupposes=["durable.other-replica", "durable.kill-and-resume"],
)
def test_one_executor(executions: Executions, dialect: Dialect, target: Target) -> None:
    killed, elsewhere = executions.killed, executions.elsewhere
    for paid in executions.paid:
        durably_kept(paid.run, target)
        expect(
            not paid.usual or paid.calls < 2 * paid.usual,
            expected=f"{paid.usual} answers of the LLM, as for a run that one process sees alone",
            actual=f"{paid.calls} for a run {paid.what}",
            at=paid.run.last,
            hint="ask the log whose run it is before the agent begins, not when it says something",
        )
    if elsewhere is not None and elsewhere.again is not None:
        durably_kept(elsewhere.run, target)
        early = ends_early(elsewhere.run)
        expect_suffix(elsewhere.run, None, elsewhere.again, early=early)
    if killed is None:
        if elsewhere is None or elsewhere.again is None:
            raise NotTested(
                "no run was started at two replicas, and none lost its process",
                "have the replicas started: --agentstream-command … --agentstream-command …",
            )
        stop_if_unpaid(executions)
        return
    durably_kept(killed.run, target)
    readers = [*restarted(killed).whole, killed.again[0].recording, killed.beside]
    twice = elsewhere is not None and elsewhere.again is not None
    if not twice and killed.beside is None and not killed.whole[1:]:
        raise NotTested(
            "only one process ever saw the run",
            "have a second one started: --agentstream-command … --agentstream-command …",
        )
    ends: list[Event] = []
    for reader in readers:
        if reader is None or not reader.is_stream:
            continue
        found = Observation(
            Run(killed.run.scenario, "", (reader,)), dialect, killed.run.declared, killed.run.number
        ).terminals
        expect(
            len(found) < 2,
            expected="one terminal, whoever noticed that the run's process is dead",
            actual=" and ".join(named(event) for event, _ in found),
            at=tuple(event for event, _ in found),
        )
        ends += [event for event, _ in found]
    for event in ends[1:]:
        expect(
            same_place(ends[0], event) and _same_payload(ends[0], event),
            expected=f"{named(ends[0])} for every reader",
            actual=f"{named(event)} for another",
            at=(ends[0], event),
        )
    if not ends:
        raise NotTested("no reader of the run whose process was killed came to its end")
    stop_if_unpaid(executions)


def stop_if_unpaid(executions: Executions) -> None:
    """Raise `NotTested` where there is an LLM double, and no run's answers could be counted."""
    if executions.doubled and not any(paid.usual for paid in executions.paid):
        raise NotTested(
            "the LLM double knows of no answer for a run that one process sees alone, so a second "
            "executor that writes nothing would not be seen",
            "have the server ask the double, and pass on what the user says, in `pauses` or `long`",
        )


@requirement(
    "durable.retention",
    MUST,
    tier="durable",
    text="Events are kept for the declared time.",
    source="the server's own word",
    breaks="clients that come back in time, and get a refusal",
    hint="count the retention from the end of the run",
    presupposes=["resume.exact-suffix"],
)
def test_retention(kept_run: Kept, dialect: Dialect, target: Target) -> None:
    run, answer = kept_run.run, kept_run.answer.recording
    durably_kept(run, target)
    asked = moment(answer, answer.head.at if answer.head else answer.end.at)
    after = (asked - moment(run.last, run.last.end.at)).total_seconds()
    if answer.status in GONE and after + run.lag + RETENTION_GRACE > kept_run.retention:
        raise InDoubt(f"the answer came {after:.2f} s after the end, of {kept_run.retention:g} s")
    expect(
        answer.is_stream,
        expected=f"the run, {after:.2f} s after its end: it is kept for {kept_run.retention:g} s",
        actual=answered(answer),
        at=answer.head or answer,
        recording=answer,
    )
    expect_suffix(run, parsed(dialect, kept_run.answer), answer)


@requirement(
    "durable.bounded",
    SHOULD,
    tier="durable",
    text="What is kept of runs is bounded, in time and size, and the bounds are announced.",
    source="docs/protocol.md 5.2 and 11.5",
    breaks="the operator, when the disk is full; clients cannot know for how long they may be away",
    hint="say retention and run-bytes in the header that says what keeps the run",
)
def test_bounded(complete_run: Observation, dialect: Dialect, target: Target) -> None:
    name = dialect.profile.response.log_header
    if name is None:
        raise NotApplicable(f"the dialect {dialect.name} has no place where it could be announced")
    durably_kept(complete_run, target)
    keeping = keeping_of(complete_run, target)
    for what, value in (("retention", keeping.retention), ("run-bytes", keeping.size)):
        expect(
            value is not None and 0 < value < float("inf"),
            expected=f"`{what}` in {name}, a number above 0",
            actual=f"{keeping.said!r}" if keeping.said else "no such header",
            at=complete_run.first.head or complete_run.first,
            recording=complete_run.first,
        )
