"""The limit: what is longer is a fact, not memory."""

from __future__ import annotations

import tracemalloc

import pytest

from pytest_agentstream.wire import Decoder, decode


def test_a_long_block_keeps_its_first_bytes() -> None:
    """Of a block over the limit the first bytes are kept, and the rest is counted."""
    body = b"id: 1\nretry: 5\ndata: " + b"a" * 50 + b"\n\ndata: b\n\n"
    for size in (1, 7, 10, len(body)):
        chunks = [(0.0, body[i : i + size]) for i in range(0, len(body), size)]
        long, short = decode(chunks, limit=30)
        assert (long.raw, long.start, long.end) == (body[:30], 0, 73)
        assert (long.truncated, long.complete, long.event) == (True, True, None)
        assert (long.id, long.retry, long.has_data) == ("1", 5, True)
        assert (short.start, short.truncated) == (73, False)
        assert short.event == ("message", "b", "1")


def test_a_long_first_block_may_have_a_mark() -> None:
    """A byte-order mark hides no field of a block over the limit."""
    (long,) = decode([(0.0, b"\xef\xbb\xbfid: 1\ndata: abcdef\n\n")], limit=12)
    assert (long.raw, long.bom, long.id) == (b"\xef\xbb\xbfid: 1\ndat", True, "1")


def test_a_cut_line_sets_nothing() -> None:
    """A line that the limit cuts is not read, for its value is not known."""
    long, short = decode([(0.0, b"id: 12345\n\ndata: a\n\n")], limit=6)
    assert (long.raw, long.id, long.lines[-1].end) == (b"id: 12", None, b"")
    assert short.truncated


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\n", b"\n\r\n", b"\r\n\r\n"])
def test_the_limit_is_exact(end: bytes) -> None:
    """A block of exactly the limit is whole; the LF of a CRLF that closes it is not counted."""
    body = b"data: a" + end
    counted = len(body) - end.endswith(b"\r\n")
    for cut in range(len(body) + 1):
        pieces = [(0.0, body[:cut]), (0.0, body[cut:])]
        (whole,) = decode(pieces, limit=counted)
        assert (whole.raw, whole.end, whole.truncated) == (body, len(body), False)
        assert whole.event is not None
        (cut_off,) = decode(pieces, limit=counted - 1)
        assert (cut_off.raw, cut_off.end) == (body[: counted - 1], len(body))
        assert (cut_off.truncated, cut_off.event) == (True, None)


def test_a_long_tail_keeps_its_first_bytes() -> None:
    """A tail over the limit is truncated, too."""
    (tail,) = decode([(0.0, b"data: " + b"a" * 100)], limit=10)
    assert (tail.raw, tail.end, tail.truncated, tail.complete) == (b"data: aaaa", 106, True, False)


def test_a_sequence_cut_by_the_limit_is_not_invalid() -> None:
    """What the limit cuts is not taken for broken UTF-8; what the server cuts is."""
    (cut,) = decode([(0.0, "data: €\n\n".encode())], limit=8)
    assert (cut.raw, cut.invalid_utf8) == (b"data: \xe2\x82", ())
    (tail,) = decode([(0.0, b"data: \xe2\x82")])
    assert tail.invalid_utf8 == (6,)
    (broken,) = decode([(0.0, b"data: \xff\x80\x80\n\n")], limit=8)
    assert broken.invalid_utf8 == (6, 7)


def test_memory_is_bounded() -> None:
    """A line of any length takes the memory of the limit."""
    decoder = Decoder(limit=64 * 1024)
    chunk = b"a" * 64 * 1024
    tracemalloc.start()
    for _ in range(200):
        assert decoder.feed(chunk) == []
    (block,) = decoder.feed(b"\n\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(block.raw), block.end, block.truncated) == (64 * 1024, 200 * 64 * 1024 + 2, True)
    assert peak < 10 * 64 * 1024


def test_a_limit_must_keep_something() -> None:
    """A limit below one byte is refused with a sentence."""
    with pytest.raises(ValueError, match="a limit of 0 bytes keeps nothing"):
        Decoder(limit=0)
