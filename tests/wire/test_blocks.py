"""Blocks and lines: where they start and end, what they hold, when they are complete."""

from __future__ import annotations

import pytest

from pytest_agentstream.wire import Block, Decoder, Line, decode

# name -> body, its blocks' bytes; the last is a tail where it lacks its blank line
BLOCKS: dict[str, tuple[bytes, list[bytes]]] = {
    "nothing": (b"", []),
    "one": (b"data: a\n\n", [b"data: a\n\n"]),
    "two": (b"data: a\n\n: b\r\n\r\n", [b"data: a\n\n", b": b\r\n\r\n"]),
    "blank lines are blocks": (
        b"\n\r\n\r\ra\n\n\n",
        [b"\n", b"\r\n", b"\r", b"\r", b"a\n\n", b"\n"],
    ),
    "CR CR LF": (b"a\r\r\nb\r\r", [b"a\r\r\n", b"b\r\r"]),
    "LF CR LF": (b"a\n\r\n\n", [b"a\n\r\n", b"\n"]),
    "a mark belongs to the first block": (
        b"\xef\xbb\xbf\n\xef\xbb\xbf\n",
        [b"\xef\xbb\xbf\n", b"\xef\xbb\xbf\n"],
    ),
    "a mark alone is a tail": (b"\xef\xbb\xbf", [b"\xef\xbb\xbf"]),
    "a tail": (b"a\n\nb\r\n", [b"a\n\n", b"b\r\n"]),
}


@pytest.mark.parametrize(("body", "raws"), BLOCKS.values(), ids=BLOCKS)
def test_borders(body: bytes, raws: list[bytes]) -> None:
    """Blocks follow one another without gaps, wherever the body is split."""
    for cut in range(len(body) + 1):
        blocks = decode([(0.0, body[:cut]), (0.0, body[cut:])])
        assert [block.raw for block in blocks] == raws
        assert [block.index for block in blocks] == list(range(len(raws)))
        assert [body[block.start : block.end] for block in blocks] == raws


def test_a_tail_is_not_complete() -> None:
    """What the body's end leaves without its blank line is a tail, returned once."""
    decoder = Decoder()
    (block,) = decoder.feed(b"data: a\n\nid: 1\ndata: b", at=1.0)
    (tail,) = decoder.finish(at=2.0)
    assert (block.complete, block.at) == (True, 1.0)
    assert (tail.complete, tail.at, tail.event, tail.id, tail.has_data) == (
        False,
        2.0,
        None,
        None,
        True,
    )
    assert decoder.finish() == []


def test_a_block_has_the_time_of_the_chunk_that_completes_it() -> None:
    """The arrival of a block is that of its last byte that matters."""
    body = [
        (1.0, b"data"),
        (2.0, b": a\n"),
        (3.0, b"\ndata: b\n\n:"),
        (4.0, b" c\n\nd"),
        (5.0, b""),
    ]
    assert [block.at for block in decode(body)] == [3.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("chunk", "data"),
    [(b"data: a\r\r", "a"), (b"data: a\n\r", "a"), (b"data: a\r\n\r", "a"), (b"data\r\r", "")],
)
def test_cr_closes_a_block_at_once(chunk: bytes, data: str) -> None:
    """A block that ends in CR is returned without waiting for a byte that may never come."""
    (block,) = Decoder().feed(chunk)
    assert block.event is not None
    assert block.event.data == data


def test_lf_of_a_split_crlf_is_added_to_the_returned_block() -> None:
    """The LF after the CR that closed a block belongs to that block, and closes no other."""
    decoder = Decoder()
    (first,) = decoder.feed(b"data: a\r\n\r", at=1.0)
    assert (first.raw, first.end) == (b"data: a\r\n\r", 10)
    (second,) = decoder.feed(b"\ndata: b\r\n\r\n", at=2.0)
    assert (first.raw, first.end, first.at) == (b"data: a\r\n\r\n", 11, 1.0)
    assert (second.raw, second.start) == (b"data: b\r\n\r\n", 11)
    assert decoder.finish() == []


