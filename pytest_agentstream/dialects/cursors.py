"""Cursors: where a dialect writes them, how they are read and how they are ordered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_agentstream.dialects.paths import find
from pytest_agentstream.dialects.reading import Cursor

if TYPE_CHECKING:
    from pytest_agentstream.dialects import profile
    from pytest_agentstream.wire import Block

LONGEST = 1024  # characters; a header would not carry more, and patterns may take their time
LONGEST_NUMBER = 300  # digits; a longer one is no number that any server counts to


class Cursors:
    """The cursors of one dialect."""

    def __init__(self, declared: profile.Cursor) -> None:
        self.declared = declared
        self.ordered = declared.source != "none" and declared.order == "integer"
        self._pattern = re.compile(declared.pattern) if declared.pattern else None
        self.names_run = self._pattern is not None and "run" in self._pattern.groupindex

    def parse(self, text: str) -> Cursor | None:
        """Return the cursor that a text is, or None where it is none of this dialect's."""
        if len(text) > LONGEST:
            return None
        if self._pattern is None:
            return self._numbered(text, None, text) if self.ordered else Cursor(text)
        match = self._pattern.fullmatch(text)
        if match is None:
            return None
        groups = match.groupdict()
        if not self.ordered:
            return Cursor(text, groups.get("run"))
        return self._numbered(text, groups.get("run"), groups.get("seq") or "")

    def _numbered(self, text: str, run: str | None, digits: str) -> Cursor | None:
        if not (digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_NUMBER):
            return None
        return Cursor(text, run, int(digits))

    def of(self, block: Block, payload: Any) -> Cursor | None:
        """Return the cursor that an event was sent with; a malformed one has no run and number."""
        text = block.id if self.declared.source == "sse-id" else self._in_payload(payload)
        if not text:
            return None
        return self.parse(text) or Cursor(text)

    def _in_payload(self, payload: Any) -> str | None:
        if self.declared.source != "json-path" or self.declared.json_path is None:
            return None
        value = find(payload, self.declared.json_path)
        if isinstance(value, bool) or not isinstance(value, str | int):
            return None
        return str(value)

    def is_after(self, later: Cursor, earlier: Cursor) -> bool:
        """Tell whether one cursor stands behind another; never for opaque ones or other runs'."""
        if later.number is None or earlier.number is None or later.run != earlier.run:
            return False
        return later.number > earlier.number
