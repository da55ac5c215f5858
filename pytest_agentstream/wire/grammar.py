"""The grammar of an event stream as one expression over bytes (WHATWG HTML 9.2.5).

    stream      = [ bom ] *event
    event       = *( comment / field ) end-of-line
    comment     = colon *any-char end-of-line
    field       = 1*name-char [ colon [ space ] *any-char ] end-of-line
    end-of-line = ( cr lf / cr / lf )
    any-char    = %x0000-0009 / %x000B-000C / %x000E-10FFFF

A group keeps what it held last, as the buffers for type and id do. Data lines add up, so the line
end of the first and that of any further one are kept apart.

Two things make the expression linear and its groups true. `++` and `*+` give nothing back, so that
nothing is tried twice. And a line that is not to count (an id with NUL, a retry with a sign) is
refused before its group opens: behind it only the line end can be missing, and then there is no
whole event.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

BOM = b"\xef\xbb\xbf"
CR, LF = b"\r\n"

Found = tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes]
"""An event: its bytes; the last data line, the end of a further one, the end of the first; the last
type; the last id, its end; the last retry. Each is empty where there is none."""

_CHAR = rb"[\x00-\x09\x0B\x0C\x0E-\xFF]"
_END = rb"(?: \n | \r\n?+ )"
_COLON = rb"(?: :[ ]?+ | (?=[\r\n]) )"

_EVENT = rb"""
    (
      (?:
          data  %(colon)b (%(char)b*+) (?(4) (%(end)b) | (%(end)b) )
        | event %(colon)b (%(char)b*+) %(end)b
        | id    %(colon)b (?! [^\0\r\n]*+ \0 ) (%(char)b*+) (%(end)b)  # "does not contain U+0000"
        | retry %(colon)b (?= [0-9]++ [\r\n] ) (%(char)b*+) %(end)b    # "only ASCII digits"
        | %(char)b++ %(end)b                                           # "the field is ignored"
      )*+
      %(end)b
    )
    | (?s: .+ )  # no whole event
"""
_PARTS = {b"char": _CHAR, b"end": _END, b"colon": _COLON}

LINE_END = re.compile(_END, re.VERBOSE)

find_events = cast(
    "Callable[[bytes, int], list[Found]]", re.compile(_EVENT % _PARTS, re.VERBOSE).findall
)
"""Return the events in bytes from an offset on, without gaps between them.

Where the rest is no whole event, a last item stands for it that is all empty. The first line may be
the rest of one."""


def find_fields(raw: bytes) -> Found:
    """Return the fields of the whole lines in an event that has lost its end, and other bytes."""
    lines = raw[: max(raw.rfind(b"\n"), raw.rfind(b"\r")) + 1]
    return find_events(lines + (lines[-1:] or b"\n"), 0)[0]
