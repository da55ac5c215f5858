"""Terminals: which events end a run, and what each of them says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.dialects.names import matches
from pytest_agentstream.dialects.paths import agrees
from pytest_agentstream.dialects.reading import Event, Outcome, Role

if TYPE_CHECKING:
    from pytest_agentstream.dialects.profile import Profile, Terminal


class Terminals:
    """Find the terminals of a run while its events go by; `found` are they, with their outcomes."""

    def __init__(self, profile: Profile) -> None:
        self._rules = profile.order.terminal
        self._awaited = tuple({rule.after for rule in self._rules if rule.after is not None})
        self._seen: set[str] = set()  # of the awaited globs
        self._failed = False
        self.found: list[tuple[Event, Outcome]] = []

    @property
    def outcome(self) -> Outcome | None:
        """What the first terminal says."""
        return self.found[0][1] if self.found else None

    def feed(self, event: Event) -> None:
        outcome = self._outcome(event)
        if outcome is not None:
            self.found.append((event, outcome))
        self._failed |= event.role is Role.ERROR
        self._seen.update(glob for glob in self._awaited if _is(event, glob))

    def _outcome(self, event: Event) -> Outcome | None:
        rules = [rule for rule in self._rules if _is(event, rule.event)]
        for rule in rules:
            if self._holds(rule, event):
                return Outcome(rule.outcome)
        if event.role is not Role.TERMINAL or not rules:
            return None
        # It ends the run, but says in no declared way how: its schema complains of that. What came
        # before decides, so that the same fault is not found once more as a run without an end.
        outcomes = [Outcome(rule.outcome) for rule in rules]
        failed = self._failed and Outcome.FAILURE in outcomes
        return Outcome.FAILURE if failed else outcomes[0]

    def _holds(self, rule: Terminal, event: Event) -> bool:
        if rule.after is not None and rule.after not in self._seen:
            return False
        return agrees(event.payload, rule.where)


def _is(event: Event, glob: str) -> bool:
    return matches(event.type, glob) or (event.sentinel is not None and event.sentinel == glob)
