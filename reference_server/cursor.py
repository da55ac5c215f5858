"""Read and write cursors: `id: <run>/<seq>` (docs/protocol.md, "Cursor")."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

RUN = r"[A-Za-z0-9_-]{22,64}"
_RUN = re.compile(RUN, re.ASCII)
_CURSOR = re.compile(rf"({RUN})/(0|[1-9][0-9]{{0,15}})", re.ASCII)


class MalformedCursor(ValueError):
    """The text is no cursor."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after event `seq` of a run; seq 0 is the start."""

    run: str
    seq: int


class Cursors:
    """How cursors are written: one seam, so that a server can be given another way."""

    def text(self, run: str, seq: int) -> str:
        """Return what stands in `id:`."""
        return f"{run}/{seq}"

    def parse(self, text: str) -> Cursor:
        """Return the cursor; raise MalformedCursor for anything else."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise MalformedCursor
        return Cursor(match[1], int(match[2]))


def new_run_id() -> str:
    """Return a run id that cannot be guessed: 192 random bits, 32 characters."""
    return secrets.token_urlsafe(24)


def is_run_id(text: str) -> bool:
    """Tell whether the text could name a run."""
    return _RUN.fullmatch(text) is not None
