"""A dialect ready for use: bytes that were recorded in, typed events and a reading out."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from pytest_agentstream.dialects import applicability, names
from pytest_agentstream.dialects.cursors import Cursors
from pytest_agentstream.dialects.events import Reader
from pytest_agentstream.dialects.machine import Machine, TableMachine
from pytest_agentstream.dialects.reading import Cursor, Event, Reading, Violation
from pytest_agentstream.dialects.replays import Place, Seen
from pytest_agentstream.dialects.terminals import Terminals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.dialects.profile import Profile
    from pytest_agentstream.dialects.schemas import Schema
    from pytest_agentstream.recording import Recording, Run
    from pytest_agentstream.requirements import Level, Tier


class Dialect:
    """A profile with its schemas compiled; made by `load`.

    `label` names it in reports: a built-in one by its name, a user's own also by its hash.
    """

    def __init__(self, profile: Profile, label: str, schemas: Mapping[str, Schema]) -> None:
        self.profile = profile
        self.label = label
        self._cursors = Cursors(profile.cursor)
        self._reader = Reader(profile, schemas, self._cursors)
        self._restarts = profile.resume.kind in ("replay", "snapshot")

    def declaring(self, disconnect: Literal["cancels", "continues"] | None) -> Dialect:
        """Return the same dialect where a server declares what a disconnect means to it."""
        if disconnect is None:
            return self
        other = copy(self)
        resume = self.profile.resume.model_copy(update={"disconnect": disconnect})
        other.profile = self.profile.model_copy(update={"resume": resume})
        return other

    def __repr__(self) -> str:
        return f"<Dialect {self.label}>"

    @property
    def name(self) -> str:
        return self.profile.name

    def events(self, recording: Recording) -> tuple[Event, ...]:
        """Return the events of one exchange, in order, each judged for itself."""
        return tuple(
            self._reader.event(recording, block, block.event)
            for block in recording.blocks
            if block.event is not None
        )

    def read(self, run: Run) -> Reading:
        """Return what a run means; read once per run, however many cases ask.

        Events that a reconnect repeated are among the events, but neither in the order nor among
        the terminals a second time.
        """
        known: dict[Dialect, Reading] = vars(run).setdefault("_readings", {})
        if self not in known:
            known[self] = self._read(run)
        return known[self]

    def _read(self, run: Run) -> Reading:
        events = tuple(event for exchange in run.exchanges for event in self.events(exchange))
        seen, machine, terminals = Seen(self._cursors), self.machine(), Terminals(self.profile)
        found: list[Violation] = []
        exchange = run.exchanges[0] if run.exchanges else None
        if exchange is not None and self._joins_late(exchange):
            machine.gap()
        for event in events:
            found.extend(replace(violation, event=event) for violation in event.violations)
            if self._restarts and event.exchange is not exchange:
                machine, terminals = self.machine(), Terminals(self.profile)
                exchange = event.exchange
                seen = Seen(self._cursors)
            place = seen.place(event)
            if place in (Place.AGAIN, Place.FOREIGN):
                continue
            over = bool(terminals.found)
            terminals.feed(event)
            if over:
                continue
            if place is Place.GAP:
                machine.gap()
            found.extend(machine.feed(event))
            if terminals.found:
                found.extend(machine.end(terminals.outcome))
        if not terminals.found:
            found.extend(machine.end(None))
        return Reading(events, tuple(terminals.found), tuple(found))

    def machine(self) -> Machine:
        """Return a new machine that judges the order of one run."""
        return TableMachine(self.profile)

    def _joins_late(self, exchange: Recording) -> bool:
        request, query = exchange.request, self.profile.resume.query
        sent = any(name.lower() == "last-event-id" and value for name, value in request.headers)
        return sent or (query is not None and query in parse_qs(urlsplit(request.url).query))

    def rule(self, name: str | None) -> str | None:
        """Return the key in `events` that declares a type: its name, or the first glob for it."""
        return self._reader.rule(name)

    def parse_cursor(self, text: str) -> Cursor | None:
        """Return the cursor that a text is, or None where it is none of this dialect's."""
        return self._cursors.parse(text)

    def is_after(self, later: Cursor, earlier: Cursor) -> bool:
        """Tell whether one cursor stands behind another; never for opaque ones or other runs'."""
        return self._cursors.is_after(later, earlier)

    @staticmethod
    def matches_type(name: str | None, glob: str) -> bool:
        """Tell whether an event type is what a glob of the profile stands for."""
        return names.matches(name, glob)

    def level_of(self, slug: str, default: Level) -> Level:
        """Return how binding a requirement is in this dialect."""
        return applicability.level_of(self.profile, slug, default)

    def not_applicable(self, slug: str) -> str | None:
        """Return why a requirement does not apply in this dialect, or None where it does."""
        return applicability.not_applicable(self.profile, slug)

    def why(self, slug: str) -> str | None:
        """Return the reason that the dialect gives for treating a requirement in its own way."""
        override = applicability.override_of(self.profile, slug)
        return None if override is None else override.why

    def mechanism(self, tier: Tier | str) -> bool:
        """Tell whether the dialect has what a tier needs to be reached: resume, above all."""
        return applicability.mechanism(self.profile, tier)
