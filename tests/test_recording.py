"""Recordings and the recorder: what is kept, how it is decoded, where each byte arrived."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.recorder import Recorder
from pytest_agentstream.recording import (
    Chunk,
    ContentDecoder,
    End,
    EndKind,
    Head,
    Recording,
    Request,
    Run,
)

REQUEST = Request("GET", "http://127.0.0.1/")
BODY = b"id: 1\ndata: one\n\nid: 2\ndata: two\n\ndata: tail\n"


def recorded(*chunks: bytes, coding: str = "", media: str = "text/event-stream") -> Recording:
    """A recording whose chunks arrived at 1 s, 2 s, 3 s…"""
    headers = (("Content-Type", media), ("content-encoding", coding))
    return Recording(
        REQUEST,
        Head(200, "OK", "HTTP/1.1", headers, 0.5),
        tuple(Chunk(float(at), data) for at, data in enumerate(chunks, 1)),
        End(EndKind.COMPLETE, 9.0),
    )


def test_bytes_know_their_arrival() -> None:
    """Each byte of the body has the arrival of its chunk, and there is none behind the last."""
    recording = recorded(b"ab", b"c", b"de")
    assert [recording.arrival(offset) for offset in range(5)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    for offset in (-1, 5):
        with pytest.raises(IndexError, match="body of 5 bytes"):
            recording.arrival(offset)


def test_blocks_have_the_arrival_that_completed_them() -> None:
    """A block arrives with the chunk that completes it; the tail is the last block."""
    recording = recorded(BODY[:20], BODY[20:35], BODY[35:])
    assert [block.at for block in recording.blocks] == [1.0, 2.0, 3.0]
    assert [block.complete for block in recording.blocks] == [True, True, False]


def test_header_values_are_joined() -> None:
    """Values of a repeated header are joined in order; an absent one is None."""
    head = Head(200, "OK", "HTTP/1.1", (("Vary", "a"), ("x", "y"), ("vary", "b")), 0.0)
    assert head.value("VARY") == "a, b"
    assert head.values("Vary") == ("a", "b")
    assert head.value("z") is None


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/plain", False),
        ("", False),
    ],
)
def test_is_stream(media: str, expected: bool) -> None:
    """An answer is a stream by its content type, without regard to case or parameters."""
    assert recorded(b"", media=media).is_stream is expected


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
    ids=["gzip", "case", "x-gzip", "members", "deflate", "identity", "none"],
)
def test_content_coding(coding: str, packed: bytes) -> None:
    """Body and blocks are behind the content coding, however the bytes were cut; chunks are not."""
    for cut in range(0, len(packed), 7):
        recording = recorded(packed[:cut], packed[cut:], coding=coding)
        assert recording.body == BODY
        assert len(recording.blocks) == 3
        assert recording.content_problem == ""
        assert b"".join(chunk.data for chunk in recording.chunks) == packed


def test_content_comes_when_its_bytes_do() -> None:
    """What a server flushes is there when it arrives, not at the end."""
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(BODY[:17]) + packer.flush(zlib.Z_SYNC_FLUSH)
    rest = packer.compress(BODY[17:]) + packer.flush()
    recording = recorded(first, rest, coding="gzip")
    assert [block.at for block in recording.blocks] == [1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("coding", "packed", "words"),
    [
        ("gzip", b"no gzip at all", "not valid gzip"),
        ("br", b"anything", "'br' is none that was asked for"),
    ],
)
def test_content_that_is_not_what_it_says(coding: str, packed: bytes, words: str) -> None:
    """A coding that can't be undone is a fact with a reason, not an error."""
    recording = recorded(packed, b"more", coding=coding)
    assert recording.body == b""
    assert words in recording.content_problem


def test_content_is_bounded() -> None:
    """A small body that decodes to a huge one is decoded up to the limit, and no further."""
    decoder = ContentDecoder("gzip", limit=1000)
    assert decoder.feed(gzip.compress(bytes(10_000_000))) == bytes(1000)
    assert decoder.overflowed
    assert decoder.feed(b"more") == b""


def answered(recorder: Recorder, *headers: tuple[str, str]) -> Recorder:
    recorder.begin(REQUEST)
    recorder.connect()
    recorder.answer(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"), *headers))
    return recorder


def test_recorder_keeps_an_exchange() -> None:
    """What the recorder is told is what its recording says, in order of time."""
    recorder = answered(Recorder(notes=("a note",)))
    blocks = recorder.receive(BODY)
    recorder.finish(EndKind.COMPLETE, "the last chunk")
    recorder.finish(EndKind.CUT, "too late")
    recording = recorder.recording
    assert [block.index for block in blocks] == [0, 1]
    assert recording.end.kind is EndKind.COMPLETE
    assert recording.notes == ("a note",)
    assert recording.started.endswith("+00:00")
    assert recording.head is not None
    assert recording.connected is not None
    assert (
        0 <= recording.connected <= recording.head.at <= recording.chunks[0].at <= recording.end.at
    )


def test_recorder_has_a_recording_at_any_time() -> None:
    """An exchange that goes on has a recording too, which says that it is still open."""
    recorder = answered(Recorder())
    recorder.receive(BODY[:20])
    early = recorder.recording
    recorder.receive(BODY[20:])
    assert early.body == BODY[:20]
    assert (early.end.kind, early.end.detail) == (EndKind.STOPPED, "still open")
    assert recorder.recording.body == BODY


def test_recorder_before_the_request() -> None:
    """There is no recording before a request was begun."""
    with pytest.raises(RuntimeError, match="never begun"):
        _ = Recorder().recording


def test_recorder_bounds_the_body() -> None:
    """Beyond its limit the recorder keeps nothing, and says that it is full."""
    recorder = answered(Recorder(max_body=10))
    recorder.receive(b"123456")
    assert not recorder.full
    recorder.receive(b"789abc")
    assert recorder.full
    recorder.receive(b"more")
    assert recorder.recording.body == b"123456789a"


def test_recorder_bounds_what_is_decoded() -> None:
    """A small body that decodes to a huge one makes the recorder full too."""
    recorder = answered(Recorder(max_body=1000), ("Content-Encoding", "gzip"))
    recorder.receive(gzip.compress(bytes(100_000)))
    assert recorder.full


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"\r", b"data: x\n\n"])),
    st.booleans(),
)
def test_recorder_decodes_as_recordings_do(chunks: list[bytes], packed: bool) -> None:
    """The blocks found on the way are those that the finished recording has, tail and times too."""
    recorder = answered(Recorder(), *([("Content-Encoding", "gzip")] if packed else []))
    packer = zlib.compressobj(wbits=31)
    for chunk in chunks:
        flushed = packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
        recorder.receive(flushed if packed else chunk)
    recorder.finish(EndKind.COMPLETE)
    found = recorder.recording
    again = Recording(found.request, found.head, found.chunks, found.end)
    assert [(b.raw, b.start, b.end, b.at, b.complete) for b in found.blocks] == [
        (b.raw, b.start, b.end, b.at, b.complete) for b in again.blocks
    ]
    assert found.body == b"".join(chunks)


def test_captured_values_are_no_evidence() -> None:
    """Captured values, which may be secrets, are neither compared nor shown."""
    recording = recorded(b"")
    run = Run("complete", "default", (recording,), captured=(("token", "s3cret"),))
    assert run == Run("complete", "default", (recording,))
    assert "s3cret" not in repr(run)
