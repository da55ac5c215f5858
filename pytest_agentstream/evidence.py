"""The bytes that make a verdict true: redacted, capped and escaped, since a hostile server sent them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit

from pytest_agentstream.dialects.reading import Event
from pytest_agentstream.recording import EndKind, Head, Recording
from pytest_agentstream.wire import Block

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentstream.verdicts import Finding, Place

WIDTH = 110
AROUND = 2
MOST = 14
SHORTEST_SECRET = 4
REDACTED = "[redacted]"
SHOWN_HEADERS = (
    "content-type",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "cache-control",
    "expires",
    "x-accel-buffering",
    "retry-after",
)
CREDENTIALS = frozenset(
    {"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "api-key"}
)


class Redactor:
    """Replace secrets, also where they are percent-encoded or JSON-escaped."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                forms |= {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text

    def header(self, name: str, value: str) -> str:
        """A header's value, unless the header is made to carry credentials."""
        return REDACTED if name.lower() in CREDENTIALS else self(value)


class Numbering(Protocol):
    """Who knows the run and exchange numbers of a recording."""

    def place_of(self, recording: Recording) -> tuple[int, int] | None: ...


def escape(text: str) -> str:
    """Show control and bidirectional characters as escapes, so that no terminal or page obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cap(text: str, width: int = WIDTH) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


@dataclass(frozen=True, slots=True)
class _Row:
    at: float
    text: str
    marked: bool


def show(finding: Finding, numbering: Numbering, redact: Redactor) -> list[str]:
    """The recording lines of a finding: a heading for each exchange, then the wire with `!` marks."""
    lines: list[str] = []
    for recording, places in _by_recording(finding):
        lines.append(heading(recording, numbering, redact))
        shown = -1
        rows = _rows(recording, places, redact)
        for number in _selected(rows):
            if number > shown + 1:
                lines.append(f"      … {number - shown - 1} more")
            row, shown = rows[number], number
            lines.append(f"    {'!' if row.marked else ' '} {row.at:.3f} s  {row.text}")
        if shown < len(rows) - 1:
            lines.append(f"      … {len(rows) - 1 - shown} more")
    return lines


def heading(recording: Recording, numbering: Numbering, redact: Redactor) -> str:
    """`run 3, exchange 2: GET /v1/…  Last-Event-ID: …`."""
    numbers = numbering.place_of(recording)
    where = f"run {numbers[0]}, exchange {numbers[1]}" if numbers else "request"
    url = urlsplit(recording.request.url)
    path = url.path + (f"?{url.query}" if url.query else "")
    cursors = [
        f"  {name}: {redact.header(name, value)}"
        for name, value in recording.request.headers
        if name.lower() == "last-event-id"
    ]
    body = recording.request.body.decode("utf-8", "replace")
    sent = f"  {cap(escape(redact(body)))}" if body else ""
    return (
        f"{where}: {recording.request.method} {escape(redact(path))}{escape(''.join(cursors))}{sent}"
    )


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


def _rows(recording: Recording, places: list[Place], redact: Redactor) -> list[_Row]:
    """The exchange as rows: the head, one row a block, the end. A recording as place marks its end."""
    marked: set[int] = set()
    whole = head = False
    for place in places:
        if isinstance(place, Recording):
            whole = True
        elif isinstance(place, Head):
            head = True
        elif isinstance(place, Event):
            marked.add(place.block.index)
        elif isinstance(place, Block):
            marked.add(place.index)
        else:
            marked |= {
                block.index for block in recording.blocks if block.start <= place.start < block.end
            }
    rows = [_head_row(recording, head or (whole and recording.head is None), redact)]
    rows += [
        _Row(block.at, _block_text(block, redact), block.index in marked)
        for block in recording.blocks
    ]
    rows.append(_end_row(recording, whole, redact))
    return rows


def _head_row(recording: Recording, marked: bool, redact: Redactor) -> _Row:
    head = recording.head
    if head is None:
        return _Row(recording.end.at, "(no answer)", marked)
    values = [f"  {n}: {head.value(n)}" for n in SHOWN_HEADERS if head.value(n) is not None]
    text = f"< {head.status} {head.reason}{''.join(values)}"
    return _Row(head.at, cap(escape(redact(text)), 2 * WIDTH), marked)


def _block_text(block: Block, redact: Redactor) -> str:
    text = redact(block.raw[: 8 * WIDTH].decode("utf-8", "replace"))
    return f"< {cap(escape(text))}  (bytes {block.start}-{block.end})"


def _end_row(recording: Recording, marked: bool, redact: Redactor) -> _Row:
    end = recording.end
    phase = f" while waiting for {end.phase}" if end.kind is EndKind.TIMEOUT and end.phase else ""
    detail = f": {cap(escape(redact(end.detail)))}" if end.detail else ""
    return _Row(end.at, f"({_ENDS[end.kind]}{phase}{detail})", marked)


def _selected(rows: list[_Row]) -> list[int]:
    """The rows worth showing: the head, and each marked one with what stands around it."""
    marked = [number for number, row in enumerate(rows) if row.marked]
    near = {0}
    for number in marked:
        near |= set(range(max(0, number - AROUND), min(len(rows), number + AROUND)))
        near.add(number)
        if len(near) >= MOST:
            break
    return sorted(near)


_ENDS = {
    EndKind.COMPLETE: "the body ended, complete",
    EndKind.CLOSE_DELIMITED: "the connection closed, which ends the body; truncation cannot be seen",
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
