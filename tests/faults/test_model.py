"""Faults as data: in words, as Toxiproxy takes them, and none that makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
    HalfOpen,
    IdleCut,
    Latency,
    LimitData,
    Refuse,
    ResetPeer,
    Slicer,
    SlowClose,
    SlowReader,
    Stall,
    Timeout,
    Toxic,
    describe,
)
from pytest_agentstream.faults.model import counts_http

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS: dict[Fault, str] = {
    Latency(latency=0.5): "a delay of 0.5 s",
    Latency(latency=0.5, jitter=0.1, direction="upstream"): "a delay of 0.5 s ± 0.1 s, upstream",
    Bandwidth(rate=8): "at most 8 kB/s",
    SlowClose(delay=2): "a FIN that comes 2 s late",
    Timeout(): "all data dropped",
    Timeout(timeout=3): "all data dropped, and a FIN after 3 s",
    ResetPeer(): "a RST at the first byte",
    ResetPeer(timeout=0.1): "a RST 0.1 s after the first byte",
    Slicer(average_size=10, size_variation=3, delay=0.01): "slices of 10 ± 3 bytes, 0.01 s apart",
    LimitData(bytes=200): "a FIN after 200 bytes of the connection",
    Cut(after_event=3): "a FIN after event 3",
    Cut(after_event=3, into_next=7, how="rst"): "a RST 7 bytes into event 4",
    Cut(after_event=0): "a FIN after the head",
    Cut(after_body=12): "a FIN after byte 12 of the body",
    Stall(after_bytes=90): "a stall after byte 90 of the connection",
    HalfOpen(): "the client's end, of which the server never learns",
    HalfOpen(after_event=2, how="rst"): (
        "a RST to the client after event 2, of which the server never learns"
    ),
    Corrupt(after_body=4): "a corrupt byte after byte 4 of the body",
    Corrupt(within=100): "a corrupt byte at one of the first 100 bytes of the body",
    SlowReader(rate=100): "a client that reads 100 bytes/s",
    SlowReader(rate=0): "a client that never reads",
    IdleCut(seconds=1.5, how="rst"): "a RST after 1.5 s without a byte",
    Refuse(): "a RST instead of a connection",
}


@pytest.mark.parametrize("fault", WORDS, ids=lambda fault: fault.describe())
def test_words(fault: Fault) -> None:
    """Every fault says in one phrase what it does."""
    assert fault.describe() == WORDS[fault]


def test_words_of_a_plan() -> None:
    """A plan says what all its faults do."""
    assert (
        describe((Latency(latency=1), Cut(after_event=1))) == "a delay of 1 s; a FIN after event 1"
    )
    assert describe(()) == "nothing injected"


TOXICS: dict[Toxic, tuple[str, dict[str, int]]] = {
    Latency(latency=0.5, jitter=0.1): ("latency", {"latency": 500, "jitter": 100}),
    Bandwidth(rate=8): ("bandwidth", {"rate": 8}),
    SlowClose(delay=2): ("slow_close", {"delay": 2000}),
    Timeout(timeout=0.25): ("timeout", {"timeout": 250}),
    ResetPeer(timeout=0.1): ("reset_peer", {"timeout": 100}),
    Slicer(average_size=10, size_variation=3, delay=0.01): (
        "slicer",
        {"average_size": 10, "size_variation": 3, "delay": 10_000},
    ),
    LimitData(bytes=200): ("limit_data", {"bytes": 200}),
}


@pytest.mark.parametrize("fault", TOXICS, ids=lambda fault: fault.describe())
def test_toxics(fault: Toxic) -> None:
    """A fault that Toxiproxy has is said in its name, attributes and units."""
    name, attributes = TOXICS[fault]
    assert fault.name == name
    assert fault.toxic == {
        "type": name,
        "stream": "downstream",
        "toxicity": 1.0,
        "attributes": attributes,
    }


SENSELESS: dict[str, tuple[Callable[..., Fault], dict[str, Any]]] = {
    "latency: expected at most 600 s for latency, found 1000": (Latency, {"latency": 1000}),
    "latency: expected no negative number for jitter": (Latency, {"latency": 1, "jitter": -1}),
    "bandwidth: expected at least 1 kB/s for rate": (Bandwidth, {"rate": 0}),
    "slicer: expected at least 1 byte": (Slicer, {"average_size": 0}),
    "slicer: expected less than average_size": (Slicer, {"average_size": 2, "size_variation": 2}),
    "slow_reader: expected no negative number for rate": (SlowReader, {"rate": -1}),
    "cut: expected no negative number for after_event": (Cut, {"after_event": -1}),
    "cut: expected exactly one of after_bytes, after_body and after_event, found 0": (Cut, {}),
    "stall: expected exactly one of": (Stall, {"after_body": 1, "after_event": 1}),
    "cut: into_next counts from an event": (Cut, {"after_body": 1, "into_next": 1}),
    "corrupt: expected either within or a place": (Corrupt, {}),
    "corrupt: expected 1 to 255 for mask": (Corrupt, {"within": 1, "mask": 256}),
    "cut: expected fin or rst for how, found 'RST'": (Cut, {"after_body": 1, "how": "RST"}),
    "latency: expected downstream or upstream for direction, found 'down'": (
        Latency,
        {"latency": 1, "direction": "down"},
    ),
}


@pytest.mark.parametrize("words", SENSELESS)
def test_senseless_faults(words: str) -> None:
    """A fault that can't be is refused, with the attribute and what was expected."""
    make, attributes = SENSELESS[words]
    with pytest.raises(ValueError, match=words):
        make(**attributes)


def test_what_needs_http() -> None:
    """Only places of body bytes and events need HTTP."""
    needing = [fault.describe() for fault in WORDS if counts_http(fault)]
    assert needing == [
        "a FIN after event 3",
        "a RST 7 bytes into event 4",
        "a FIN after the head",
        "a FIN after byte 12 of the body",
        "a RST to the client after event 2, of which the server never learns",
        "a corrupt byte after byte 4 of the body",
        "a corrupt byte at one of the first 100 bytes of the body",
    ]
