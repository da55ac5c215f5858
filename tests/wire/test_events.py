"""The event view: bytes beside the events, ids and times that WHATWG HTML 9.2 makes of them."""

from __future__ import annotations

import pytest

from pytest_agentstream.wire import Block, Decoder, Event, decode


def message(data: str, last_event_id: str = "") -> Event:
    return Event("message", data, last_event_id)


# name -> body, events
EVENTS: dict[str, tuple[bytes, list[Event]]] = {
    "LF ends lines": (b"data: a\ndata: b\n\n", [message("a\nb")]),
    "CR ends lines": (b"data: a\rdata: b\r\r", [message("a\nb")]),
    "CRLF ends lines": (b"data: a\r\ndata: b\r\n\r\n", [message("a\nb")]),
    "line ends may be mixed": (
        b"data: a\rdata: b\r\n\ndata: c\n\r\n",
        [message("a\nb"), message("c")],
    ),
    "LF CR are two line ends": (b"data: a\n\rdata: b\n\r", [message("a"), message("b")]),
    "U+2028 and U+0085 end no line": (
        "data: a\u2028b\x85c\x0bd\x0ce\n\n".encode(),
        [message("a\u2028b\x85c\x0bd\x0ce")],
    ),
    "one byte-order mark is stripped": (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    "a second mark is part of the name": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "a later mark is part of the name": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [message("a")]),
    "half a mark is part of the name": (b"\xef\xbbdata: a\n\ndata: b\n\n", [message("b")]),
    "a marked first block may have several data lines": (
        b"\xef\xbb\xbfdata: a\ndata: b\n\n",
        [message("a\nb")],
    ),
    "one space after the colon is stripped": (b"data:  a \n\n", [message(" a ")]),
    "one space of each data line is stripped": (b"data:  a\ndata:   b\n\n", [message(" a\n  b")]),
    "no space after the colon is needed": (b"data:a\n\n", [message("a")]),
    "a tab is no space": (b"data:\ta\n\n", [message("\ta")]),
    "later colons belong to the value": (b"data:a:b: c\n\n", [message("a:b: c")]),
    "a name alone has an empty value": (b"data\n\n", [message("")]),
    "empty data dispatches an empty event": (b"data:\n\n", [message("")]),
    "two empty data lines are one LF": (b"data\ndata\n\n", [message("\n")]),
    "data lines need not be neighbours": (
        b"data: a\nevent: e\ndata: b\nid: 1\ndata\n\n",
        [Event("e", "a\nb\n", "1")],
    ),
    "field names are case-sensitive": (b"Data: a\nDATA: b\n\n", []),
    "a space before the colon is part of the name": (b"data : a\n\n", []),
    "a space before the name is part of it": (b" data: a\n\n", []),
    "a longer name is another name": (b"database: a\neventx: b\nids: 3\n\n", []),
    "unknown fields are ignored": (b"foo: a\ndata: b\nbar\n\n", [message("b")]),
    "comments are ignored": (b": a\n:b\n:\ndata: c\n\n", [message("c")]),
    "a block without data is not dispatched": (b"event: e\n\ndata: a\n\n", [message("a")]),
    "the type is the last one": (b"event: e\nevent: f\ndata: a\n\n", [Event("f", "a", "")]),
    "an empty type is message": (b"event: e\nevent\ndata: a\n\n", [message("a")]),
    "a type lasts one block": (
        b"event: e\ndata: a\n\ndata: b\n\n",
        [Event("e", "a", ""), message("b")],
    ),
    "an id lasts": (b"id: 1\ndata: a\n\ndata: b\n\n", [message("a", "1"), message("b", "1")]),
    "an id counts in a block without data": (b"id: 1\n\ndata: a\n\n", [message("a", "1")]),
    "the id is the last one": (b"id: 1\nid: 2\ndata: a\n\n", [message("a", "2")]),
    "an id after the data counts": (b"data: a\nid: 1\n\n", [message("a", "1")]),
    "a bare id clears": (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [message("a", "1"), message("b")]),
    "an empty id clears": (
        b"id: 1\ndata: a\n\nid:\ndata: b\n\n",
        [message("a", "1"), message("b")],
    ),
    "an id with NUL is ignored": (
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
        [message("a", "1"), message("b", "1")],
    ),
    "an id with NUL leaves the line before": (b"id: 1\nid: \0\ndata: a\n\n", [message("a", "1")]),
    "NUL in data stays": (b"data: a\0b\n\n", [message("a\0b")]),
    "a tail is discarded": (b"data: a\n\ndata: b\n", [message("a")]),
    "a tail without its line end is discarded": (b"data: a\n\ndata: b", [message("a")]),
    "invalid UTF-8 is replaced": (b"data: \xff\xe2\x82 \xc3\xa9\n\n", [message("\ufffd\ufffd é")]),
    "blank lines dispatch nothing": (b"\n\r\n\rdata: a\n\n\n\n", [message("a")]),
    "nothing is no event": (b"", []),
}

