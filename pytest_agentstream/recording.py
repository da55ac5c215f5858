"""What was seen on the wire: one exchange is a `Recording`, one agent run is a `Run`."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from pytest_agentstream.wire import Block, decode

Headers = tuple[tuple[str, str], ...]

MAX_BODY = 16 * 1024 * 1024
"""Bytes of one body, encoded or decoded, that are kept."""


class Phase(StrEnum):
    """Where in an exchange a wait or a failure happened."""

    CONNECT = "connect"
    HEAD = "head"
    FIRST_EVENT = "first event"
    SILENCE = "silence"
    END = "end"


class EndKind(StrEnum):
    """How an exchange ended, as far as bytes can tell."""

    COMPLETE = "complete"  # the last chunk, or all of Content-Length, was seen
    CLOSE_DELIMITED = "close-delimited"  # a FIN where the close is the only delimiter
    CUT = "cut"  # a FIN before the body's end
    RESET = "reset"  # a RST, at whatever point
    TIMEOUT = "timeout"  # nothing more within the phase's limit
    REFUSED = "refused"  # nobody listens
    DNS = "dns"  # the name does not resolve
    TLS = "tls"  # no agreement, or an untrusted certificate
    PROTOCOL = "protocol"  # the bytes are not HTTP
    LIMIT = "limit"  # more than the client is willing to keep
    STOPPED = "stopped"  # the client went, on purpose
    UNKNOWN = "unknown"  # converted from elsewhere, the end was not recorded


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent: method, absolute URL, headers in order, body bytes."""

    method: str
    url: str
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """The response head: status, reason, HTTP version (`HTTP/1.1`), headers in order, arrival.

    Header names and values are as sent, decoded as ISO 8859-1, so that every byte is kept.
    """

    status: int
    reason: str
    version: str
    headers: Headers
    at: float

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a header, compared without case, in order."""
        wanted = name.lower()
        return tuple(value for key, value in self.headers if key.lower() == wanted)

    def value(self, name: str) -> str | None:
        """The values of a header joined as RFC 9110 5.3 allows, or None where it is absent."""
        found = self.values(name)
        return ", ".join(found) if found else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Body bytes that arrived together, and when."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """How the exchange ended, in which phase (of a time-out), when, in the transport's words."""

    kind: EndKind
    at: float
    phase: Phase | None = None
    detail: str = ""


class ContentDecoder:
    """Undo a Content-Encoding chunk by chunk (RFC 9110 8.4): gzip, deflate or identity.

    `problem` says why the bytes can't be decoded, or is empty; nothing more comes out behind one.
    At most `limit` bytes come out.
    """

    def __init__(self, coding: str, *, limit: int = MAX_BODY) -> None:
        self.coding = coding.strip().lower()
        self.problem = ""
        self.overflowed = False
        self._left = limit
        self._inflate: zlib._Decompress | None = None
        if self.coding in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[self.coding])
        elif self.coding not in {"", "identity"}:
            self.problem = f"Content-Encoding {self.coding!r} is none that was asked for"

    def feed(self, data: bytes) -> bytes:
        """Return what `data` decodes to, as far as the server has flushed it."""
        if self.problem:
            return b""
        if self._inflate is None:
            return data
        decoded = b""
        while data and not self.problem:
            try:
                piece = self._inflate.decompress(data, self._left + 1)
            except zlib.error as error:
                self.problem = f"the body is not valid {self.coding}: {error}"
                break
            decoded += piece[: self._left]
            self.overflowed = len(piece) > self._left
            self._left -= min(len(piece), self._left)
            if self.overflowed:
                self.problem = "the decoded body is longer than the client is willing to keep"
            data = self._inflate.unused_data
            if data:  # "a series of members", RFC 1952 2.2
                self._inflate = zlib.decompressobj(_WINDOW_BITS[self.coding])
        return decoded


_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


