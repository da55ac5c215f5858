"""Servers that mean harm, through the whole suite: it ends in time, in bounds, and names it.

Each server is raw sockets. Whatever it sends, the run ends within the limits of its phases, takes
less than 300 MB, is red, names what was wrong, and shows no traceback.
"""

from __future__ import annotations

import asyncio
import secrets
import zlib
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.conftest import Peer
    from tests.hostile.conftest import Outcome

    Script = Callable[[Peer], Awaitable[None]]
    Judge = Callable[..., Outcome]

MEMORY = 300 * 10**6
START = 15.0
"""Seconds that it may take to start and to report, on a busy machine."""

RUN = "run-0123456789-abcdefghij"
MILLION = 10**6
PIECE = b"a" * 65536


def event(number: int, name: str = "token", data: str = '{"text":"x"}', run: str = RUN) -> str:
    return f"id: {run}/{number}\nevent: {name}\ndata: {data}\n\n"


def tokens(first: int, count: int) -> str:
    return "".join(event(number) for number in range(first, first + count))


TURN = event(1, "turn", '{"turn_number":1}')


def done(number: int, run: str = RUN) -> str:
    return event(number, "done", '{"status":"completed"}', run)


# Heads


async def endless_head(peer: Peer) -> None:
    """Header after header."""
    await peer.send("HTTP/1.1 200 OK\r\n")
    while True:
        await peer.send("X-More: and more\r\n" * 100)


async def endless_header(peer: Peer) -> None:
    """One header that does not end."""
    await peer.send("HTTP/1.1 200 OK\r\nX-More: ")
    while True:
        await peer.send(PIECE)


async def trickled_head(peer: Peer) -> None:
    """A head that comes byte by byte, always in time for any limit on silence."""
    await peer.send("HTTP/1.1 200 OK\r\nX-More: ")
    while True:
        await peer.send("a")
        await asyncio.sleep(0.02)


async def early_hints(peer: Peer) -> None:
    """One informational answer after another, and never the answer."""
    while True:
        await peer.send("HTTP/1.1 103 Early Hints\r\n\r\n" * 100)


async def redirects(peer: Peer) -> None:
    """A redirect to itself."""
    await peer.answer("307 Temporary Redirect", location=peer.target)


async def one_byte(peer: Peer) -> None:
    """One byte, then the end."""
    await peer.send("H")


# Bodies


async def one_byte_of_body(peer: Peer) -> None:
    """A head, one byte, then the end."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk("d")


async def endless_chunk_line(peer: Peer) -> None:
    """A chunk whose size does not end."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN)
    while True:
        await peer.send("0" * 10_000)


async def endless_line(peer: Peer) -> None:
    """One data line without an end."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(f"{TURN}data: ")
    while True:
        await peer.chunk(PIECE)


async def endless_stream(peer: Peer) -> None:
    """Events for ever, as fast as they go."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN)
    for hundred in count():
        await peer.chunk(tokens(100 * hundred + 2, 100))


async def endless_comments(peer: Peer) -> None:
    """Comments for ever, and never an event."""
    await peer.stream(agentstream_run=RUN)
    while True:
        await peer.chunk(":\n\n" * 20_000)


async def behind_the_terminal(peer: Peer) -> None:
    """A whole run, and events behind it for ever."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN + event(2) + done(3))
    for hundred in count():
        await peer.chunk(tokens(100 * hundred + 4, 100))


async def drip(peer: Peer) -> None:
    """A comment that never ends, a byte at a time."""
    await peer.stream(agentstream_run=RUN)
    while True:
        await peer.chunk(":")
        await asyncio.sleep(0.1)


async def tiny_chunks(peer: Peer) -> None:
    """A chunk for each byte."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN)
    while True:
        await peer.send("1\r\n:\r\n" * 5_000)


async def million_events(peer: Peer) -> None:
    """A million tiny events, and then a proper end."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN)
    for thousand in range(1000):
        await peer.chunk(tokens(1000 * thousand + 2, 1000))
    await peer.chunk(done(MILLION + 2))
    await peer.end()


async def one_event_of_100_mb(peer: Peer) -> None:
    """A single event of 100 MB."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(f'{TURN}id: {RUN}/2\nevent: token\ndata: {{"text":"')
    for _ in range(1600):
        await peer.chunk(PIECE)
    await peer.chunk('"}\n\n' + done(3))
    await peer.end()


async def json_of_100_mb(peer: Peer) -> None:
    """An answer that is no stream, of 100 MB, nested as deep."""
    await peer.head(content_type="application/json", content_length=str(100 * MILLION))
    for _ in range(100):
        await peer.send(b"[" * MILLION)


async def nested_events(peer: Peer) -> None:
    """Events whose few bytes become many objects."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(TURN)
    for number in range(2, 100):
        await peer.chunk(event(number, data="[" + "{}," * 50_000 + "0]"))
    await peer.end()


async def no_utf8(peer: Peer) -> None:
    """10 MB of bytes that are not UTF-8, in a single event."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(f"{TURN}id: {RUN}/2\nevent: token\ndata: ")
    await peer.chunk(b"\xff" * (10 * MILLION))
    await peer.chunk(f"\n\n{done(3)}")
    await peer.end()


