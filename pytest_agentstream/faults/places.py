"""Places: at which byte of a connection a body byte or the end of an event lies. Sans-IO.

1. Whoever looks for a place is shown every byte that comes downstream, in order, cut anywhere, and
   says where in the bytes just shown the place is, once; until then all of them may go on.
2. Body bytes and events are found with h11, which reads a copy. Where it can't (no HTTP, a coded
   body), `problem` says why, and the place is never found.
3. Events are those that the decoder dispatches. A CR that ends a CRLF block waits for its LF, so
   that a place doesn't depend on how the bytes were cut.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import h11

from pytest_agentstream.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.wire import Block

PIECE = 4096
"""Bytes given to h11 at a time: asking it how far it has read costs as much as it has left."""

LONGEST_HEAD = 1024 * 1024


class Place(Protocol):
    """Something that is looked for in the bytes of one connection."""

    @property
    def problem(self) -> str:
        """Why it can't be found, or an empty string."""

    def find(self, data: bytes) -> int | None:
        """Where in `data` the place is, 0 to its length, or None where it isn't in there."""

    def asked(self, data: bytes) -> None:
        """Take bytes of the requests."""


class ConnectionByte:
    """The place behind `count` bytes of the connection."""

    problem = ""

    def __init__(self, count: int) -> None:
        self._left = count

    def find(self, data: bytes) -> int | None:
        found = self._left if self._left <= len(data) else None
        self._left -= len(data)
        return found

    def asked(self, data: bytes) -> None:
        """Requests don't matter."""


class Mark(Protocol):
    """What is looked for in the bodies of answers; offsets are those of the connection."""

    problem: str

    def head(self, at: int, headers: dict[bytes, bytes]) -> int | None:
        """Take the end of a response head."""

    def body(self, at: int, data: bytes) -> int | None:
        """Take body bytes, less their framing."""


class InAnswers:
    """The place of a mark in the answers on one connection."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._answers = _Answers()

    @property
    def problem(self) -> str:
        return self._answers.problem or self._mark.problem

    def find(self, data: bytes) -> int | None:
        start = self._answers.offset
        for at, found in self._answers.feed(data):
            if isinstance(found, bytes):
                place = self._mark.body(at, found)
            else:
                place = self._mark.head(at, found)
            if place is not None:
                return place - start
        return None

    def asked(self, data: bytes) -> None:
        self._answers.asked(data)


class BodyByte:
    """The mark behind `count` body bytes; 0 is the end of the first head."""

    problem = ""

    def __init__(self, count: int) -> None:
        self._left = count

    def head(self, at: int, headers: dict[bytes, bytes]) -> int | None:
        return None if self._left else at

    def body(self, at: int, data: bytes) -> int | None:
        found = at + self._left if self._left <= len(data) else None
        self._left -= len(data)
        return found


class EventEnd:
    """The mark behind the k-th dispatched event, or `into_next` bytes into the next one's block.

    Where that block is shorter, its end is the mark.
    """

    def __init__(self, event: int, into_next: int = 0) -> None:
        self.problem = ""
        self._missing = event
        self._into = into_next
        self._blind = False
        self._awaits_lf = False
        self._decoder = Decoder()
        self._next = _NextBlock(into_next)

    def head(self, at: int, headers: dict[bytes, bytes]) -> int | None:
        if not self._missing and not self._into:
            return at
        media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        coding = headers.get(b"content-encoding", b"identity").strip().lower()
        self._blind = media != b"text/event-stream"
        if not self._blind and coding != b"identity":
            self._blind = True
            self.problem = f"events of a body in {coding.decode('latin-1')} can't be located"
        self._decoder, self._awaits_lf = Decoder(), False
        self._next = _NextBlock(self._into)
        return None

    def body(self, at: int, data: bytes) -> int | None:
        if self._blind or not data:
            return None
        if self._awaits_lf:
            self._awaits_lf = False
            lf = data.startswith(b"\n")
            if not self._into:
                return at + lf
            at, data = at + lf, data[lf:]
        if self._missing:
            base = self._decoder.offset
            last = self._count(self._decoder.feed(data))
            if last is None:
                return None
            end = last.end - base
            self._awaits_lf = end == len(data) and last.raw.endswith(b"\n\r")
            if not self._into:
                return None if self._awaits_lf else at + end
            at, data = at + end, data[end:]
        found = self._next.find(data)
        return None if found is None else at + found

    def _count(self, blocks: list[Block]) -> Block | None:
        for block in blocks:
            self._missing -= block.event is not None
            if not self._missing:
                return block
        return None


class _NextBlock:
    """So many bytes into the next block, counted from its first line that is no comment."""

    def __init__(self, into: int) -> None:
        self._into = into
        self._seen = 0
        self._in_line = False
        self._decoder = Decoder()
        # behind a line, three bytes more are no byte-order mark
        self._decoder.feed(b"\n")

    def find(self, data: bytes) -> int | None:
        for index, byte in enumerate(data):
            begins = not self._in_line and byte not in b":\r\n"
            self._in_line = byte not in b"\r\n"
            self._seen += bool(self._seen or begins)
            blocks = self._decoder.feed(data[index : index + 1])
            if self._seen == self._into or any(block.event is not None for block in blocks):
                return index + 1
            if blocks:
                self._seen = 0
        return None


class _Answers:
    """What h11 makes of the answers on one connection, with offsets of the connection."""

    def __init__(self) -> None:
        self.offset = 0
        self.problem = ""
        self._requests: h11.Connection | None = h11.Connection(h11.SERVER, LONGEST_HEAD)
        self._methods: deque[bytes] = deque()
        self._http: h11.Connection | None = None
        self._over = False

    def asked(self, data: bytes) -> None:
        """Take bytes of the requests: an answer to HEAD has no body (RFC 9112 6.3)."""
        http = self._requests
        if http is None:
            return
        try:
            http.receive_data(data)
            while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self._methods.append(event.method)
                elif isinstance(event, h11.EndOfMessage):
                    http.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"0")]))
                    http.send(h11.EndOfMessage())
                    http.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    break
        except h11.ProtocolError:
            # a last request, or none that h11 understands; it is for the server to judge
            self._requests = None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes | dict[bytes, bytes]]]:
        """Yield the headers of each answer and pieces of its body, with their offsets.

        Of a head it is the offset of its end, of a piece that of its first byte.
        """
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self.offset += len(piece)
            if not self.problem and not self._over:
                try:
                    yield from self._read(piece)
                except h11.ProtocolError as error:
                    self.problem = f"the answer can't be read as HTTP/1.1: {error}"

    def _read(self, piece: bytes) -> Iterator[tuple[int, bytes | dict[bytes, bytes]]]:
        http = self._http = self._http or self._await_answer(None)
        http.receive_data(piece)
        while True:
            event = http.next_event()
            left = len(http.trailing_data[0])
            if isinstance(event, h11.Response):
                yield self.offset - left, dict(event.headers)
            elif isinstance(event, h11.Data):
                yield self.offset - left - len(event.data), bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if http.their_state is not h11.DONE or http.our_state is not h11.DONE:
                    self._over = True
                    return
                self._await_answer(http)
            elif not isinstance(event, h11.InformationalResponse):
                return

    def _await_answer(self, http: h11.Connection | None) -> h11.Connection:
        if http is None:
            http = h11.Connection(h11.CLIENT, LONGEST_HEAD)
        else:
            http.start_next_cycle()
        method = self._methods.popleft() if self._methods else b"GET"
        http.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"-")]))
        http.send(h11.EndOfMessage())
        return http
