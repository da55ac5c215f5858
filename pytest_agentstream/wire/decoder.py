"""The decoder: chunks of an event stream in, blocks out.

Theory of operation. The rules are those of WHATWG HTML 9.2.5 and 9.2.6; the decoder reports what
came, and leaves it to others to judge it.

1. A block ends with its blank line. What has come of the block that is still open waits in `_open`,
   and only its first bytes once it is longer than the limit.
2. Between two chunks only two things matter: which byte came last, and whether all bytes so far may
   be those of a byte-order mark. What a chunk completes of a mark or of a line end is taken first
   (`_resume`), so that the rest of the chunk starts within a line or with a new one, and the
   grammar finds its blocks.
3. A CR ends its line at once, and with it perhaps a block: a decoder that waits for the next byte
   holds an event back for as long as the server is silent. If the next byte is LF, it belongs to
   the line that has ended, and is added to the block that has been returned.
4. Each byte is looked at a fixed number of times, however the chunks are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.wire.block import Block
from pytest_agentstream.wire.event import Event, join_data, read_retry
from pytest_agentstream.wire.grammar import BOM, CR, LF, LINE_END, Found, find_events, find_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_LIMIT = 16 * 1024 * 1024

_NOTHING = -1  # where another last byte would be


class Decoder:
    """Turn the chunks of a body, cut anywhere, into blocks.

    `limit` is the number of bytes kept of one block; of a longer one only the first `limit` are
    kept, and it is marked as truncated. The LF of a CRLF that ends a block is not counted. Nothing
    is ever raised for what the bytes are.

    - `offset`: bytes fed so far.
    - `has_bom`: whether the body began with a byte-order mark.
    - `last_event_id`: the newest id that a complete block has set; what a client would send as
      Last-Event-ID, unless it is "".
    """

    def __init__(self, *, limit: int = DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"a limit of {limit} bytes keeps nothing; give at least 1")
        self.offset = 0
        self.has_bom = False
        self.last_event_id = ""
        self._limit = limit
        self._index = 0
        self._start = 0  # of the open block
        self._open = bytearray()
        self._last = _NOTHING
        self._bom_bytes = 0
        self._latest: Block | None = None

    def feed(self, chunk: bytes, at: float = 0.0) -> list[Block]:
        """Return the blocks that `chunk`, which arrived `at` (in seconds), completes."""
        blocks: list[Block] = []
        if not chunk:
            return blocks
        position = 0
        if self._last != LF:
            position = self._resume(chunk)
        events = find_events(chunk, position)
        lost = 0
        if self._open and events and events[0][0]:
            events[0], lost = self._join(events[0][0], self.offset + position)
        index, start, limit, cursor = self._index, self._start, self._limit, self.last_event_id
        for raw, data, further, first, type_, id_, has_id, retry in events:
            if not raw:
                break
            size = len(raw) + lost
            truncated = size > limit and (size > limit + 1 or not raw.endswith(b"\r\n"))
            if truncated:
                raw, lost = raw[:limit], 0
                _, _, _, _, _, id_, has_id, retry = find_fields(self._text(raw, start))
            new_id = event = None
            if has_id:
                cursor = new_id = id_.decode("utf-8", "replace")
            if first and not truncated:
                if further:
                    data = join_data(self._text(raw, start))
                type_name = type_.decode("utf-8", "replace") if type_ else "message"
                event = Event(type_name, data.decode("utf-8", "replace"), cursor)
            wait = read_retry(retry) if retry else None
            end = start + size
            blocks.append(Block(index, start, end, raw, at, True, truncated, new_id, wait, event))
            index, start = index + 1, end
        if blocks:
            self._index, self._start, self.last_event_id = index, start, cursor
            self._latest = blocks[-1]
            position = start - self.offset
        self._last = chunk[-1]
        self.offset += len(chunk)
        if position < len(chunk):
            self._keep(chunk[position:])
        elif self.has_bom and self.offset == len(BOM):
            self._last = LF
        return blocks

    def finish(self, at: float = 0.0) -> list[Block]:
        """Return the tail that the end of the body, seen `at`, left open, or nothing."""
        start, end = self._start, self.offset
        if start == end:
            return []
        raw, truncated = bytes(self._open[: self._limit]), end - start > self._limit
        *_, retry = find_fields(self._text(raw, start))
        self._open.clear()
        self._start = end
        milliseconds = read_retry(retry) if retry else None
        return [Block(self._index, start, end, raw, at, False, truncated, None, milliseconds, None)]

    def _resume(self, chunk: bytes) -> int:
        """Take what completes a byte-order mark or a line end begun before; return its length."""
        last, taken = self._last, 0
        if last == CR and chunk[0] == LF:
            self._take_lf()
            return 1
        if self.offset < len(BOM) and self._bom_bytes == self.offset:
            head = chunk[: len(BOM) - self.offset]
            if BOM.startswith(head, self.offset):
                self._keep(head)
                taken = len(head)
                self._bom_bytes += taken
                self.has_bom = self._bom_bytes == len(BOM)
                last = LF if self.has_bom else head[-1]
        if last not in (CR, LF, _NOTHING):
            line_end = LINE_END.match(chunk, taken)
            if line_end:
                self._keep(line_end[0])
                taken = line_end.end()
        return taken

    def _take_lf(self) -> None:
        if self._start < self.offset or self._latest is None:
            self._keep(b"\n")
            return
        self._start += 1
        self._latest.end += 1
        if not self._latest.truncated:
            self._latest.raw += b"\n"

    def _join(self, piece: bytes, position: int) -> tuple[Found, int]:
        """Return the open block, closed by the `piece` at `position`, and the bytes not kept."""
        size = position + len(piece) - self._start
        self._keep(piece)
        raw = bytes(self._open)
        self._open.clear()
        lost = size - len(raw)
        fields = find_fields(b"") if lost else find_events(self._text(raw, self._start), 0)[0]
        return (raw, *fields[1:]), lost

    def _keep(self, piece: bytes) -> None:
        # one byte over the limit may be the LF that is not counted
        self._open += piece[: max(self._limit + 1 - len(self._open), 0)]

    def _text(self, raw: bytes, start: int) -> bytes:
        return raw[len(BOM) :] if start == 0 and self.has_bom else raw


def decode(
    chunks: Iterable[tuple[float, bytes]], *, limit: int = DEFAULT_LIMIT
) -> tuple[Block, ...]:
    """Return the blocks of a whole body, given as pairs of arrival (in seconds) and bytes.

    A tail has the arrival of the last chunk.
    """
    decoder = Decoder(limit=limit)
    blocks: list[Block] = []
    at = 0.0
    for at, chunk in chunks:
        blocks += decoder.feed(chunk, at)
    return (*blocks, *decoder.finish(at))