async def gzip_never_flushed(peer: Peer) -> None:
    """Events in a compressor that keeps them."""
    await peer.stream(agentstream_run=RUN, content_encoding="gzip")
    compressor = zlib.compressobj(wbits=31)
    for number in count(1):
        compressed = compressor.compress(event(number).encode())
        if compressed:
            await peer.chunk(compressed)
        await asyncio.sleep(0.02)


async def gzip_bomb(peer: Peer) -> None:
    """A few MB of gzip that are 4 GB of events."""
    await peer.stream(agentstream_run=RUN, content_encoding="gzip")
    compressor = zlib.compressobj(wbits=31)
    await peer.chunk(compressor.compress(TURN.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH))
    events = b"data: {}\n\n" * 100_000
    for _ in range(4000):
        await peer.chunk(compressor.compress(events) + compressor.flush(zlib.Z_SYNC_FLUSH))


@dataclass(frozen=True)
class Row:
    """A server, and what the preflight says of it; `seconds` is the limit of the phase it meets."""

    script: Script
    words: str
    seconds: float


TOO_MUCH = "it answered 200 with more than can be judged: "
TABLE = {
    "endless head": Row(endless_head, "the response head is longer than 100 KiB", 1),
    "endless header": Row(endless_header, "the response head is longer than 100 KiB", 1),
    "trickled head": Row(trickled_head, "no response head within 1 s", 1),
    "early hints": Row(early_hints, "no response head within 1 s", 1),
    "redirect loop": Row(redirects, "it redirects again and again", 1),
    "one byte": Row(one_byte, "it closed the connection without an answer", 1),
    "one byte of body": Row(one_byte_of_body, "broke off before the first event", 1),
    "endless chunk line": Row(endless_chunk_line, f"{TOO_MUCH}a chunk's first line", 1),
    "endless line": Row(endless_line, f"{TOO_MUCH}the body is longer than 16,777,216 bytes", 10),
    "endless stream": Row(endless_stream, TOO_MUCH, 10),
    "endless comments": Row(endless_comments, TOO_MUCH, 1),
    "endless behind the terminal": Row(behind_the_terminal, TOO_MUCH, 10),
    "drip": Row(drip, "then sent no event for 1.", 1),
    "tiny chunks": Row(tiny_chunks, TOO_MUCH, 40),  # 167,000 of them, at 60 µs each
    "a million events": Row(million_events, TOO_MUCH, 10),
    "one event of 100 MB": Row(one_event_of_100_mb, TOO_MUCH, 10),
    "JSON of 100 MB": Row(json_of_100_mb, "200 with application/json, not a stream", 1),
    "nested events": Row(nested_events, TOO_MUCH, 10),
    "no UTF-8": Row(no_utf8, TOO_MUCH, 10),
    "gzip never flushed": Row(gzip_never_flushed, "10 bytes of gzip came, and decode to noth", 1),
    "gzip bomb": Row(gzip_bomb, TOO_MUCH, 10),
}


def check(outcome: Outcome, seconds: float) -> None:
    """Every bound that holds whatever a server does."""
    assert outcome.code == 1, outcome.said[-2000:]
    assert outcome.seconds < seconds, outcome.said[-2000:]
    assert outcome.memory < MEMORY
    for word in ("Traceback", "INTERNALERROR", "Warning"):
        assert word not in outcome.said, outcome.said[-4000:]


@pytest.mark.parametrize("name", TABLE)
def test_a_first_answer_that_means_harm(judge: Judge, name: str) -> None:
    """The preflight says what it was, in time and in bounds, and nothing more is asked."""
    row = TABLE[name]
    outcome = judge(row.script, end=max(10.0, row.seconds))
    check(outcome, START + row.seconds)
    assert row.words in outcome.preflight, outcome.preflight
    assert "runs started: 1" in outcome.said


RESUMED = ("ids.", "resume.")


def red(outcome: Outcome) -> set[str]:
    """The slugs of the requirements that the summary says have failed."""
    lines = (line.split() for line in outcome.said.splitlines())
    return {words[1].rstrip(":") for words in lines if words[:1] == ["failed"]}


