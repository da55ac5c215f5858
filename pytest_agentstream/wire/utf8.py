"""Where bytes are not UTF-8, sequence by sequence as a browser replaces them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Unicode, table 3-7: well-formed sequences. An ill-formed one is the longest start of a row, or
# a single byte ("maximal subpart"), which is what the WHATWG decoder replaces with one U+FFFD.
_WELL_FORMED = rb"""
    [\x00-\x7F]
  | [\xC2-\xDF] [\x80-\xBF]
  | \xE0 [\xA0-\xBF] [\x80-\xBF]
  | [\xE1-\xEC\xEE\xEF] [\x80-\xBF]{2}
  | \xED [\x80-\x9F] [\x80-\xBF]
  | \xF0 [\x90-\xBF] [\x80-\xBF]{2}
  | [\xF1-\xF3] [\x80-\xBF]{3}
  | \xF4 [\x80-\x8F] [\x80-\xBF]{2}
"""
_CUT_SHORT = rb"""
    \xE0 [\xA0-\xBF]?+
  | [\xE1-\xEC\xEE\xEF] [\x80-\xBF]?+
  | \xED [\x80-\x9F]?+
  | \xF0 (?: [\x90-\xBF] [\x80-\xBF]?+ )?+
  | [\xF1-\xF3] [\x80-\xBF]{0,2}+
  | \xF4 (?: [\x80-\x8F] [\x80-\xBF]?+ )?+
  | [\x80-\xFF]
"""
_SEQUENCES = re.compile(rb"(?: %s )++ | ( %s )" % (_WELL_FORMED, _CUT_SHORT), re.VERBOSE)


def ill_formed(raw: bytes, start: int, *, cut: bool) -> Iterator[int]:
    """Yield `start` plus the index of each ill-formed sequence in `raw`.

    With `cut`, more bytes followed that are not known, so that a sequence which the end of `raw`
    cuts short is not taken for ill-formed.
    """
    for match in _SEQUENCES.finditer(raw):
        if match[1] is not None and not (cut and match.end() == len(raw) and match[1] >= b"\xc2"):
            yield start + match.start()
