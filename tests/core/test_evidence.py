"""Evidence: what a finding shows of hostile bytes is escaped, capped, and made in good time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import load
from pytest_agentstream.evidence import escape, show
from pytest_agentstream.ledger import Ledger
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Phase, Recording, Request
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.verdicts import Finding

if TYPE_CHECKING:
    from pytest_agentstream.verdicts import Place

HEADERS = (("Content-Type", "text/event-stream"),)
REQUEST = Request("POST", "http://127.0.0.1/chat?a=b", (("Last-Event-ID", "r/7"),), b'{"a": 1}')


def recorded(body: bytes) -> Recording:
    head = Head(200, "OK", "HTTP/1.1", HEADERS, 0.1)
    return Recording(REQUEST, head, (Chunk(0.2, body),), End(EndKind.COMPLETE, 0.3))


def lines(recording: Recording, *places: Place, secrets: tuple[str, ...] = ()) -> list[str]:
    finding = Finding("this", "that", places, recording)
    return show(finding, Ledger(), Redactor(secrets))


FIVE = recorded(b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("a\x85b\u2028c\u200bd", "a\\x85b\\u2028c\\u200bd"),
        ("\ud800", "\\ud800"),
        ("Grüße 日本 🌍", "Grüße 日本 🌍"),
    ],
)
def test_nothing_that_a_terminal_obeys(text: str, expected: str) -> None:
    """Control, bidirectional and invisible characters show as escapes, letters as they are."""
    assert escape(text) == expected


def test_an_event_is_marked_among_its_neighbours() -> None:
    """The heading says what was sent; the marked block stands among those around it."""
    events = load("generic-data").events(FIVE)
    assert lines(FIVE, events[3]) == [
        'request: POST /chat?a=b  Last-Event-ID: r/7  {"a": 1}',
        "      0.100 s  < 200 OK  content-type: text/event-stream",
        "      … 1 more",
        "      0.200 s  < data: 1\\n\\n  (bytes 9-18)",
        "      0.200 s  < data: 2\\n\\n  (bytes 18-27)",
        "    ! 0.200 s  < data: 3\\n\\n  (bytes 27-36)",
        "      0.200 s  < data: 4\\n\\n  (bytes 36-45)",
        "      … 1 more",
    ]


def test_the_header_that_ends_a_connection_is_shown() -> None:
    """What a head says about its connection is part of the evidence."""
    head = Head(200, "OK", "HTTP/1.1", (("Connection", "close"),), 0.1)
    recording = Recording(REQUEST, head, (), End(EndKind.COMPLETE, 0.3))
    assert "    ! 0.100 s  < 200 OK  connection: close" in lines(recording, head)


@pytest.mark.parametrize(
    ("place", "marked"),
    [
        (FIVE, "(the body ended, complete)"),
        (FIVE.head, "< 200 OK  content-type: text/event-stream"),
        (FIVE.blocks[2], "< data: 2\\n\\n  (bytes 18-27)"),
        (FIVE.blocks[4].lines[0], "< data: 4\\n\\n  (bytes 36-45)"),
    ],
)
def test_every_kind_of_place(place: Place, marked: str) -> None:
    """A recording marks its end, a head the head, a line its block."""
    (found,) = [line for line in lines(FIVE, place) if line.startswith("    ! ")]
    assert found.partition(" s  ")[2] == marked


def test_no_answer_at_all() -> None:
    """Where there is no head, its row says so, with how the exchange ended."""
    end = End(EndKind.TIMEOUT, 3.0, Phase.HEAD, "no response head within 3 s")
    silent = Recording(REQUEST, None, (), end)
    assert lines(silent, silent)[1:] == [
        "    ! 3.000 s  (no answer)",
        "    ! 3.000 s  (time-out while waiting for head: no response head within 3 s)",
    ]


def test_a_huge_line_is_capped() -> None:
    """Of a line of ten megabytes a part is shown, and only that part is looked at."""
    huge = recorded(b"data: " + b"x" * 10_000_000 + b"\n\n")
    shown = lines(huge, huge.blocks[0])
    assert max(map(len, shown)) < 200


def test_a_flood_of_events_shows_some() -> None:
    """Of a hundred thousand marked events a few are shown, and the others counted."""
    flood = recorded(b"data: 1\n\n" * 100_000)
    shown = lines(flood, *flood.blocks)
    assert len(shown) < 25
    assert shown[-1].strip().startswith("… 99")


def test_many_exchanges_show_some() -> None:
    """Of many exchanges a few are shown, and the others counted."""
    many = [recorded(b"data: 1\n\n") for _ in range(50)]
    shown = lines(many[0], *many)
    assert shown[-1] == "… and 44 more exchanges"


def test_secrets_do_not_show() -> None:
    """A secret is replaced in head, block, request and end."""
    secret = "0123456789abcdef"
    head = Head(200, secret, "HTTP/1.1", (*HEADERS, ("Cache-Control", secret)), 0.1)
    request = Request("GET", f"http://127.0.0.1/{secret}?k={secret}", (), secret.encode())
    chunk = Chunk(0.2, f"data: {secret}\n\n".encode())
    one = Recording(request, head, (chunk,), End(EndKind.RESET, 0.3, None, secret))
    shown = "\n".join(lines(one, one, one.blocks[0], secrets=(secret,)))
    assert secret[:6] not in shown
    assert shown.count("[redacted]") == 7


def test_a_secret_longer_than_what_is_read() -> None:
    """Of a secret that is longer than the part that is looked at, no beginning shows."""
    secret = "x0y1" * 5000
    one = recorded(f"data: {secret}\n\n".encode())
    shown = "\n".join(lines(one, one.blocks[0], secrets=(secret,)))
    assert "x0y1" not in shown
