"""The recorder: it is told what happens on one exchange, and keeps it as a recording.

Sans-IO. It decodes as it goes, so that whoever reads the socket learns of each block at once, and
its recording can be had at any moment, also of an exchange that was broken off.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_agentstream.recording import (
    MAX_BODY,
    Chunk,
    ContentDecoder,
    End,
    EndKind,
    Head,
    Phase,
    Recording,
    Request,
)
from pytest_agentstream.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.recording import Headers
    from pytest_agentstream.wire import Block


def no_lag(start: float) -> float:
    """Say that the event loop was never late; where nobody measures it."""
    return 0.0


MOST_IN_ONE = 64 * 1024 * 1024
MOST_TOGETHER = 160 * 1024 * 1024
"""Bytes of memory that one recording, and all of a session together, may take."""

CHUNK, BLOCK, NESTED = 400, 800, 64
"""Bytes of memory that a chunk, a block with its event, and a value inside of one take at most."""

SLICE = 64 * 1024
"""Bytes that are decoded at once: a few of gzip may be very many, and each of them a block."""


class Room:
    """How much memory recordings may still take, in bytes: an estimate, and rather too high."""

    def __init__(self, limit: int = MOST_TOGETHER) -> None:
        self.limit = limit
        self._left = limit

    @property
    def full(self) -> bool:
        return self._left < 0

    def take(self, size: int) -> None:
        self._left -= size


def _size_of(block: Block) -> int:
    """The memory of a block, with the event that a dialect makes of it and its payload."""
    if block.event is None:
        return BLOCK + len(block.raw)
    data = block.event.data
    values = data.count("{") + data.count("[") + data.count(",")
    return BLOCK + len(block.raw) + 2 * sys.getsizeof(data) + NESTED * values


class Recorder:
    """Collect one exchange.

    `max_body` is in bytes; `room` is shared by the recordings of a session. `lag_since` says by how
    many seconds the event loop was late at worst since a time of `time.perf_counter`, and
    `denied_since` how many seconds of a processor it was denied. `notes` are kept with the
    recording.
    """

    def __init__(
        self,
        *,
        max_body: int = MAX_BODY,
        room: Room | None = None,
        lag_since: Callable[[float], float] = no_lag,
        denied_since: Callable[[float], float] = no_lag,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.request: Request | None = None
        self.head: Head | None = None
        self.full = ""
        self._connected: float | None = None
        self._chunks: list[Chunk] = []
        self._blocks: list[Block] = []
        self._end: End | None = None
        self._notes = notes
        self._lag_since = lag_since
        self._denied_since = denied_since
        self._lag = self._denied = 0.0
        self._left = max_body
        self._max_body = max_body
        self._own = Room(MOST_IN_ONE)
        self._shared = room or Room()
        self._decoded: list[Chunk] = []
        self._received = 0
        self._decoder = Decoder()
        self._content = ContentDecoder("", limit=max_body)
        self._last = 0.0
        self._zero = 0.0
        self._started = ""

    def begin(self, request: Request) -> None:
        """Take the request that is about to be sent; every time counts from here."""
        self.request = request
        self._started = datetime.now(UTC).isoformat()
        self._zero = time.perf_counter()

    @property
    def begun(self) -> bool:
        return self.request is not None

    @property
    def ended(self) -> bool:
        return self._end is not None

    def now(self) -> float:
        """Seconds since the request was begun."""
        return time.perf_counter() - self._zero

    def connect(self) -> None:
        """Take note that a new connection stands."""
        self._connected = self.now()

    def answer(self, status: int, reason: str, version: str, headers: Headers) -> Head:
        """Take the response head, which arrived now."""
        self.head = Head(status, reason, version, headers, self.now())
        coding = self.head.value("content-encoding") or ""
        self._content = ContentDecoder(coding, limit=self._max_body)
        return self.head

    def receive(self, data: bytes) -> list[Block]:
        """Take body bytes, which arrived now; return the blocks that they complete.

        Where they are more than may be kept, nothing more is, and `full` says why.
        """
        at = self.now()
        kept = data[: self._left]
        self._left -= len(kept)
        self._received += len(kept)
        if len(kept) < len(data):
            self.full = f"the body is longer than {self._max_body:,} bytes"
        if not kept:
            return []
        self._chunks.append(Chunk(at, kept))
        self._take(CHUNK + 2 * len(kept))
        content = self._content.feed(kept)
        if not self._content.coding:
            blocks = self._decode(at, content)
        else:
            blocks = []
            for start in range(0, len(content), SLICE):
                piece = content[start : start + SLICE]
                self._decoded.append(Chunk(at, piece))
                self._take(CHUNK + 2 * len(piece))
                blocks += self._decode(at, piece)
                if self.full:
                    break
        if self._content.overflowed:
            self.full = self.full or f"the decoded body is longer than {self._max_body:,} bytes"
        return blocks

    @property
    def undecoded(self) -> str:
        """That bytes came and nothing could be made of them so far, or an empty string."""
        if not self._received or self._decoded or not self._content.coding:
            return ""
        return f"{self._received} bytes of {self._content.coding} came, and decode to nothing yet"

    def _decode(self, at: float, content: bytes) -> list[Block]:
        self._last = at if content else self._last
        blocks = self._decoder.feed(content, at)
        self._blocks += blocks
        self._take(sum(map(_size_of, blocks)))
        return blocks

    def _take(self, size: int) -> None:
        self._own.take(size)
        self._shared.take(size)
        if self.full:
            return
        if self._own.full:
            self.full = (
                f"{len(self._blocks):,} blocks in {self._decoder.offset:,} bytes, "
                f"{len(self._chunks):,} chunks, are more than the client keeps of one exchange"
            )
        elif self._shared.full:
            self.full = "this session has recorded as much as the client keeps"

    def finish(self, kind: EndKind, detail: str = "", phase: Phase | None = None) -> None:
        """Take the end, which is now; a second one is ignored."""
        if self._end is None:
            self._end = End(kind, self.now(), phase, detail)
            self._lag, self._denied = self._lag_since(self._zero), self._denied_since(self._zero)

    @property
    def recording(self) -> Recording:
        """What was seen so far; raises RuntimeError before the request was begun."""
        if self.request is None:
            raise RuntimeError("nothing was recorded: the request was never begun")
        end = self._end or End(EndKind.STOPPED, self.now(), None, "still open")
        recording = Recording(
            request=self.request,
            head=self.head,
            chunks=tuple(self._chunks),
            end=end,
            started=self._started,
            connected=self._connected,
            lag=self._lag if self._end else self._lag_since(self._zero),
            denied=self._denied if self._end else self._denied_since(self._zero),
            notes=self._notes,
        )
        if recording.coding:
            recording.__dict__["_decoded"] = tuple(self._decoded), self._content.problem
        if self._end:
            # what was decoded on the way need not be decoded again
            self._blocks += self._decoder.finish(self._last)
            recording.__dict__["blocks"] = tuple(self._blocks)
        return recording
