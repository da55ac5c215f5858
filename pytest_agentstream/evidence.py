"""The bytes that make a verdict true: redacted, capped and escaped, as hostile input is."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from pytest_agentstream.dialects.reading import Event
from pytest_agentstream.recording import EndKind, Head, Recording
from pytest_agentstream.wire import Block

if TYPE_CHECKING:
    from pytest_agentstream.redaction import Redactor
    from pytest_agentstream.verdicts import Finding, Place

WIDTH = 110
AROUND = 2
MOST = 14
MOST_EXCHANGES = 6
LONGEST_READ = 4096
"""Characters, or bytes, of one text of the server's that are looked at to show some of it."""

SHOWN_HEADERS = (
    "connection",
    "content-type",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "cache-control",
    "expires",
    "x-accel-buffering",
    "retry-after",
)


class Numbering(Protocol):
    """Who knows the run and exchange numbers of a recording."""

    def place_of(self, recording: Recording) -> tuple[int, int] | None: ...


def escape(text: str) -> str:
    """Show control and bidirectional characters as escapes: no terminal or page obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cap(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def fit(text: str | bytes, redact: Redactor, width: int = WIDTH) -> str:
    """A text of the server's as it may be shown: redacted, escaped, and at most `width` long."""
    return cap(escape(redact.beginning(text, LONGEST_READ)), width)


@dataclass(frozen=True, slots=True)
class _Row:
    at: float
    text: str


def show(finding: Finding, numbering: Numbering, redact: Redactor) -> list[str]:
    """The recording lines of a finding: a heading for each exchange, then the wire with `!` marks.

    A head as place marks the head, a recording its end.
    """
    lines: list[str] = []
    found = _by_recording(finding)
    for recording, places in found[:MOST_EXCHANGES]:
        lines.append(heading(recording, numbering, redact))
        last, shown = len(recording.blocks) + 1, -1
        marked = _marked(recording, places)
        for number in _selected(marked, last):
            if number > shown + 1:
                lines.append(f"      … {number - shown - 1} more")
            row, shown = _row(recording, number, redact), number
            lines.append(f"    {'!' if number in marked else ' '} {row.at:.3f} s  {row.text}")
        if shown < last:
            lines.append(f"      … {last - shown} more")
    if len(found) > MOST_EXCHANGES:
        lines.append(f"… and {len(found) - MOST_EXCHANGES} more exchanges")
    return lines


def heading(recording: Recording, numbering: Numbering, redact: Redactor) -> str:
    """`run 3, exchange 2: GET /v1/…  Last-Event-ID: …`."""
    numbers = numbering.place_of(recording)
    where = f"run {numbers[0]}, exchange {numbers[1]}" if numbers else "request"
    url = urlsplit(recording.request.url)
    path = url.path + (f"?{url.query}" if url.query else "")
    cursors = [
        f"  {name}: {fit(value, redact)}"
        for name, value in recording.request.headers
        if name.lower() == "last-event-id"
    ]
    body = recording.request.body
    sent = f"  {fit(body, redact)}" if body else ""
    return f"{where}: {recording.request.method} {fit(path, redact)}{''.join(cursors)}{sent}"


def _by_recording(finding: Finding) -> list[tuple[Recording, list[Place]]]:
    """The places by the exchange that they are in; exchanges are told apart by identity."""
    found: dict[int, tuple[Recording, list[Place]]] = {}
    for place in finding.places:
        recording = finding.recording
        if isinstance(place, Recording):
            recording = place
        elif isinstance(place, Event):
            recording = place.exchange
        if recording is not None:
            found.setdefault(id(recording), (recording, []))[1].append(place)
    if not found and finding.recording is not None:
        return [(finding.recording, [finding.recording])]
    return list(found.values())


def _marked(recording: Recording, places: list[Place]) -> set[int]:
    """The rows that the places stand in: 0 is the head, then one a block, then the end."""
    found: set[int] = set()
    for place in places:
        match place:
            case Recording():
                found.add(len(recording.blocks) + 1)
                found |= {0} if recording.head is None else set()
            case Head():
                found.add(0)
            case Event():
                found.add(place.block.index + 1)
            case Block():
                found.add(place.index + 1)
            case _:  # a line stands in the last block that begins before it
                after = bisect_right(recording.blocks, place.start, key=lambda block: block.start)
                found.add(after)
    return found


def _row(recording: Recording, number: int, redact: Redactor) -> _Row:
    if number == 0:
        return _head_row(recording, redact)
    if number > len(recording.blocks):
        return _end_row(recording, redact)
    block = recording.blocks[number - 1]
    return _Row(block.at, f"< {fit(block.raw, redact)}  (bytes {block.start}-{block.end})")


def _head_row(recording: Recording, redact: Redactor) -> _Row:
    head = recording.head
    if head is None:
        return _Row(recording.end.at, "(no answer)")
    values = [f"  {n}: {head.value(n)}" for n in SHOWN_HEADERS if head.value(n) is not None]
    return _Row(head.at, fit(f"< {head.status} {head.reason}{''.join(values)}", redact, 2 * WIDTH))


def _end_row(recording: Recording, redact: Redactor) -> _Row:
    end = recording.end
    phase = f" while waiting for {end.phase}" if end.kind is EndKind.TIMEOUT and end.phase else ""
    detail = f": {fit(end.detail, redact)}" if end.detail else ""
    return _Row(end.at, f"({_ENDS[end.kind]}{phase}{detail})")


def _selected(marked: set[int], last: int) -> list[int]:
    """The rows worth showing: the head, and each marked one with what stands around it."""
    near = {0}
    for number in sorted(marked):
        near |= set(range(max(0, number - AROUND), min(last + 1, number + AROUND)))
        near.add(number)
        if len(near) >= MOST:
            break
    return sorted(near)


_ENDS = {
    EndKind.COMPLETE: "the body ended, complete",
    EndKind.CLOSE_DELIMITED: "the connection closed, which ends the body: truncation can't be seen",
    EndKind.CUT: "the body was cut",
    EndKind.RESET: "the connection was reset",
    EndKind.TIMEOUT: "time-out",
    EndKind.REFUSED: "the connection was refused",
    EndKind.DNS: "the name does not resolve",
    EndKind.TLS: "no TLS connection",
    EndKind.PROTOCOL: "not HTTP",
    EndKind.LIMIT: "more than the client keeps",
    EndKind.STOPPED: "the client stopped reading",
    EndKind.UNKNOWN: "the end was not recorded",
}