def test_closes_after_an_event(judge: Judge) -> None:
    """A server that wants clients back after 29 s, for ever, is not followed beyond the limit."""

    async def come_again(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(f"retry: 29000\n{TURN}{event(2)}")

    outcome = judge(come_again, end=2)
    check(outcome, 3 * START)
    assert "http.terminated-body" in outcome.said


def test_another_answer_each_time(judge: Judge) -> None:
    """A server that answers each reconnect differently is red for all that it did wrong."""

    async def broken_off(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(TURN + event(2))

    async def page(peer: Peer) -> None:
        await peer.answer("200 OK", "<html>", content_type="text/html")

    async def failure(peer: Peer) -> None:
        await peer.answer("500 Oops", "{")

    async def backwards(peer: Peer) -> None:
        await peer.stream(agentstream_run="other")
        await peer.chunk(done(9) + event(3) + "id: \0\ndata\n\n")

    async def over(peer: Peer) -> None:
        await peer.head("204 No Content")

    answers = cycle([page, failure, backwards, one_byte, over, redirects, broken_off])
    starts = {"tools": backwards, "echo": page, "long": failure, "fail": one_byte, "crash": over}

    async def next_answer(peer: Peer) -> None:
        asked = peer.headers.get("x-agentstream-scenario", "").partition(";")[0]
        again = peer.method == "GET"
        await (next(answers) if again else starts.get(asked, broken_off))(peer)

    outcome = judge(next_answer, end=2)
    check(outcome, 3 * START)
    wrong = {"framing.id-without-nul", "framing.no-empty-data", "http.terminated-body"}
    assert red(outcome) >= wrong


def whole(run: str = RUN) -> str:
    """A whole run of three events."""
    return event(1, "turn", '{"turn_number":1}', run) + event(2, run=run) + done(3, run)


def test_other_ids_on_replay(judge: Judge) -> None:
    """A finished run that is replayed under other ids is red for it, beside a broken `silence`."""

    async def another_run(peer: Peer) -> None:
        again = peer.method == "GET"
        run = secrets.token_urlsafe(24) if again else RUN
        await peer.stream(agentstream_run=run)
        await peer.chunk(whole(run))
        await peer.end()

    outcome = judge(another_run, end=2)
    check(outcome, 3 * START)
    assert "the control of `silence` is broken" in outcome.said
    assert {slug for slug in red(outcome) if slug.startswith(RESUMED)} == {
        "ids.run-scoped",
        "resume.exact-suffix",
        "resume.future-cursor",
        "resume.unknown-cursor",
    }


async def endless_replay(peer: Peer) -> None:
    """Events for ever, for whoever comes back."""
    await peer.stream(agentstream_run=RUN)
    for hundred in count():
        await peer.chunk(tokens(100 * hundred + 4, 100))


async def endless_replay_of_comments(peer: Peer) -> None:
    """Comments for ever, for whoever comes back."""
    await peer.stream(agentstream_run=RUN)
    while True:
        await peer.chunk(":\n\n" * 500)


REPLAYS = {
    "events": endless_replay,
    "comments": endless_replay_of_comments,
    "drip": drip,
    "head": endless_head,
}


@pytest.mark.parametrize("name", REPLAYS)
def test_an_endless_replay(judge: Judge, name: str) -> None:
    """A server that means harm only to who comes back is red for it, in time and in bounds."""

    async def server(peer: Peer) -> None:
        if peer.method == "GET":
            await REPLAYS[name](peer)
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(whole())
        await peer.end()

    outcome = judge(server, end=2)
    check(outcome, 3 * START)
    assert "not recorded" not in outcome.said
    assert {slug for slug in red(outcome) if slug.startswith(RESUMED)} == {
        "resume.finished-run",
        "resume.unknown-cursor",
    }


def test_many_events_just_below_the_limit(judge: Judge) -> None:
    """A run of 10,000 events is judged whole, in a time that grows with them and no faster."""

    async def many(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(TURN)
        for thousand in range(10):
            await peer.chunk(tokens(1000 * thousand + 2, 1000))
        await peer.chunk(done(10_002).replace("completed", "unheard-of"))
        await peer.end()

    outcome = judge(many, more="max_runs = 2")
    check(outcome, 3 * START)
    assert "10002 in all" in outcome.said


GOOD = "agentstream/http.py::test_status agentstream/framing.py::test_bounded_lines"
"""Cases that are met by whatever is answered below."""


def test_a_run_beyond_what_is_kept_of_one(judge: Judge) -> None:
    """A run too long to be recorded is not judged, and that is red: its end is not known."""

    async def endless_where_long(peer: Peer) -> None:
        if "long" in peer.headers.get("x-agentstream-scenario", ""):
            await endless_comments(peer)
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(TURN + event(2) + done(3))
        await peer.end()

    outcome = judge(endless_where_long, cases=GOOD)
    check(outcome, 3 * START)
    assert "not judged: `long` is longer than one run may be here: " in outcome.said
    assert " failed" not in outcome.said


def test_more_than_a_session_keeps(judge: Judge) -> None:
    """What was not recorded because a session is full is said in the summary, and that is red."""
    text = '{"text":"' + "x" * 32_000 + '"}'

    async def heavy(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(TURN)
        for number in range(2, 300):
            await peer.chunk(event(number, data=text))
        await peer.chunk(done(300))
        await peer.end()

    outcome = judge(heavy, cases=GOOD)
    check(outcome, 3 * START)
    assert "not recorded, so not judged: what was recorded takes 160 MiB already" in outcome.said
    assert "map shorter scenarios, or select fewer cases" in outcome.said
    assert " failed" not in outcome.said
