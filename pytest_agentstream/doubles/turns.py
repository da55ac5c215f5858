"""Which turn of which script a call is: read off the messages, so that nothing is remembered.

An assistant's turn with tool calls goes on to the script's next turn; one without ends the script.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_agentstream.doubles.finding import scripts_in
from pytest_agentstream.doubles.script import Script, ScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind: TypeAlias = Literal["asked", "assistant", "tool"]

LONGEST_CARRIED = 1500  # characters of a script that an id carries
OVER = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, or a part of one: who it is from, its texts, and whether it calls a tool."""

    kind: Kind
    texts: tuple[str, ...] = ()
    calls: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A script, and the index of the turn that comes next; OVER is none."""

    script: Script
    turn: int = 0
    seen_calls: bool = False

    @property
    def playing(self) -> bool:
        """Whether the script isn't over."""
        return 0 <= self.turn < len(self.script.turns)

    def after(self, calls: bool) -> Place:
        """The place behind an assistant's turn."""
        if not calls or not self.playing:
            return replace(self, turn=OVER)
        return replace(self, turn=self.turn + 1, seen_calls=True)


def place(entries: Sequence[Entry], before: Place | None = None) -> Place | ScriptError | None:
    """Say where the conversation stands: the last script in it, or what is wrong with it.

    `before` is where it stood before these entries. A script that is cut short counts only where no
    other one stands.
    """
    here = before
    bad: ScriptError | None = None
    for kind, group in groupby(entries, key=lambda entry: entry.kind):
        members = list(group)
        if kind == "assistant":
            if here:
                here = here.after(any(entry.calls for entry in members))
            continue
        if kind == "tool" and here and here.playing and not here.seen_calls:
            here = replace(here, turn=here.turn + 1)  # of an agent that keeps the results only
        for found in (one for entry in members for text in entry.texts for one in scripts_in(text)):
            if isinstance(found, ScriptError):
                bad = found if not found.cut_short or here is None else bad
            else:
                same = here is not None and here.playing and here.script == found
                here = here if same else Place(found)
                bad = None
    return bad or here


def carry(place: Place) -> str:
    """Write a place as a part of an id; an empty string where the script is too long."""
    source = place.script.source
    if len(source) > LONGEST_CARRIED:
        return ""
    told = f"{place.turn};{int(place.seen_calls)};{source}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(zlib.compress(told)).decode().rstrip("=")


def carried(token: str) -> Place | None:
    """Read a place from what `carry` wrote; None from anything else."""
    try:
        packed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        told = zlib.decompressobj().decompress(packed, 8 * LONGEST_CARRIED)
        turn, seen, source = told.decode("utf-8", "surrogatepass").split(";", 2)
        found = next(scripts_in(source), None)
        return Place(found, int(turn), seen == "1") if isinstance(found, Script) else None
    except (ValueError, binascii.Error, zlib.error):
        return None
