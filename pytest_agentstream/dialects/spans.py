"""Spans: what opens, goes on and closes within a run, one kind of them at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.names import matches
from pytest_agentstream.dialects.paths import agrees, find
from pytest_agentstream.dialects.reading import Outcome, Violation
from pytest_agentstream.wording import capped

if TYPE_CHECKING:
    from pytest_agentstream.dialects.profile import Span
    from pytest_agentstream.dialects.reading import Event

OPEN_TWICE = "order.no-double-open"
NOT_OPEN = "order.spans-open-before-use"
NOT_CLOSED = "order.spans-closed"
LEFT_BY_CRASH = "terminal.spans-after-crash"
NO_CALL = "order.tool-results-match"


class Spans:
    """The spans of one kind: which are open, and which have been.

    A result that comes before its call is out of order; one whose call never comes names none: only
    the end of the run tells which. Where an opening could not be read, or may not have been seen,
    `_blind` is set, and nothing is said any more of spans that seem to have no beginning.
    """

    def __init__(self, declared: Span) -> None:
        self._of = declared
        self._open: dict[str, Event] = {}
        self._closed: set[str] = set()
        self._early: dict[str, Event] = {}  # results without a call so far
        self._answered: set[str] = set()  # calls whose result came before them
        self._blind = False
        self._unread = False  # a closing that names no span

    def feed(self, event: Event) -> list[Violation]:
        of = self._of
        if matches(event.type, of.open):
            return self._opens(event)
        closes = any(matches(event.type, glob) for glob in of.close)
        if not closes and not any(matches(event.type, glob) for glob in of.continues):
            return []
        key = self._key(event)
        if key is None:
            self._unread |= closes
            return []
        if closes and self._open.pop(key, None) is not None:
            self._closed.add(key)
            return []
        if key in self._open or self._blind:
            return []
        if closes and of.is_tool and key not in self._closed:
            self._early.setdefault(key, event)
            return []
        state = "is closed" if key in self._closed else "was never opened"
        return [self._says(NOT_OPEN, "is open", event, key, state)]

    def _opens(self, event: Event) -> list[Violation]:
        if event.problem is not None:
            self._blind = True
            return []
        if not agrees(event.payload, self._of.open_where):
            return []
        key = self._key(event)
        if key is None:
            self._blind = True
            return []
        if key in self._open:
            return [self._says(OPEN_TWICE, "is not open yet", event, key, "is open")]
        self._open[key] = event
        if self._of.once and key in self._closed:
            return [self._says(OPEN_TWICE, "is opened once", event, key, "was closed before")]
        if (early := self._early.pop(key, None)) is None:
            return []
        self._answered.add(key)
        return [self._says(NOT_OPEN, "is open", early, key, "was opened only later")]

    def gap(self) -> None:
        self._blind = True
        self._open.clear()

    def end(self, how: Outcome | None) -> list[Violation]:
        found = [
            self._says(NO_CALL, "names a call of this run", event, key, "names none")
            for key, event in self._early.items()
        ]
        if how is None or self._unread or str(how) not in self._of.must_close:
            return found
        slug = LEFT_BY_CRASH if how is Outcome.FAILURE else NOT_CLOSED
        return found + [
            Violation(slug, f"{self._name(key)} closed before the {how}", "it is open", opened)
            for key, opened in self._open.items()
            if key not in self._answered
        ]

    def _key(self, event: Event) -> str | None:
        # None: unreadable, which the schema's requirements report
        if self._of.key is None:
            return ""
        value = find(event.payload, self._of.key)
        if isinstance(value, str):
            return value
        if isinstance(value, int | float):
            return json.dumps(value)
        return None

    def _name(self, key: str) -> str:
        return capped(f"{self._of.name} {key!r}" if key else f"the {self._of.name}")

    def _says(self, slug: str, wanted: str, event: Event, key: str, actual: str) -> Violation:
        name = self._name(key)
        return Violation(slug, f"{name} {wanted} at `{event.type}`", f"{name} {actual}", event)
