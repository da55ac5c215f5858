"""What a resume is answered with, behind a real cut: what is final, what passes, and for how long.

The server is scripted, the proxy and the client are real. Each journey is cut behind its third
event; each row says what the server answers then, and what the client makes of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.faults import Cut

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.client.conftest import Journey
    from tests.conftest import Peer, RawServer

    Travel = Callable[..., Journey]
    Serving = Callable[..., AbstractContextManager[RawServer]]

Answer = Callable[["Peer", int], Awaitable[None]]
"""Answer a resume behind the event with this number."""

RUN = "run-0123456789-abcdefghij"
PIECES = ("Grüße ", "aus Zürich: ", "☕ ", "and ", "🍰.")
TEXT = "".join(PIECES)
SEEN = "".join(PIECES[:2])
"""What came before the cut, behind the turn."""

FIRST = 0.1
"""Seconds that the server's `retry` asks for."""

ATTEMPTS = 6
"""Attempts in a row that may bring nothing."""


def event(number: int, name: str, data: str) -> str:
    return f"id: {RUN}/{number}\nevent: {name}\ndata: {data}\n\n"


TURN = f"retry: {FIRST * 1000:.0f}\n" + event(1, "turn", '{"turn_number":1}')
TOKENS = [event(n, "token", f'{{"text":"{piece}"}}') for n, piece in enumerate(PIECES, 2)]
EVENTS = (TURN, *TOKENS, event(7, "done", '{"status":"completed"}'))


async def rest(peer: Peer, behind: int) -> None:
    """Every event behind a cursor."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk("".join(EVENTS[behind:]))
    await peer.end()


async def next_two(peer: Peer, behind: int) -> None:
    """Two events, and a proper end without a terminal."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk("".join(EVENTS[behind : behind + 2]))
    await peer.end()


async def nothing(peer: Peer, _: int) -> None:
    """A stream that ends at once, and properly."""
    await peer.stream(agentstream_run=RUN)
    await peer.end()


def says(status: str, body: str = "", **headers: str) -> Answer:
    """An answer that is no stream."""

    async def answer(peer: Peer, _: int) -> None:
        await peer.answer(status, body, **headers)

    return answer


def error(retryable: str, more: str = "") -> Answer:
    """The next event, then an error that has no id, and a proper end."""

    async def answer(peer: Peer, behind: int) -> None:
        data = f'{{"error_type":"upstream","message":"Oh.","retryable":{retryable}{more}}}'
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(f"{EVENTS[behind]}event: error\ndata: {data}\n\n")
        await peer.end()

    return answer


@dataclass(frozen=True)
class Row:
    """Answers to the resumes in turn, the last one again and again, and what became of it.

    `asked` are the numbers of the events behind which the client came back, `floors` the waits that
    the server asked for, in seconds. `why` is how the client gave up, where it did.
    """

    answers: tuple[Answer, ...]
    asked: tuple[int, ...]
    floors: tuple[float, ...]
    text: str = TEXT
    why: str = ""


PAGE = says("200 OK", "<html>Sign in</html>", content_type="text/html")
GONE = '{"title":"Not Found"}'
BUSY = says("429 Too Many Requests", retry_after="1")
DOWN = says("503 Service Unavailable", retry_after="1")
VAIN = f"given up: {ATTEMPTS} attempts in a row brought nothing"

FINAL = {
    "204": Row((says("204 No Content"),), (3,), (FIRST,), SEEN, "204: the server says to stop"),
    "404": Row((says("404 Not Found", GONE),), (3,), (FIRST,), SEEN, "404 Not Found"),
    "a page": Row(
        (PAGE,),
        (3,),
        (FIRST,),
        SEEN,
        "no stream: Content-Type is text/html, not text/event-stream",
    ),
    "an error that is final": Row(
        (error("false"),),
        (3,),
        (FIRST,),
        SEEN + PIECES[2],
        "an in-stream error says that a retry can't help",
    ),
    "a wait beyond patience": Row(
        (says("503 Service Unavailable", retry_after="3600"),),
        (3,),
        (FIRST,),
        SEEN,
        "503 Service Unavailable; given up: the server asks for a wait of 3600 s, longer than 30 s",
    ),
}