@dataclass(frozen=True)
class Recording:
    """Everything seen on one HTTP exchange. Times are seconds since the request was begun.

    `started` is the wall clock (UTC, ISO 8601). `lag` is the event loop's own worst delay
    meanwhile, in seconds: what a timing in here can be wrong by; `denied` is how much of a second
    it waited for a processor, at worst, as may a server beside us. `connected` is when the
    connection stood, or None where it never did or was reused. `timed` is False where the times are
    not real.

    `chunks` are the bytes as sent, less the transfer coding. `content`, `body` and `blocks`, and
    with them every offset, are behind the content coding too; without one they are the same.
    """

    request: Request
    head: Head | None
    chunks: tuple[Chunk, ...]
    end: End
    started: str = ""
    connected: float | None = None
    lag: float = 0.0
    denied: float = 0.0
    timed: bool = True
    notes: tuple[str, ...] = field(default=())

    @property
    def coding(self) -> str:
        """The Content-Encoding of the answer in lower case, or an empty string."""
        coding = (self.head.value("content-encoding") or "") if self.head else ""
        return "" if coding.strip().lower() == "identity" else coding.strip().lower()

    @cached_property
    def _decoded(self) -> tuple[tuple[Chunk, ...], str]:
        if not self.coding:
            return self.chunks, ""
        decoder = ContentDecoder(self.coding)
        pieces = ((chunk.at, decoder.feed(chunk.data)) for chunk in self.chunks)
        return tuple(Chunk(at, data) for at, data in pieces if data), decoder.problem

    @property
    def content(self) -> tuple[Chunk, ...]:
        """The chunks with the content coding undone, at the arrival of the bytes they came from."""
        return self._decoded[0]

    @property
    def content_problem(self) -> str:
        """Why the content coding could not be undone to the end, or an empty string."""
        return self._decoded[1]

    @cached_property
    def body(self) -> bytes:
        return b"".join(chunk.data for chunk in self.content)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The body as the decoder sees it; an unterminated tail is the last block, not complete."""
        return decode((chunk.at, chunk.data) for chunk in self.content)

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        offsets, offset = [], 0
        for chunk in self.content:
            offsets.append(offset)
            offset += len(chunk.data)
        return tuple(offsets)

    def arrival(self, offset: int) -> float:
        """When the body byte at `offset` arrived; raises IndexError beyond the body."""
        if not 0 <= offset < len(self.body):
            raise IndexError(f"byte {offset} of a body of {len(self.body)} bytes")
        return self.content[bisect_right(self._offsets, offset) - 1].at

    @property
    def status(self) -> int | None:
        return self.head.status if self.head else None

    @property
    def is_stream(self) -> bool:
        """Whether the answer says it is an event stream, with status 200."""
        media = (self.head.value("content-type") or "") if self.head else ""
        return self.status == 200 and media.split(";")[0].strip().lower() == "text/event-stream"

    @property
    def ended_cleanly(self) -> bool:
        """Whether the body's own end was seen, so that what is absent really was not sent."""
        return self.end.kind in {EndKind.COMPLETE, EndKind.CLOSE_DELIMITED}

    @property
    def broken_off(self) -> bool:
        """Whether the connection was closed or reset before the body's own end."""
        return self.end.kind in {EndKind.CUT, EndKind.RESET}


@dataclass(frozen=True)
class Run:
    """One agent run as clients saw it: exchanges joined by reconnects, first to last.

    `scenario` and `control` say what was asked and how; `synthetic` is the end that the reference
    client made up because the server gave none, or an empty string; `unwaited` says why, where its
    own bounds alone forbade it to wait and try again. `captured` are the values that its templates
    had (of setup steps, and `uuid`); they may be secrets, are no evidence, and are never written to
    a file.
    """

    scenario: str
    control: str
    exchanges: tuple[Recording, ...]
    synthetic: str = ""
    captured: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)
    unwaited: str = ""

    @property
    def first(self) -> Recording:
        return self.exchanges[0]

    @property
    def last(self) -> Recording:
        return self.exchanges[-1]
