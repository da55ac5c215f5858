"""Shaping: what is due when, without a socket or a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    SlowReader,
    Stall,
    Timeout,
)
from pytest_agentstream.faults.shaping import Shaper
from pytest_agentstream.faults.stages import Act, Kind

if TYPE_CHECKING:
    from pytest_agentstream.faults.stages import Item

EOF = Act(Kind.EOF)


def shaper(*plan: Fault, seed: int = 1) -> Shaper:
    return Shaper(plan, "downstream", str(seed), 0.0)


def bytes_of(items: list[Item]) -> list[bytes]:
    return [what for _, what in items if isinstance(what, bytes)]


def times_of(items: list[Item]) -> list[float]:
    return [due for due, _ in items]


def test_nothing_to_do() -> None:
    """Faults of the other direction, and those of a whole connection, shape nothing."""
    assert not shaper(Latency(latency=1, direction="upstream"), SlowReader(rate=0))
    assert shaper(Latency(latency=1))


def test_latency() -> None:
    """Data comes later by the latency; a FIN comes behind it."""
    late = shaper(Latency(latency=0.5))
    assert late.feed(b"a", 1.0) == [(1.5, b"a")]
    assert late.end(1.1) == [(1.5, EOF)]
    assert late.end(2.0) == [(2.0, EOF)]


def test_jitter_keeps_the_order() -> None:
    """Jitter stays in its range, overtakes nothing, and is the same for the same seed."""
    seen = []
    for seed in (1, 1, 2):
        late = shaper(Latency(latency=0.5, jitter=0.4), seed=seed)
        seen.append([late.feed(b"a", at / 100)[0][0] for at in range(200)])
    assert seen[0] == seen[1] != seen[2]
    assert seen[0] == sorted(seen[0])
    assert all(0.1 <= due - at / 100 <= 0.9 for at, due in enumerate(seen[0]))


def test_bandwidth() -> None:
    """Bytes are due at the rate, in pieces of at most 100 ms; an unused time is not saved up."""
    slow = shaper(Bandwidth(rate=1))
    items = slow.feed(bytes(250), 1.0)
    assert [len(piece) for piece in bytes_of(items)] == [100, 100, 50]
    assert times_of(items) == pytest.approx([1.1, 1.2, 1.25])
    assert times_of(slow.feed(bytes(10), 1.1)) == pytest.approx([1.26])
    assert times_of(slow.feed(bytes(10), 9.0)) == pytest.approx([9.01])


def test_slow_reader() -> None:
    """A slow reader has the rate of a bandwidth, in bytes."""
    items = shaper(SlowReader(rate=20)).feed(bytes(5), 0.0)
    assert [len(piece) for piece in bytes_of(items)] == [2, 2, 1]
    assert times_of(items) == pytest.approx([0.1, 0.2, 0.25])


def test_slow_close() -> None:
    """Only the FIN is late."""
    slow = shaper(SlowClose(delay=3))
    assert slow.feed(b"a", 1.0) == [(1.0, b"a")]
    assert slow.end(1.0) == [(4.0, EOF)]


def test_timeout() -> None:
    """All data is dropped; the end comes once none has come for that time."""
    fault = Timeout(timeout=2)
    silent = shaper(fault)
    assert silent.deadline == 2.0
    assert silent.feed(b"a", 1.0) == []
    assert silent.deadline == 3.0
    assert silent.expire(2.9) == []
    assert silent.expire(3.0) == [(3.0, Act(Kind.FIN, fault))]


def test_timeout_without_an_end() -> None:
    """A timeout of 0 ends nothing by itself, but when it is lifted, or the sender ends."""
    fault = Timeout()
    silent = shaper(fault)
    assert silent.deadline is None
    assert silent.feed(b"a", 1.0) == []
    assert silent.lift(5.0) == [(5.0, Act(Kind.FIN, fault))]
    assert silent.end(6.0) == [(6.0, Act(Kind.FIN, fault))]


def test_reset_peer() -> None:
    """The first data brings the RST about, and is dropped with all that follows."""
    fault = ResetPeer(timeout=0.5)
    reset = shaper(fault)
    assert reset.feed(b"a", 1.0) == [(1.5, Act(Kind.RST, fault))]
    assert reset.feed(b"a", 1.2) == []
    assert reset.end(1.3) == []


def test_slicer_without_variation() -> None:
    """Data is halved until slices are small enough; slices are a delay apart."""
    items = shaper(Slicer(average_size=3, delay=0.5)).feed(b"abcdefghij", 1.0)
    assert bytes_of(items) == [b"ab", b"cde", b"fg", b"hij"]
    assert times_of(items) == [1.0, 1.5, 2.0, 2.5]


def test_slicer_with_variation() -> None:
    """Slices stay within the variation, lose nothing, and are the same for the same seed."""
    data = bytes(range(256)) * 40
    fault = Slicer(average_size=100, size_variation=40)
    slices = [bytes_of(shaper(fault, seed=seed).feed(data, 0.0)) for seed in (1, 1, 2)]
    assert slices[0] == slices[1] != slices[2]
    assert b"".join(slices[0]) == data
    assert all(1 <= len(piece) <= 140 for piece in slices[0])


def test_slicer_to_single_bytes() -> None:
    """Slices of one byte are possible."""
    assert len(bytes_of(shaper(Slicer(average_size=1)).feed(b"abcdefg", 0.0))) == 7


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"abc", b"def"], [b"a", b"bcdef"]])
def test_limit_data(pieces: list[bytes]) -> None:
    """The FIN comes behind that many bytes, without waiting for more."""
    fault = LimitData(bytes=3)
    limited = shaper(fault)
    items = [item for piece in pieces for item in limited.feed(piece, 0.0)]
    end = items.index((0.0, Act(Kind.FIN, fault)))
    assert b"".join(bytes_of(items[:end])) == b"abc"


def test_acts_between_bytes() -> None:
    """A fault at a place is due between the bytes before it and those behind."""
    stall, cut = Stall(after_bytes=1), Cut(after_bytes=4, how="rst")
    both = shaper(stall, cut)
    assert both.feed(b"abc", 0.0) == [(0.0, b"a"), (0.0, Act(Kind.STALL, stall)), (0.0, b"bc")]
    assert both.feed(b"def", 1.0) == [(1.0, b"d"), (1.0, Act(Kind.RST, cut)), (1.0, b"ef")]
    assert both.feed(b"g", 2.0) == [(2.0, b"g")]


def test_acts_wait_for_what_is_before_them() -> None:
    """A cut behind delayed bytes doesn't overtake them, whichever fault is named first."""
    late, cut = Latency(latency=1), Cut(after_bytes=1)
    expected = [(1.0, b"a"), (1.0, Act(Kind.FIN, cut)), (1.0, b"b")]
    assert shaper(late, cut).feed(b"ab", 0.0) == expected
    assert shaper(cut, late).feed(b"ab", 0.0) == expected