PASSING = {
    "429": Row((BUSY, rest), (3, 3), (FIRST, 1.0)),
    "503": Row((DOWN, rest), (3, 3), (FIRST, 1.0)),
    "429, then 503": Row((BUSY, DOWN, rest), (3, 3, 3), (FIRST, 1.0, 1.0)),
    "503 without Retry-After": Row((says("503 Service Unavailable"), rest), (3, 3), (FIRST, FIRST)),
    "an error that passes": Row(
        (error("true", ',"retry_after_ms":300'), rest), (3, 4), (FIRST, 0.3)
    ),
    "an error that passes at once": Row((error("true"), rest), (3, 4), (FIRST, FIRST)),
    "an end without terminal": Row((next_two, rest), (3, 5), (FIRST, FIRST)),
    "ends without terminal": Row((nothing, nothing, rest), (3, 3, 3), (FIRST, FIRST, FIRST)),
}

IN_VAIN = {
    "503 for ever": Row(
        (says("503 Service Unavailable", retry_after="0"),),
        (3,) * ATTEMPTS,
        (FIRST,) * ATTEMPTS,
        SEEN,
        f"503 Service Unavailable; {VAIN}",
    ),
    "ends without terminal, for ever": Row(
        (nothing,),
        (3,) * ATTEMPTS,
        (FIRST,) * ATTEMPTS,
        SEEN,
        f"complete: the body ended without a terminal; {VAIN}",
    ),
}


def journey(travel: Travel, serving: Serving, row: Row) -> Journey:
    """Start the run, cut it behind its third event, and follow what the row answers."""
    answers = list(row.answers)

    async def server(peer: Peer) -> None:
        cursor = peer.headers.get("last-event-id")
        if cursor is None:
            await rest(peer, 0)
        else:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            await answer(peer, int(cursor.removeprefix(f"{RUN}/")))

    with serving(server) as running:
        return travel([Cut(after_event=3)], url=f"{running.origin}/v1/runs")


def check(seen: Journey, row: Row) -> None:
    """Check what every journey shows: each request, each wait, each character, and why it ended."""
    assert seen.asked == ["POST", *(f"GET {number}" for number in row.asked)]
    assert tuple(seen.ends) == ("cut", *["complete"] * len(row.asked))
    assert tuple(seen.backoff.floors) == row.floors
    assert seen.text == row.text
    assert seen.run.synthetic == row.why
    for wait, floor, pause in zip(seen.backoff.waits, row.floors, seen.pauses, strict=True):
        assert wait >= floor
        assert pause >= wait - 0.002  # clocks of two kinds differ a little


@pytest.mark.parametrize("name", FINAL)
def test_final_answers(travel: Travel, serving: Serving, name: str) -> None:
    """What a retry can't change is asked once; what was seen until then stays."""
    check(journey(travel, serving, FINAL[name]), FINAL[name])


@pytest.mark.parametrize("name", PASSING)
def test_passing_answers(travel: Travel, serving: Serving, name: str) -> None:
    """What passes is asked again from where it was, no earlier than the server said."""
    seen = journey(travel, serving, PASSING[name])
    check(seen, PASSING[name])
    kept = [one for one in seen.identities if one[0] != "error"]
    assert kept == seen.read_back


@pytest.mark.parametrize("name", IN_VAIN)
def test_answers_in_vain(travel: Travel, serving: Serving, name: str) -> None:
    """What brings nothing is asked six times in a row and no more, in waits that are drawn anew."""
    seen = journey(travel, serving, IN_VAIN[name])
    check(seen, IN_VAIN[name])
    assert seen.backoff.waits[0] == FIRST
    assert all(wait > FIRST for wait in seen.backoff.waits[1:])
