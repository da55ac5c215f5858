"""What may be tried again, and whether a server says so where a client looks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conformance_cases.resume import came, named, same_place, sent_after
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.paths import MISSING, find
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.retrying import parse_retry_after
from pytest_agentstream.verdicts import NotTested, expect

if TYPE_CHECKING:
    from conformance_cases.probes.cuts import Witnessed
    from conformance_cases.probes.readback import Answer
    from conformance_cases.probes.requests import Asked
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation

RETRIERS = "clients that decide by the status, as openai and anthropic do"


def said(asked: Asked) -> str:
    found = asked.recording
    if found.head is None:
        return f"{asked.what}: no answer ({found.end.kind})"
    return f"{asked.what}: status {found.status}, {found.head.value('content-type') or 'no type'}"


def is_refused(asked: Asked) -> bool:
    return asked.recording.status is not None and 400 <= asked.recording.status < 500


@requirement(
    "retry.bad-input",
    MUST,
    tier="resilient",
    text="Bad input never gets a 5xx and never hangs.",
    source="RFC 9110 15.5 and 15.6: who is to blame",
    breaks=f"{RETRIERS}: they send the same bad request again, and again",
    hint="validate the body before anything else; answer 400 or 422",
)
def test_bad_input(bad_bodies: list[Asked]) -> None:
    for asked in bad_bodies:
        found = asked.recording
        expect(
            found.head is not None and found.end.kind is not EndKind.TIMEOUT,
            expected=f"an answer to {asked.what}",
            actual=f"none in {found.end.at:.1f} s ({found.end.kind})",
            at=found,
        )
        expect(
            (found.status or 0) < 500,
            expected=f"a refusal (4xx), or tolerance, of {asked.what}",
            actual=f"status {found.status}",
            at=found.head,
            recording=found,
        )


@requirement(
    "retry.before-stream-is-http",
    MUST,
    tier="resilient",
    text="What fails before the stream begins fails with an HTTP status.",
    source="RFC 9110 15; the dialect's errors",
    breaks=f"{RETRIERS}: with 200 they take the error for an answer",
    hint="validate before the response is begun",
    presupposes=["retry.bad-input"],
)
def test_before_stream_is_http(bad_bodies: list[Asked], dialect: Dialect) -> None:
    for asked in bad_bodies:
        found = asked.recording
        events = dialect.events(found)
        for event in events[:1]:
            expect(
                event.role != "error",
                expected=f"an HTTP status that refuses {asked.what}",
                actual=f"status {found.status}, and an error in the stream",
                at=event,
            )
        expect(
            events or not found.is_stream,
            expected=f"an HTTP status that refuses {asked.what}, or a run",
            actual=f"status {found.status}, and a stream without any event ({found.end.kind})",
            at=found,
        )


@requirement(
    "retry.error-body",
    SHOULD,
    tier="resilient",
    text="HTTP errors have a JSON body.",
    source="RFC 9457; the dialects' clients read a message from it",
    breaks="clients that show the error's message: they show HTML, or nothing",
    hint="answer application/problem+json",
    presupposes=["retry.error-not-a-stream"],
)
def test_error_body(bad_bodies: list[Asked]) -> None:
    refused = [asked for asked in bad_bodies if is_refused(asked)]
    if not refused:
        raise NotTested("no bad body was refused")
    for asked in refused:
        found = asked.recording
        media = (found.head.value("content-type") or "" if found.head else "").lower()
        expect(
            "json" in media and is_json(found.body),
            expected=f"JSON in the refusal of {asked.what}",
            actual=f"{media or 'no content type'}: {found.body[:60]!r}",
            at=found.head,
            recording=found,
        )


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


@requirement(
    "retry.error-not-a-stream",
    SHOULD,
    tier="resilient",
    text="HTTP errors are not labelled text/event-stream.",
    source="RFC 9110 8.3; WHATWG HTML 9.2.3",
    breaks="clients that look at the type before the status",
    hint="give errors their own content type",
)
def test_error_not_a_stream(bad_bodies: list[Asked]) -> None:
    refused = [asked for asked in bad_bodies if is_refused(asked)]
    if not refused:
        raise NotTested("no bad body was refused")
    for asked in refused:
        head = asked.recording.head
        media = (head.value("content-type") or "" if head else "").lower()
        expect(
            "text/event-stream" not in media,
            expected=f"a refusal of {asked.what} that is no stream",
            actual=said(asked),
            at=head,
            recording=asked.recording,
        )


@requirement(
    "retry.auth",
    MUST,
    tier="resilient",
    text="Missing or wrong credentials get 401, 403 or 404.",
    source="RFC 9110 15.5.2 and 15.5.4",
    breaks="the operator: anyone starts runs; with a 5xx, clients try again for ever",
    hint="check credentials before anything else",
)
def test_auth(without_credentials: list[Asked]) -> None:
    for asked in without_credentials:
        expect(
            asked.recording.status in {401, 403, 404},
            expected=f"401, 403 or 404 for {asked.what}",
            actual=said(asked),
            at=asked.recording.head or asked.recording,
            recording=asked.recording,
        )


@requirement(
    "retry.auth-challenge",
    MUST,
    tier="resilient",
    text="A 401 says how to authenticate, in WWW-Authenticate.",
    source="RFC 9110 15.5.2: the server generating a 401 response MUST send a WWW-Authenticate",
    breaks="clients that fetch a token when they are challenged",
    hint="WWW-Authenticate: Bearer",
    presupposes=["retry.auth"],
)
def test_auth_challenge(without_credentials: list[Asked]) -> None:
    challenged = [asked for asked in without_credentials if asked.recording.status == 401]
    if not challenged:
        raise NotTested("no 401 was seen")
    for asked in challenged:
        head = asked.recording.head
        expect(
            head is not None and head.value("www-authenticate"),
            expected="WWW-Authenticate",
            actual=f"none beside the 401 for {asked.what}",
            at=head,
            recording=asked.recording,
        )


@requirement(
    "retry.not-found",
    MUST,
    tier="resilient",
    text="An unknown run gets 404, or the dialect's error.",
    source="RFC 9110 15.5.5; the dialect",
    breaks="clients that resume: an empty 200 has them reconnect for ever",
    hint="look the run up before the response is begun",
)
def test_not_found(unknown_run: Asked, dialect: Dialect) -> None:
    events = dialect.events(unknown_run.recording)
    expect(
        is_refused(unknown_run) or any(event.role == "error" for event in events),
        expected="404",
        actual=said(unknown_run),
        at=unknown_run.recording.head or unknown_run.recording,
        recording=unknown_run.recording,
    )


@requirement(
    "retry.class-in-stream",
    MUST,
    tier="resilient",
    text="An in-stream error says whether a retry can help, where the dialect has a place for it.",
    source="the dialect's errors",
    breaks="clients, which then retry what cannot succeed, or give up on what can",
    hint="classify where the error is caught",
    presupposes=["terminal.on-crash", "schema.required-fields"],
)
def test_class_in_stream(bad_runs: list[Observation], dialect: Dialect) -> None:
    path = dialect.profile.errors.retryable_path
    errors = [(run, event) for run in bad_runs for event in run.errors]
    if not errors or path is None:
        raise NotTested("no in-stream error was seen", "map a `crash` or a `fail` scenario")
    for run, event in errors:
        value = find(event.payload, path)
        expect(
            isinstance(value, bool),
            expected=f"true or false at {path}",
            actual="nothing there" if value is MISSING else repr(value),
            at=event,
        )
        known = run.declared.retryable
        expect(
            known is None or value is known,
            expected=f"{str(known).lower()} at {path}, as declared of `{run.scenario}`",
            actual=str(value).lower(),
            at=event,
        )


@requirement(
    "retry.after-terminal",
    MUST,
    tier="resilient",
    text="Resuming a finished run behind its terminal never starts it again.",
    source="the dialect's resume",
    breaks="EventSource: it reconnects after every end, and the run starts over",
    hint="answer 204 behind the terminal",
    presupposes=["resume.exact-suffix", "resume.same-request"],
)
def test_after_terminal(
    after_terminal: list[Answer], complete_run: Observation, dialect: Dialect
) -> None:
    for answer in after_terminal:
        # a terminal without a cursor of its own comes again behind the last one that there is
        rest = sent_after(complete_run, dialect.parse_cursor(answer.cursor))
        found = came(complete_run, answer.recording)
        again = [event for event in found if not any(same_place(event, one) for one in rest)]
        expect(
            not again,
            expected=f"nothing new behind {answer.cursor}, the last cursor of the run",
            actual=f"{len(again)} events, first {named(again[0])}" if again else "",
            at=again[0] if again else answer.recording,
        )


@requirement(
    "retry.duplicate-start",
    MUST,
    tier="resilient",
    text="A second start with the same idempotency key joins the run.",
    source="the dialect; draft-ietf-httpapi-idempotency-key-header",
    breaks="clients that post again after a network error: side effects happen twice",
    hint="keep the key with the run it started",
    presupposes=["ids.present", "schema.constant-identity"],
)
def test_duplicate_start(
    witnessed: Witnessed, duplicate_start: Asked, complete_run: Observation, dialect: Dialect
) -> None:
    pairs = [(complete_run, duplicate_start.recording), (witnessed.run, witnessed.again)]
    for run, again in pairs:
        if not run.identified:
            raise NotTested("the run that was to be joined has no ids")
        events = dialect.events(again) if again is not None else ()
        first = next((event for event in events if event.cursor is not None), None)
        before, cursor = run.identified[0]
        if first is None or first.cursor is None or cursor.run is None:
            raise NotTested("the ids do not name their run, so two runs cannot be told apart")
        expect(
            first.cursor.run == cursor.run,
            expected=f"the run {cursor.run} again",
            actual=f"another run, {first.cursor.run}",
            at=(before, first),
        )


@requirement(
    "retry.retry-after-valid",
    MUST,
    tier="resilient",
    text="A Retry-After that is sent is a number of seconds or an HTTP date.",
    source="RFC 9110 10.2.3",
    breaks=f"{RETRIERS}: they cannot read it, and come back at once",
    hint="Retry-After: 5",
    presupposes=["retry.overload-says-when"],
)
def test_retry_after_valid(overloads: list[Asked]) -> None:
    stop_without(overloads)
    said = [(asked, value) for asked in overloads if (value := retry_after(asked)) is not None]
    if not said:
        raise NotTested("no Retry-After was sent")
    for asked, value in said:
        expect(
            parse_retry_after(value) is not None,
            expected=f"seconds, or an HTTP date, from {asked.what}",
            actual=f"Retry-After: {value}",
            at=asked.recording.head,
            recording=asked.recording,
        )


def stop_without(overloads: list[Asked]) -> None:
    """Raise `NotTested` where no overload was seen."""
    if not overloads:
        raise NotTested(
            "no 429 or 503 was seen, and there is no control for the scenario `overloaded`",
            "map it: [tool.agentstream.scenarios] overloaded = …",
        )


def retry_after(asked: Asked) -> str | None:
    return asked.recording.head.value("retry-after") if asked.recording.head else None


@requirement(
    "retry.overload-says-when",
    SHOULD,
    tier="resilient",
    text="429 and 503 say when to come back, in Retry-After.",
    source="RFC 9110 10.2.3; RFC 6585 4",
    breaks=f"{RETRIERS}: they guess, and an outage gets worse",
    hint="Retry-After: 5",
)
def test_overload_says_when(overloads: list[Asked]) -> None:
    stop_without(overloads)
    for asked in overloads:
        expect(
            retry_after(asked),
            expected=f"Retry-After, from {asked.what}",
            actual=f"none beside status {asked.recording.status}",
            at=asked.recording.head,
            recording=asked.recording,
        )
