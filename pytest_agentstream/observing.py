"""A run as a case sees it: what was recorded, what the dialect makes of it, what was declared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.paths import agrees, find
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Cursor, Event, Outcome, Reading, Violation
    from pytest_agentstream.recording import Recording, Run
    from pytest_agentstream.target import Scenario
    from pytest_agentstream.wire import Block


@dataclass(frozen=True)
class Observation:
    """One run, read in its dialect, with what was declared of its scenario.

    `number` is the run's place in the session, from 1, as findings name it.
    """

    run: Run
    dialect: Dialect
    declared: Scenario
    number: int

    @cached_property
    def reading(self) -> Reading:
        return self.dialect.read(self.run)

    @property
    def scenario(self) -> str:
        return self.run.scenario

    @property
    def exchanges(self) -> tuple[Recording, ...]:
        return self.run.exchanges

    @property
    def first(self) -> Recording:
        return self.run.first

    @property
    def last(self) -> Recording:
        return self.run.last

    @property
    def lag(self) -> float:
        """The worst lag of our own event loop during the run, in seconds."""
        return max(exchange.lag for exchange in self.exchanges)

    @property
    def denied(self) -> float:
        """How much of a second of the run we waited for a processor at worst, in seconds."""
        return max(exchange.denied for exchange in self.exchanges)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for exchange in self.exchanges for block in exchange.blocks)

    @property
    def events(self) -> tuple[Event, ...]:
        return self.reading.events

    @cached_property
    def content(self) -> tuple[Event, ...]:
        """The events that carry the run: neither heartbeats nor terminals."""
        idle = {Role.HEARTBEAT, Role.TERMINAL}
        return tuple(event for event in self.events if event.role not in idle)

    @cached_property
    def identified(self) -> tuple[tuple[Event, Cursor], ...]:
        """The events that have a cursor, with it."""
        return tuple((event, event.cursor) for event in self.events if event.cursor is not None)

    @property
    def terminals(self) -> tuple[tuple[Event, Outcome], ...]:
        return self.reading.terminals

    @property
    def outcome(self) -> Outcome | None:
        return self.reading.outcome

    @property
    def errors(self) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.role is Role.ERROR)

    @property
    def text(self) -> str:
        """The texts that a user is shown, put together; events sent again count again."""
        return "".join(text for event in self.events if (text := self.text_of(event)) is not None)

    def text_of(self, event: Event) -> str | None:
        """The text that one event shows, where the dialect says which field that is."""
        rule = self.dialect.rule(event.type)
        declared = self.dialect.profile.events[rule] if rule is not None else None
        if declared is None or declared.text is None:
            return None
        found = find(event.payload, declared.text)
        return found if isinstance(found, str) else None

    def needs_text(self) -> None:
        """Raise `NotTested` where the dialect says of no event which text a user is shown."""
        profile = self.dialect.profile
        if all(event.text is None for event in profile.events.values()):
            path = "$" if profile.payload.kind == "text" else "path.of.the.text"
            raise NotTested(
                f"the dialect {profile.name} does not say where the text of its events is",
                f'declare it in the dialect: [events.…] text = "{path}"',
            )

    def planted_segments(self, wanted: str) -> list[tuple[str, str | None]]:
        """The parts of the planted text with any of the wanted characters: as sent, and as it came.

        Parts are told apart by marks such as `|1|`; None came where its marks did not. Raises
        `NotTested` where no such text was planted.
        """
        sent = self.declared.text
        if sent is None or not self.declared.verbatim:
            raise NotTested(
                f"`{self.scenario}` is not declared to answer with a planted text",
                f"declare it: {self.scenario} = "
                '{ json = { message = "{prompt}" }, verbatim = true }',
            )
        self.needs_text()
        came = _marked(self.text)
        parts = [(mark, part) for mark, part in _marked(sent).items() if set(part) & set(wanted)]
        if not parts:
            raise NotTested("the planted text has none of the characters that this is about")
        return [(part, came.get(mark)) for mark, part in parts]

    def place_of(self, part: str) -> Event | None:
        """The event in which a part of the planted text begins to differ from what was planted.

        Where its marks did not come: the event that cannot be read, or else the last one.
        """
        planted = _marked(self.declared.text or "")
        mark = next(mark for mark, said in planted.items() if said == part)
        start = 0 if mark == "start" else self.text.find(mark)
        if start < 0:
            unread = [event for event in self.content if event.problem is not None]
            return next(iter(unread or self.content[-1:]), None)
        start += 0 if mark == "start" else len(mark)
        alike = zip(self.text[start:], part, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], alike))
        at = 0
        for event in self.events:
            at += len(self.text_of(event) or "")
            if at > start + same:
                return event
        return self.content[-1] if self.content else None

    @cached_property
    def is_torn(self) -> bool:
        """Whether line ends that were planted in the text did not come back as sent.

        They may have broken blocks then; whatever else such a run shows is their doing.
        """
        try:
            return any(came != sent for sent, came in self.planted_segments("\n\r"))
        except NotTested:
            return False

    @property
    def is_incomplete(self) -> bool:
        """Whether the run says so, where its answer is not whole and its dialect has a place."""
        rules = self.dialect.profile.order.incomplete
        return any(
            self.dialect.matches_type(event.sentinel or event.type, rule.event)
            and agrees(event.payload, rule.where)
            for event in self.events
            for rule in rules
        )

    def violations(self, slug: str) -> tuple[Violation, ...]:
        return self.reading.of(slug)


_MARK = re.compile(r"\|\d+\|")


def _marked(text: str) -> dict[str, str]:
    """The parts of a text by the mark before each; the first part has the mark `start`."""
    marks = list(_MARK.finditer(text))
    if not marks:
        return {"start": text}
    parts = {"start": text[: marks[0].start()], marks[-1][0]: text[marks[-1].end() :]}
    parts.update({one[0]: text[one.end() : other.start()] for one, other in pairwise(marks)})
    return parts


def intact(runs: list[Observation]) -> list[Observation]:
    """The runs that no line end in a text has torn."""
    return [run for run in runs if not run.is_torn]


COUNTS: Mapping[str, Callable[[Observation], int]] = {
    "events": lambda run: len(run.events),
    "content": lambda run: len(run.content),
    "blocks": lambda run: len(run.blocks),
    "ids": lambda run: len(run.identified),
    "terminals": lambda run: len(run.terminals),
    "exchanges": lambda run: len(run.exchanges),
}
"""What a minimum sample may count, and how."""
