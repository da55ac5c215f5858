"""Retrying: the class of every end, the waits, and what servers say of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.recording import Chunk, End, EndKind, Head, Phase, Recording, Request
from pytest_agentstream.retrying import (
    Backoff,
    InStreamError,
    RetryClass,
    classify,
    parse_http_date,
    parse_retry_after,
)

NEVER, AFTER_DELAY, RESUME = RetryClass.NEVER, RetryClass.AFTER_DELAY, RetryClass.RESUME
STREAM = "text/event-stream; charset=utf-8"


def recorded(
    kind: EndKind, status: int | None = 200, media: str = STREAM, phase: Phase | None = None
) -> Recording:
    headers = (("Content-Type", media),) if media else ()
    head = None if status is None else Head(status, "Said", "HTTP/1.1", headers, 0.1)
    chunks = (Chunk(0.2, b"data: {}\n\n"),) if head else ()
    end = End(kind, 0.3, phase, "in words")
    return Recording(Request("GET", "http://127.0.0.1/"), head, chunks, end)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (EndKind.COMPLETE, RESUME),
        (EndKind.CLOSE_DELIMITED, RESUME),
        (EndKind.CUT, RESUME),
        (EndKind.RESET, RESUME),
        (EndKind.LIMIT, NEVER),
        (EndKind.PROTOCOL, NEVER),
        (EndKind.STOPPED, NEVER),
        (EndKind.UNKNOWN, NEVER),
    ],
)
def test_ends_of_a_stream(kind: EndKind, expected: RetryClass) -> None:
    """A stream that broke off or just ended is resumed; one that the client left is not."""
    decision = classify(recorded(kind))
    assert decision.retry is expected
    assert decision.why.startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (EndKind.REFUSED, RESUME),
        (EndKind.DNS, RESUME),
        (EndKind.RESET, RESUME),
        (EndKind.CUT, RESUME),
        (EndKind.TLS, NEVER),
        (EndKind.PROTOCOL, NEVER),
    ],
)
def test_ends_without_an_answer(kind: EndKind, expected: RetryClass) -> None:
    """A server that is away may come back; one that can't be trusted or understood will not."""
    assert classify(recorded(kind, status=None)).retry is expected


@pytest.mark.parametrize(
    ("phase", "expected"),
    [(Phase.SILENCE, RESUME), (Phase.FIRST_EVENT, RESUME), (Phase.END, NEVER)],
)
def test_timeouts(phase: Phase, expected: RetryClass) -> None:
    """A silent stream is joined again; one that takes longer than all it may is not."""
    assert classify(recorded(EndKind.TIMEOUT, phase=phase)).retry is expected


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 302, 500])
def test_refusals(status: int) -> None:
    """A refusal is final, unless the dialect says otherwise."""
    decision = classify(recorded(EndKind.COMPLETE, status, "application/json"))
    assert decision.retry is NEVER
    assert decision.why == f"{status} Said"


@pytest.mark.parametrize("status", [429, 503])
def test_passing_refusals(status: int) -> None:
    """429 and 503 say "later" in every dialect."""
    assert classify(recorded(EndKind.COMPLETE, status, "")).retry is AFTER_DELAY


@pytest.mark.parametrize("status", [408, 409, 500])
def test_statuses_of_the_dialect(status: int) -> None:
    """What a dialect declares to be retryable is tried again after a delay."""
    recording = recorded(EndKind.COMPLETE, status, "")
    assert classify(recording, retryable_statuses=(408, 409, 500)).retry is AFTER_DELAY


def test_no_content_says_stop() -> None:
    """204 tells a client to stop (WHATWG HTML 9.2.3)."""
    decision = classify(recorded(EndKind.COMPLETE, 204, ""))
    assert decision.retry is NEVER
    assert "stop" in decision.why


@pytest.mark.parametrize("media", ["text/html", "application/json", ""])
def test_other_content_types(media: str) -> None:
    """An answer that is no event stream fails for good, and says what it is."""
    decision = classify(recorded(EndKind.COMPLETE, 200, media))
    assert decision.retry is NEVER
    assert (media or "absent") in decision.why


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        (EndKind.COMPLETE, InStreamError(retryable=False), NEVER),
        (EndKind.CUT, InStreamError(retryable=False), NEVER),
        (EndKind.COMPLETE, InStreamError(retryable=True), AFTER_DELAY),
        (EndKind.CUT, InStreamError(retryable=True), RESUME),
        (EndKind.COMPLETE, InStreamError(), RESUME),
    ],
)
def test_in_stream_errors(kind: EndKind, error: InStreamError, expected: RetryClass) -> None:
    """An in-stream error decides where it says whether a retry can help."""
    assert classify(recorded(kind), error=error).retry is expected


def test_first_wait_is_what_the_server_asks() -> None:
    """The first attempt waits exactly what the server asks for, later ones that and more."""
    backoff = Backoff(Random(1))
    assert backoff.next(0.2) == 0.2
    assert backoff.next(0.2) > 0.2


@given(st.integers(), st.integers(min_value=0, max_value=20))
def test_waits_grow_to_a_cap(seed: int, earlier: int) -> None:
    """Without a word of the server the wait is drawn from 0 to base, doubled each time, capped."""
    backoff = Backoff(Random(seed), base=0.5, cap=4.0, attempts=100)
    for _ in range(earlier):
        backoff.next()
    assert 0 <= backoff.next() <= min(4.0, 0.5 * 2**earlier)


def test_waits_repeat_with_the_seed() -> None:
    """The same seed gives the same waits."""
    one, two = Backoff(Random("7")), Backoff(Random("7"))
    assert [one.next() for _ in range(5)] == [two.next() for _ in range(5)]


def test_attempts_are_bounded() -> None:
    """Attempts in vain are bounded in a row, and all attempts in sum; progress counts anew."""
    backoff = Backoff(Random(0), attempts=2, total=5)
    for _ in range(2):
        assert not backoff.exhausted
        backoff.next()
    assert "2 attempts in a row" in backoff.exhausted
    for _ in range(3):
        backoff.progress()
        assert not backoff.exhausted
        backoff.next()
    backoff.progress()
    assert "5 attempts" in backoff.exhausted


NOW = datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sun, 06 Nov 1994 08:48:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("+5", None),
        ("1_000", None),
        ("٣", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("1994-11-06T08:49:37Z", None),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    """Retry-After is seconds, or an HTTP-date in one of its three forms, and nothing else."""
    assert parse_retry_after(text, NOW) == expected


def test_retry_after_counts_from_now() -> None:
    """Without another time a date counts from the wall clock."""
    later = datetime.now(UTC) + timedelta(seconds=100)
    after = parse_retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    assert after is not None
    assert 90 < after <= 100


def test_retry_after_of_any_length() -> None:
    """A number of any length is a number."""
    assert parse_retry_after("9" * 5000) == float("inf")


def test_http_date() -> None:
    """An HTTP-date is read as UTC."""
    expected = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == expected
