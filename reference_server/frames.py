"""Turn events into bytes: frames, and how they are written (WHATWG HTML 9.2).

A dialect says which frames an event becomes; the framing writes them. Both are seams.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE_END = re.compile(r"\r\n|\r|\n")
_ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""Line separators to some clients' line splitters, though not to the specification."""
_REPLACED = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""Lone surrogates: no characters, and not to be had in UTF-8."""
_SAFE = _ESCAPED | _REPLACED


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of the wire; what is None is not written."""

    data: str
    event: str | None = None
    id: str | None = None
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment line, which no client sees."""

    text: str


Item: TypeAlias = Frame | Comment


def compact_json(payload: Mapping[str, Any]) -> str:
    """Return one line of JSON: no NaN, U+0085, U+2028 and U+2029 escaped."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_SAFE)


class Framing:
    """Write frames as blocks: fields event, data, id, retry in this order, then a blank line."""

    end = "\n"

    def write(self, item: Item) -> bytes:
        """Return the bytes of one block, or of one comment line with its one line end."""
        if isinstance(item, Comment):
            return self.encode(self.comment(item))
        return self.encode("".join(line + self.end for line in [*self.lines(item), ""]))

    def comment(self, comment: Comment) -> str:
        """Return a comment line. No blank line: it would end a block (and some clients would
        emit a phantom event there once an id was seen)."""
        return f": {comment.text}{self.end}"

    def lines(self, frame: Frame) -> list[str]:
        """Return the block's field lines, without line ends."""
        lines = []
        if frame.event is not None:
            lines.append(self.field("event", frame.event))
        lines += [self.field("data", part) for part in _LINE_END.split(frame.data)]
        if frame.id is not None:
            lines.append(self.field("id", frame.id))
        if frame.retry is not None:
            lines.append(self.field("retry", str(frame.retry)))
        return lines

    def field(self, name: str, value: str) -> str:
        """Return one field line."""
        return f"{name}: {value}"

    def encode(self, text: str) -> bytes:
        """Return the text's bytes."""
        return text.encode()