def test_only_one_lf_is_added() -> None:
    """A second LF after a closing CR is a blank line of its own."""
    decoder = Decoder()
    (first,) = decoder.feed(b"\r")
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\n") == []
    (second,) = decoder.feed(b"\n")
    assert (first.raw, second.raw) == (b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("body", "has_bom"),
    [
        (b"\xef\xbb\xbfdata: a\n\n", True),
        (b"\xef\xbb\xbf", True),
        (b"\xef\xbb\n\n", False),
        (b"\n\xef\xbb\xbf\n\n", False),
        (b"data: a\n\n", False),
        (b"", False),
    ],
)
def test_bom_is_a_fact(body: bytes, has_bom: bool) -> None:
    """A byte-order mark at the start is stripped from the lines and reported."""
    for cut in range(len(body) + 1):
        decoder = Decoder()
        blocks = [*decoder.feed(body[:cut]), *decoder.feed(body[cut:]), *decoder.finish()]
        assert decoder.has_bom == has_bom
        assert decoder.offset == len(body)
        assert [block.bom for block in blocks] == [has_bom, *[False] * (len(blocks) - 1)][
            : len(blocks)
        ]


def only(body: bytes) -> Block:
    (block,) = decode([(0.0, body)])
    return block


def test_lines() -> None:
    """Lines have their offsets, their ends, and names and values as sent."""
    _, block = decode([(0.0, b"\n: hb\r\n:\rData:  a:b\ndata\nid:\n\xff: \xff\n\r\n")])
    assert block.lines == (
        Line(1, b": hb", b"\r\n", "comment", "", "hb", True),
        Line(7, b":", b"\r", "comment", "", "", True),
        Line(9, b"Data:  a:b", b"\n", "field", "Data", " a:b", True),
        Line(20, b"data", b"\n", "field", "data", "", False),
        Line(25, b"id:", b"\n", "field", "id", "", True),
        Line(29, b"\xff: \xff", b"\n", "field", "\ufffd", "\ufffd", True),
        Line(34, b"", b"\r\n", "blank", "", "", False),
    )
    assert block.comments == ("hb", "")


def test_lines_start_behind_the_mark() -> None:
    """A byte-order mark is part of the block's bytes and of no line."""
    assert only(b"\xef\xbb\xbf: a\n\n").lines == (
        Line(3, b": a", b"\n", "comment", "", "a", True),
        Line(7, b"", b"\n", "blank", "", "", False),
    )


def test_the_last_line_of_a_tail_may_have_no_end() -> None:
    """A line that the body's end cuts is there, without an end."""
    assert only(b"data: a\nda").lines == (
        Line(0, b"data: a", b"\n", "field", "data", "a", True),
        Line(8, b"da", b"", "field", "da", "", False),
    )
    assert [line.end for line in only(b"data: a\n").lines] == [b"\n"]


@pytest.mark.parametrize(
    ("body", "has_data"),
    [
        (b"data\n\n", True),
        (b"data: a\n\n", True),
        (b"data: a", True),
        (b"id: 1\n\n", False),
        (b"Data: a\n\n", False),
        (b"\n", False),
    ],
)
def test_has_data(body: bytes, has_data: bool) -> None:
    """A block says whether it has a data line, dispatched or not."""
    assert only(body).has_data == has_data


# bytes -> offsets of what is replaced
INVALID: dict[bytes, tuple[int, ...]] = {
    b"": (),
    "aé€😀".encode(): (),
    b"\x80": (0,),
    b"a\xffb\xfe": (1, 3),
    b"\xc0\xaf": (0, 1),
    b"\xe2\x82a": (0,),
    b"\xe2\x82": (0,),
    b"\xe2\xe2\x82\xac": (0,),
    b"\xed\xa0\x80": (0, 1, 2),
    b"\xe0\x80\x80": (0, 1, 2),
    b"\xf0\x9f\x98": (0,),
    b"\xf0\x80\x80\x80": (0, 1, 2, 3),
    b"\xf4\x90\x80\x80": (0, 1, 2, 3),
    b"\xf1\x80\x80\xe1\x80\xc2\x62\x80": (0, 3, 5, 7),
}


@pytest.mark.parametrize(("sequence", "offsets"), INVALID.items())
def test_invalid_utf8_is_a_fact(sequence: bytes, offsets: tuple[int, ...]) -> None:
    """Each sequence that is not UTF-8 is reported with its offset in the body."""
    _, block = decode([(0.0, b"\ndata: " + sequence + b"\n\n")])
    assert block.invalid_utf8 == tuple(7 + offset for offset in offsets)
    assert block.event is not None
    assert block.event.data == sequence.decode("utf-8", "replace")
    assert block.event.data.count("\ufffd") == len(offsets)


def test_repr_is_short() -> None:
    """A block shows what it is and the start of its bytes."""
    assert repr(only(b"data: a\n\n")) == r"<Block 0: bytes 0-9, b'data: a\n\n'>"
    assert len(repr(only(b"x" * 10_000))) < 120
