"""The recorder: it is told what happens on one exchange, and keeps it as a recording.

Sans-IO. It decodes as it goes, so that whoever reads the socket learns of each block at once, and
its recording can be had at any moment, also of an exchange that was broken off.
"""

from __future__ import annotations

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


class Recorder:
    """Collect one exchange.

    `max_body` is in bytes; `lag_since` says by how many seconds the event loop was late at worst
    since a time of `time.perf_counter`. `notes` are kept with the recording.
    """

    def __init__(
        self,
        *,
        max_body: int = MAX_BODY,
        lag_since: Callable[[float], float] = no_lag,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.request: Request | None = None
        self.head: Head | None = None
        self.full = False
        self._connected: float | None = None
        self._chunks: list[Chunk] = []
        self._blocks: list[Block] = []
        self._end: End | None = None
        self._notes = notes
        self._lag_since = lag_since
        self._lag = 0.0
        self._left = max_body
        self._max_body = max_body
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

        Behind `max_body` nothing is kept, and `full` is True.
        """
        at = self.now()
        kept = data[: self._left]
        self._left -= len(kept)
        self.full = len(kept) < len(data)
        if not kept:
            return []
        self._chunks.append(Chunk(at, kept))
        content = self._content.feed(kept)
        self._last = at if content else self._last
        blocks = self._decoder.feed(content, at)
        self.full = self.full or self._content.overflowed
        self._blocks += blocks
        return blocks

    def finish(self, kind: EndKind, detail: str = "", phase: Phase | None = None) -> None:
        """Take the end, which is now; a second one is ignored."""
        if self._end is None:
            self._end = End(kind, self.now(), phase, detail)
            self._lag = self._lag_since(self._zero)

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
            notes=self._notes,
        )
        if self._end:
            # what was decoded on the way need not be decoded again
            self._blocks += self._decoder.finish(self._last)
            recording.__dict__["blocks"] = tuple(self._blocks)
        return recording
