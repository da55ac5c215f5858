"""Blocks: what stands between two blank lines of an event stream, and the event it dispatches."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from pytest_agentstream.wire.grammar import BOM
from pytest_agentstream.wire.line import Line, parse_lines
from pytest_agentstream.wire.utf8 import ill_formed

if TYPE_CHECKING:
    from pytest_agentstream.wire.event import Event


MOST_INVALID = 1000

SHORT = 512
"""Bytes up to which the lines of a block are remembered for a while: many judges look at them."""


def _lines(raw: bytes, start: int) -> tuple[Line, ...]:
    return tuple(parse_lines(raw, start))


_remembered_lines = lru_cache(maxsize=4096)(_lines)


class Block:
    """The bytes from the end of one blank line to the end of the next, and what they mean.

    A blank line that closes nothing is a block of its own, so that the blocks of a stream, one
    after another, are its bytes.

    - `index`: 0 for the first block of the body.
    - `start`, `end`: offsets in the body, in bytes; `end` is exclusive, behind the blank line.
    - `raw`: the bytes; only the first of them where `truncated`.
    - `at`: arrival of the chunk that completed the block (of the end of the body, for a tail), in
      seconds.
    - `complete`: False for a tail, which the end of the body left without its blank line.
    - `truncated`: the block is longer than the decoder's limit. `end` still counts every byte.
    - `event`: None where nothing is dispatched: no data line, not complete, or truncated (its data
      is not known whole).
    - `id`: what the block sets the last event id to; "" where it clears it; None where it leaves
      it alone (no id line, one with NUL, or a tail: "the incomplete event is not dispatched").
    - `retry`: the reconnection time that the block sets, in milliseconds; None where no value
      "consists of only ASCII digits". A retry line acts when it is read, so in a tail too.

    Of a truncated block, `id`, `retry`, `lines` and the like tell what the kept bytes tell.

    Blocks never change, with one exception: the LF of a CRLF that arrives in the chunk after its CR
    is added to the `raw` and the `end` of the block which that CR has closed.
    """

    __slots__ = (
        "at",
        "complete",
        "end",
        "event",
        "id",
        "index",
        "raw",
        "retry",
        "start",
        "truncated",
    )

    def __init__(
        self,
        index: int,
        start: int,
        end: int,
        raw: bytes,
        at: float,
        complete: bool,
        truncated: bool,
        id: str | None,  # noqa: A002 - the field's name
        retry: int | None,
        event: Event | None,
    ) -> None:
        self.index = index
        self.start = start
        self.end = end
        self.raw = raw
        self.at = at
        self.complete = complete
        self.truncated = truncated
        self.id = id
        self.retry = retry
        self.event = event

    def __repr__(self) -> str:
        flags = ("" if self.complete else ", tail") + (", truncated" if self.truncated else "")
        shown = self.raw if len(self.raw) <= 60 else self.raw[:57] + b"..."
        return f"<Block {self.index}: bytes {self.start}-{self.end}{flags}, {shown!r}>"

    @property
    def bom(self) -> bool:
        """Whether the block opens the body with a byte-order mark, which no line contains."""
        return self.start == 0 and self.raw.startswith(BOM)

    @property
    def lines(self) -> tuple[Line, ...]:
        """All lines, the blank one too; the last one ends in `b""` in a tail or a truncated block.

        Not kept with the block, so that it costs little more than its bytes.
        """
        skipped = len(BOM) if self.bom else 0
        parse = _remembered_lines if len(self.raw) <= SHORT else _lines
        return parse(self.raw[skipped:], self.start + skipped)

    @property
    def comments(self) -> tuple[str, ...]:
        """The text of each comment line, less the colon and one space."""
        return tuple(line.value for line in self.lines if line.kind == "comment")

    @property
    def has_data(self) -> bool:
        """Whether there is a data line, dispatched or not, empty or not."""
        return self.event is not None or any(line.name == "data" for line in self.lines)

    @property
    def invalid_utf8(self) -> tuple[int, ...]:
        """Offsets in the body at which bytes are not UTF-8: one for each U+FFFD in the text.

        The first `MOST_INVALID` of them, where there are more.
        """
        wrong = ill_formed(self.raw, self.start, cut=self.truncated)
        return tuple(islice(wrong, MOST_INVALID))
