"""Places: found at the same byte however the bytes are cut, or said to be out of reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentstream.faults.places import (
    BodyByte,
    ConnectionByte,
    EventEnd,
    InAnswers,
    Mark,
    Place,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
CLOSING = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
BLOCKS = (
    b"id: 1\ndata: a\n\n",
    b": a comment\n\n",
    b"retry: 100\n\n",
    b": hb\nid: 2\ndata: b\n\n",
    b": hb\n: hb\nid: 3\ndata: c\n\n",
)
ONE, COMMENT, RETRY, TWO, THREE = BLOCKS
BODY = b"".join(BLOCKS)
END = b"0\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def place_in(place: Place, *pieces: bytes) -> int | None:
    """Where in all pieces together the place is."""
    start = 0
    for piece in pieces:
        found = place.find(piece)
        if found is not None:
            return start + found
        start += len(piece)
    return None


# what is looked for -> the body up to there
MARKS: dict[str, tuple[tuple[int, int], bytes]] = {
    "event 1": ((1, 0), ONE),
    "event 2": ((2, 0), ONE + COMMENT + RETRY + TWO),
    "event 3": ((3, 0), BODY),
    "a byte into event 1": ((0, 1), b"i"),
    "into event 1": ((0, 7), b"id: 1\nd"),
    "into what follows event 1": ((1, 4), ONE + COMMENT + b"retr"),
    "past a block that dispatches nothing": (
        (1, 13),
        ONE + COMMENT + RETRY + b": hb\nid: 2\ndata: b",
    ),
    "into event 3, past its comments": ((2, 2), ONE + COMMENT + RETRY + TWO + b": hb\n: hb\nid"),
    "event 2 is shorter": ((2, 900), BODY),
}


@pytest.mark.parametrize("name", MARKS)
@settings(max_examples=40)
@given(data=st.data())
def test_events_however_they_are_cut(name: str, data: st.DataObject) -> None:
    """The place of an event is the same in any framing, cut anywhere."""
    asked, until = MARKS[name]
    sizes = st.lists(st.integers(1, 40), min_size=1)
    pieces = cut(BODY, data.draw(sizes))
    framing = data.draw(st.sampled_from(["chunked", "length", "closing"]))
    if framing == "chunked":
        sent = HEAD + chunked(*pieces) + END
    else:
        sent = (LENGTH % len(BODY) if framing == "length" else CLOSING) + BODY
    place = InAnswers(EventEnd(*asked))
    found = place_in(place, *cut(sent, data.draw(sizes)))
    assert found is not None
    assert sent[:found].endswith(until[-1:])
    assert body_of(sent[:found]) == until


def cut(whole: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    while whole:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(whole[:size])
        whole = whole[size:]
    return pieces


def body_of(sent: bytes) -> bytes:
    """The body bytes in the beginning of an answer."""
    head, _, rest = sent.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size or b"0", 16)
        body, rest = body + rest[:length], rest[length + 2 :]
    return body


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("line_end", "event", "into"),
    [(b"\r\n", 1, 0), (b"\r\n", 1, 3), (b"\r", 1, 0), (b"\r", 1, 3), (b"\r\n", 2, 0)],
)
def test_other_line_ends(line_end: bytes, event: int, into: int, pieces: int) -> None:
    """The LF of a CRLF that ends a block belongs to it, and a lone CR waits for nothing."""
    first, second = (block.replace(b"\n", line_end) for block in (ONE, b"id: 2\ndata: b\n\n"))
    until = first + second[:into] if event == 1 else first + second
    sent = CLOSING + first + second + b": more"
    found = place_in(InAnswers(EventEnd(event, into)), *cut(sent, [pieces]))
    assert found == len(CLOSING) + len(until)


def test_a_lone_cr_behind_a_crlf() -> None:
    """A block that ends in CRLF CR ends there, once the next byte is no LF."""
    first = b"data: a\r\n\r"
    place = InAnswers(EventEnd(1))
    assert place.find(CLOSING + first) is None
    assert place.find(b"data: b") == 0


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_body_bytes(size: int) -> None:
    """Body bytes are counted without their framing; 0 is right behind the head."""
    sent = HEAD + chunked(b"abc", b"defg") + END
    for count, until in {0: HEAD, 1: HEAD + b"3\r\na", 3: HEAD + b"3\r\nabc"}.items():
        assert place_in(InAnswers(BodyByte(count)), *cut(sent, [size])) == len(until)
    until = HEAD + b"3\r\nabc\r\n4\r\nd"
    assert place_in(InAnswers(BodyByte(4)), *cut(sent, [size])) == len(until)
    assert place_in(InAnswers(BodyByte(8)), *cut(sent, [size])) is None


def test_many_small_chunks() -> None:
    """What h11 is given at once doesn't move a place."""
    sent = HEAD + chunked(*(b"data: %d\n\n" % number for number in range(5000))) + END
    found = InAnswers(EventEnd(4321)).find(sent)
    assert found is not None
    assert sent[:found].endswith(b"data: 4320\n\n")


def test_connection_bytes() -> None:
    """Bytes of the connection are counted from its first."""
    assert place_in(ConnectionByte(0), b"ab") == 0
    assert place_in(ConnectionByte(2), b"ab", b"c") == 2
    assert place_in(ConnectionByte(3), b"ab", b"cd") == 3
    assert place_in(ConnectionByte(5), b"ab", b"cd") is None


def test_a_connection_that_is_used_again() -> None:
    """Events of all event streams on a connection count; an answer to HEAD has no body."""
    other = (LENGTH % len(ONE)).replace(b"text/event-stream", b"text/plain") + ONE
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    stream = LENGTH % len(ONE) + ONE
    headed = LENGTH % len(ONE)
    for size in (1, 50, 5000):
        place = InAnswers(EventEnd(2))
        for method in (b"GET", b"HEAD", b"POST", b"GET"):
            place.asked(b"%b / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{ }" % method)
        sent = stream + headed + other + early + stream
        assert place_in(place, *cut(sent, [size])) == len(sent)


@pytest.mark.parametrize("mark", [EventEnd(1), BodyByte(4)])
def test_no_http(mark: Mark) -> None:
    """Where the bytes are no HTTP, there is no such place, and it is said why."""
    place = InAnswers(mark)
    assert place_in(place, b"SSH-2.0-OpenSSH\r\n\r\n", b"data: a\n\n") is None
    assert place.problem.startswith("the answer can't be read as HTTP/1.1: illegal status line")


def test_a_coded_body() -> None:
    """Where the body is coded, its events have no place, and it is said why."""
    place = InAnswers(EventEnd(1))
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    assert place_in(place, head + chunked(ONE)) is None
    assert place.problem == "events of a body in gzip can't be located"


def test_requests_that_are_no_http() -> None:
    """Requests that h11 doesn't take are for the server to judge; answers are still read."""
    place = InAnswers(EventEnd(1))
    place.asked(b"GET\r\n\r\n")
    place.asked(b"more")
    assert place_in(place, CLOSING + ONE) == len(CLOSING + ONE)
