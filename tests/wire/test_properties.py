"""What holds for any bytes, split anywhere; and agreement with the specification's own steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from pytest_agentstream.wire import Block, Event, decode

# Pieces that the rules treat differently: where random bytes would seldom go.
TOKENS = [
    *[b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b":", b" ", b": ", b"\0"],
    *[b"data", b"event", b"id", b"retry", b"Data", b"datax", b"a", b"7", b"-5", b"0"],
    *[
        b"\xef",
        b"\xbb",
        b"\xbf",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe2\x82",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
    ],
    *[
        b"data: a\n",
        b"data\n",
        b"id: 1\n",
        b"id\n",
        b"id: 2\0\n",
        b"event: e\n",
        b"retry: 10\n",
        b": c\n",
    ],
]
BODIES = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=40).map(b"".join)


@dataclass
class Source:
    """The event source of the specification: its buffers, and what has come out of it."""

    data: str = ""
    type: str = ""
    last_event_id_buffer: str = ""
    last_event_id: str = ""
    reconnection_time: int | None = None
    dispatched: list[Event] = field(default_factory=list)


def interpret(body: bytes) -> Source:
    """Take WHATWG HTML 9.2.6 step by step, over a whole body."""
    source = Source()
    # "Streams must be decoded using the UTF-8 decode algorithm", which strips one mark.
    text = body.decode("utf-8", "replace")
    if body[:3] == b"\xef\xbb\xbf":
        text = text[1:]
    line = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\r" and text[position : position + 1] == "\n":
            position += 1
        if character in "\r\n":
            process_line(source, line)
            line = ""
        else:
            line += character
    # "If the file ends in the middle of an event, the incomplete event is not dispatched."
    return source


def process_line(source: Source, line: str) -> None:
    # "If the line is empty (a blank line): Dispatch the event, as defined below."
    if line == "":
        dispatch(source)
    # "If the line starts with a U+003A COLON character (:): Ignore the line."
    elif line[0] == ":":
        pass
    # "If the line contains a U+003A COLON character (:)"
    elif ":" in line:
        # "Collect the characters on the line before the first colon, and let field be that string."
        name = line[: line.index(":")]
        # "Collect the characters on the line after the first colon, and let value be that string."
        value = line[line.index(":") + 1 :]
        # "If value starts with a U+0020 SPACE character, remove it from value."
        if value[:1] == " ":
            value = value[1:]
        process_field(source, name, value)
    else:
        # "using the whole line as the field name, and the empty string as the field value"
        process_field(source, line, "")


def process_field(source: Source, name: str, value: str) -> None:
    if name == "event":
        # "Set the event type buffer to the field value."
        source.type = value
    elif name == "data":
        # "Append the field value to the data buffer, then append a single LF to the data buffer."
        source.data += value + "\n"
    elif name == "id":
        # "If the field value does not contain U+0000 NULL, then set the last event ID buffer to
        # the field value. Otherwise, ignore the field."
        if "\0" not in value:
            source.last_event_id_buffer = value
    # "If the field value consists of only ASCII digits, then interpret the field value as an
    # integer in base ten, and set the event stream's reconnection time to that integer."
    elif name == "retry" and value and all(character in "0123456789" for character in value):
        source.reconnection_time = int(value)


def dispatch(source: Source) -> None:
    # "Set the last event ID string of the event source to the value of the last event ID buffer."
    source.last_event_id = source.last_event_id_buffer
    # "If the data buffer is an empty string, set the data buffer and the event type buffer to the
    # empty string and return."
    if source.data == "":
        source.type = ""
        return
    # "If the data buffer's last character is a LF, then remove the last character."
    data = source.data.removesuffix("\n")
    source.dispatched.append(Event(source.type or "message", data, source.last_event_id))
    source.data = ""
    source.type = ""


def split(body: bytes, cuts: list[int]) -> list[tuple[float, bytes]]:
    borders = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [(0.0, body[a:b]) for a, b in pairwise(borders)]


def facts(block: Block) -> tuple[object, ...]:
    return (
        *(block.index, block.start, block.end, block.raw, block.complete, block.truncated),
        *(block.event, block.id, block.retry, block.has_data, block.bom, block.lines),
        *(block.comments, block.invalid_utf8),
    )


@given(BODIES, st.lists(st.integers(0, 200), max_size=12), st.integers(1, 24) | st.just(2**24))
@example(b"data\r\nx\n\ndata: a\r\r\n\n", [5, 6, 12], 4)
def test_splits_change_nothing(body: bytes, cuts: list[int], limit: int) -> None:
    """Any split of any body, under any limit, gives the same blocks."""
    whole = [facts(block) for block in decode([(0.0, body)], limit=limit)]
    bytewise = [(0.0, bytes([byte])) for byte in body]
    assert [facts(block) for block in decode(split(body, cuts), limit=limit)] == whole
    assert [facts(block) for block in decode(bytewise, limit=limit)] == whole


@given(BODIES, st.lists(st.integers(0, 200), max_size=12))
def test_blocks_are_the_body(body: bytes, cuts: list[int]) -> None:
    """Blocks, one after another, are the bytes of the body, and their lines are theirs."""
    blocks = decode(split(body, cuts))
    assert b"".join(block.raw for block in blocks) == body
    for block in blocks:
        assert body[block.start : block.end] == block.raw
        lines = b"".join(line.raw + line.end for line in block.lines)
        assert lines == (block.raw[3:] if block.bom else block.raw)
        for line in block.lines:
            assert body[line.start : line.start + len(line.raw)] == line.raw


@given(BODIES, st.integers(1, 24))
def test_offsets_hold_under_any_limit(body: bytes, limit: int) -> None:
    """A limit takes bytes from blocks, and nothing from their borders or their count."""
    full, cut = decode([(0.0, body)]), decode([(0.0, body)], limit=limit)
    borders = [(block.start, block.end, block.complete) for block in full]
    assert [(block.start, block.end, block.complete) for block in cut] == borders
    for block in cut:
        assert len(block.raw) <= limit + 1
        assert body.startswith(block.raw, block.start)
        assert block.truncated or len(block.raw) == block.end - block.start


@given(BODIES, st.lists(st.integers(0, 200), max_size=12))
@example(b"\xef\xbb\xbfdata: a\rid: 1\0\r\rretry: 5", [3])
def test_agrees_with_the_specification(body: bytes, cuts: list[int]) -> None:
    """Events, last event id and reconnection time are those of the specification's steps."""
    source = interpret(body)
    blocks = decode(split(body, cuts))
    ids = [block.id for block in blocks if block.id is not None]
    retries = [block.retry for block in blocks if block.retry is not None]
    assert [block.event for block in blocks if block.event] == source.dispatched
    assert (ids[-1] if ids else "") == source.last_event_id
    assert (retries[-1] if retries else None) == source.reconnection_time


# The borders of the rows of Unicode's table 3-7.
EDGES = bytes.fromhex("00 7f 80 8f 90 9f a0 bf c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")


@given(st.lists(st.sampled_from(EDGES), max_size=24).map(bytes))
def test_invalid_utf8_is_what_is_replaced(body: bytes) -> None:
    """There are as many offsets as characters that replace what is not UTF-8."""
    replaced = body.decode("utf-8", "replace").count("\ufffd") - body.count("\ufffd".encode())
    assert sum(len(block.invalid_utf8) for block in decode([(0.0, body)])) == replaced