def test_an_end_does_not_overtake_data_between_faults() -> None:
    """A FIN reaches the next fault behind the delayed bytes before it, as they do."""
    late, silent = Latency(latency=1), Timeout(timeout=5)
    both = shaper(late, silent)
    assert both.feed(b"a", 0.0) == []
    assert both.end(0.1) == [(1.0, Act(Kind.FIN, silent))]


def test_an_end_behind_slices() -> None:
    """The pause comes behind the last slice, too."""
    sliced = shaper(Slicer(average_size=3, delay=0.5))
    assert times_of(sliced.feed(b"abcdef", 1.0)) == [1.0, 1.5]
    assert sliced.end(1.0) == [(2.0, EOF)]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_corrupt(size: int) -> None:
    """One byte is changed, the one behind the place, and no other."""
    fault = Corrupt(after_bytes=3, mask=0x20)
    corrupting = shaper(fault)
    data = b"abcdefg"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    items = [item for piece in pieces for item in corrupting.feed(piece, 0.0)]
    assert b"".join(bytes_of(items)) == b"abcDefg"
    assert [what for _, what in items if isinstance(what, Act)] == [Act(Kind.MARK, fault)]


def test_corrupt_in_the_body() -> None:
    """The byte of a body that is changed is no framing, and follows from the seed."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in range(0x41, 0x5B))
    (changed,) = bytes_of(shaper(Corrupt(after_body=2)).feed(head + body, 0.0))
    assert changed == head + body.replace(b"C", bytes([0x43 ^ 0xFF]))
    seen: set[float] = set()
    for seed in range(40):
        (changed,) = bytes_of(shaper(Corrupt(within=3), seed=seed).feed(head + body, 0.0))
        differs = [at for at, (a, b) in enumerate(zip(changed, head + body, strict=True)) if a != b]
        seen.update((at - len(head)) / 6 for at in differs)
    assert seen == {0.5, 1.5, 2.5}


def test_corrupt_in_an_event() -> None:
    """The byte behind an event is the first one of the next."""
    sent = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: a\n\ndata: b\n\n"
    (changed,) = bytes_of(shaper(Corrupt(after_event=1, mask=0x20)).feed(sent, 0.0))
    assert changed == sent[:-9] + b"Data: b\n\n"


def test_problems() -> None:
    """Why a place is out of reach can be asked for."""
    blind = shaper(Cut(after_event=1), Cut(after_bytes=1000))
    blind.asked(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    blind.feed(b"220 mail.example ESMTP\r\n\r\n", 0.0)
    assert len(blind.problems) == 1
    assert blind.problems[0].startswith("the answer can't be read as HTTP/1.1")