# name -> body, reconnection time of each block (a tail, too)
RETRIES: dict[str, tuple[bytes, list[int | None]]] = {
    "digits are milliseconds": (b"retry: 1500\n\n", [1500]),
    "no space is needed": (b"retry:7\n\n", [7]),
    "zero is a number": (b"retry: 0\n\n", [0]),
    "leading zeros do not matter": (b"retry: " + b"0" * 30 + b"12\n\n", [12]),
    "a sign is no digit": (b"retry: -5\n\nretry: +5\n\n", [None, None]),
    "an underscore is no digit": (b"retry: 1_000\n\n", [None]),
    "a point is no digit": (b"retry: 1.5\n\n", [None]),
    "a second space is no digit": (b"retry:  5\n\nretry: 5 \n\n", [None, None]),
    "other scripts' digits are not ASCII": ("retry: ٣\n\nretry: ²\n\n".encode(), [None, None]),
    "nothing is no number": (b"retry\n\nretry:\n\nretry: \n\n", [None, None, None]),
    "the last valid line counts": (b"retry: 1\nretry: 2\nretry: x\n\n", [2]),
    "it lasts one block here": (b"retry: 1\n\ndata: a\n\n", [1, None]),
    "it acts in a tail that begins with a mark": (b"\xef\xbb\xbfretry: 1\n", [1]),
    "it acts in a tail": (b"retry: 1\r\ndata: a", [1]),
    "it acts in a tail that ends in CR": (b"retry: 1\r", [1]),
    "a tail's last line is no line": (b"retry: 1", [None]),
    "a number beyond measure is the longest": (b"retry: " + b"9" * 5000 + b"\n\n", [2**63 - 1]),
    "the longest is exact": (b"retry: 9223372036854775807\n\n", [2**63 - 1]),
    "one more is the longest": (b"retry: 9223372036854775808\n\n", [2**63 - 1]),
}

# name -> body, id that each block sets
IDS: dict[str, tuple[bytes, list[str | None]]] = {
    "none": (b"data: a\n\n: c\n\n\n", [None, None, None]),
    "set": (b"id: 1\n\nid:2\ndata: a\n\n", ["1", "2"]),
    "cleared": (b"id\n\nid:\n\nid: \n\n", ["", "", ""]),
    "a second space is part of it": (b"id:  \n\n", [" "]),
    "NUL": (b"id: 1\0\n\nid: 2\nid: \0\n\n", [None, "2"]),
    "a tail sets none": (b"id: 1\n\nid: 2\n", ["1", None]),
}


def at_every_split(body: bytes) -> list[tuple[bytes, ...]]:
    halves = [(body[:cut], body[cut:]) for cut in range(len(body) + 1)]
    return [(body,), *halves, tuple(body[i : i + 1] for i in range(len(body)))]


def blocks_of(pieces: tuple[bytes, ...]) -> tuple[Block, ...]:
    return decode((0.0, piece) for piece in pieces)


@pytest.mark.parametrize(("body", "events"), EVENTS.values(), ids=EVENTS)
def test_events(body: bytes, events: list[Event]) -> None:
    """A body dispatches these events, wherever it is split."""
    for pieces in at_every_split(body):
        assert [block.event for block in blocks_of(pieces) if block.event] == events


@pytest.mark.parametrize(("body", "retries"), RETRIES.values(), ids=RETRIES)
def test_retry(body: bytes, retries: list[int | None]) -> None:
    """A block sets the reconnection time only by ASCII digits, wherever it is split."""
    for pieces in at_every_split(body):
        assert [block.retry for block in blocks_of(pieces)] == retries


@pytest.mark.parametrize(("body", "ids"), IDS.values(), ids=IDS)
def test_id(body: bytes, ids: list[str | None]) -> None:
    """A block says which id it sets, and tells clearing it from leaving it alone."""
    for pieces in at_every_split(body):
        assert [block.id for block in blocks_of(pieces)] == ids


def test_last_event_id_is_that_of_the_last_complete_block() -> None:
    """The decoder's last event id is what a client would reconnect with."""
    decoder = Decoder()
    seen = []
    for chunk in (
        b"data: a\n\n",
        b"id: 1\n",
        b"\n",
        b"id: 2\ndata: b",
        b"\n\n",
        b"id\n\n",
        b"id: 3\n",
    ):
        decoder.feed(chunk)
        seen.append(decoder.last_event_id)
    decoder.finish()
    assert seen == ["", "", "1", "1", "2", "", ""]
    assert decoder.last_event_id == ""
