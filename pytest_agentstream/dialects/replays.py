"""Replays: which events of a run are new to a client that had to reconnect."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentstream.dialects.cursors import Cursors
    from pytest_agentstream.dialects.reading import Cursor, Event
    from pytest_agentstream.recording import Recording


class Place(Enum):
    """Where in its run an event stands."""

    NEW = auto()
    GAP = auto()  # new, and something before it may never have been seen
    AGAIN = auto()  # seen already
    FOREIGN = auto()  # of another run


class Seen:
    """What a run has shown so far, so that a replay is not taken for new events.

    In the first exchange nothing counts as a replay: an id that is sent twice there is the server's
    fault, and the requirements on ids say so.
    """

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors
        self._exchange: Recording | None = None
        self._first = True
        self._texts: set[str] = set()
        self._last: Cursor | None = None

    def place(self, event: Event) -> Place:
        """Tell where an event stands; asked once for each, in order of arrival."""
        joined = self._exchange is not None and event.exchange is not self._exchange
        self._first = self._first and not joined
        self._exchange = event.exchange
        cursor = event.cursor
        if cursor is None:
            return Place.NEW if self._first or event.ephemeral else Place.GAP
        if not self._first and (place := self._known(cursor)) is not None:
            return place
        gap = self._leaves_gap(cursor, joined)
        self._texts.add(cursor.text)
        if self._last is None or self._cursors.is_after(cursor, self._last):
            self._last = cursor
        return Place.GAP if gap else Place.NEW

    def _known(self, cursor: Cursor) -> Place | None:
        last = self._last
        if last is not None and last.run is not None and cursor.run not in (None, last.run):
            return Place.FOREIGN
        if cursor.number is not None and last is not None and last.number is not None:
            return None if self._cursors.is_after(cursor, last) else Place.AGAIN
        return Place.AGAIN if cursor.text in self._texts else None

    def _leaves_gap(self, cursor: Cursor, joined: bool) -> bool:
        last = self._last
        if not self._cursors.declared.contiguous or last is None or last.number is None:
            return joined
        return cursor.number is None or cursor.number > last.number + 1
