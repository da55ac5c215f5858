"""The lines of a block, as sent: where each starts, how it ends, what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

# "…a CRLF character pair, a single LF not preceded by a CR, and a single CR not followed by a LF
# being the ways in which a line can end" (9.2.5)
_LINE = re.compile(rb"([^\r\n]*+)(\r\n?+|\n|\Z)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a block.

    `start` is the offset of its first byte in the body. `raw` is the line without its end, and
    `end` is how it ended: `b"\\n"`, `b"\\r\\n"`, `b"\\r"`, or `b""` where the bytes stop before it.
    `name` is the field name as sent (field names are case-sensitive) and `value` is what follows
    the first colon, less one space; a comment has an empty name, a blank line neither. `colon`
    tells `data:` from `data`. Both texts have U+FFFD for what is not UTF-8.
    """

    start: int
    raw: bytes
    end: bytes
    kind: Literal["comment", "field", "blank"]
    name: str
    value: str
    colon: bool


def parse_lines(raw: bytes, start: int) -> Iterator[Line]:
    """Yield the lines of `raw`, whose first byte has the offset `start` in the body."""
    for match in _LINE.finditer(raw):
        line, end = match.groups()
        if not line and not end:
            return
        name, colon, value = line.partition(b":")
        yield Line(
            start=start + match.start(),
            raw=line,
            end=end,
            kind="blank" if not line else "field" if name else "comment",
            name=name.decode("utf-8", "replace"),
            value=value.removeprefix(b" ").decode("utf-8", "replace"),
            colon=bool(colon),
        )
