"""Typed events: what a dialect makes of the blocks of one exchange, each for itself."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_agentstream.dialects.names import matches
from pytest_agentstream.dialects.paths import find
from pytest_agentstream.dialects.payload import Parsed, parse
from pytest_agentstream.dialects.reading import Event, Role, Violation
from pytest_agentstream.wording import capped, listed, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream import wire
    from pytest_agentstream.dialects.cursors import Cursors
    from pytest_agentstream.dialects.profile import Profile, Selector
    from pytest_agentstream.dialects.schemas import Schema
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block

STRICT, SURROGATES = "schema.json-strict", "schema.no-lone-surrogates"
KNOWN, AGREES = "schema.known-type", "schema.type-agreement"
EMPTY = "the data is empty"

SHORT = 512
"""Characters up to which what an event line and data mean is remembered for a while: replays say
the same again."""


class _Meaning(NamedTuple):
    """What the event line and the data of an event mean, wherever it stands; `rule` declares it."""

    said: str | None
    rule: str | None
    parsed: Parsed
    violations: tuple[Violation, ...]


class Reader:
    """Read single events in one dialect; nothing in here knows what came before."""

    def __init__(self, profile: Profile, schemas: Mapping[str, Schema], cursors: Cursors) -> None:
        self._profile = profile
        self._schemas = schemas
        self._cursors = cursors
        self._declared: dict[str, str | None] = {}
        self._by_key = any(selector.key_present for selector in profile.type_from)
        self._remembered = lru_cache(maxsize=1024)(self._meaning)

    def event(self, exchange: Recording, block: Block, sent: wire.Event) -> Event:
        """Return the event that a dispatched block is; never raises for what a server sends."""
        profile = self._profile
        if sent.data in profile.payload.sentinels:
            return self._sentinel(exchange, block, sent)
        name = _event_line(block, sent)
        is_short = len(name or "") + len(sent.data) <= SHORT
        mean = self._remembered if is_short else self._meaning
        said, rule, parsed, violations = mean(name, sent.data)
        declared = profile.events[rule] if rule is not None else None
        return Event(
            exchange=exchange,
            block=block,
            at=block.at,
            type=None if said is None else capped(said),
            role=Role(declared.role) if declared else Role.CONTENT,
            payload=parsed.value,
            problem=parsed.problem,
            cursor=self._cursors.of(block, parsed.value),
            known=declared is not None,
            ephemeral=declared is not None and declared.ephemeral,
            violations=violations,
        )

    def _meaning(self, name: str | None, data: str) -> _Meaning:
        profile = self._profile
        empty = not data and profile.payload.kind != "text"
        parsed = Parsed(problem=EMPTY) if empty else parse(data, profile.payload)
        said = self._type(name, parsed.value)
        rule = self.rule(said)
        found = [] if empty else list(self._payload_violations(parsed))
        if not (empty and profile.framing.empty_data != "forbidden"):
            found.extend(self._type_violations(name, said, parsed))
        if rule is not None and parsed.problem is None:
            found.extend(self._schemas[rule].violations(parsed.value))
        return _Meaning(said, rule, parsed, tuple(found))

    def rule(self, name: str | None) -> str | None:
        """Return the key in `events` that declares a type: its name, or the first glob for it."""
        if name is None:
            return None
        if name not in self._declared:
            events = self._profile.events
            globs = (glob for glob in events if matches(name, glob))
            rule = name if name in events else next(globs, None)
            # a server may make up types without end, and long ones
            if len(self._declared) > 1000 or len(name) > SHORT:
                return rule
            self._declared[name] = rule
        return self._declared[name]

    def _sentinel(self, exchange: Recording, block: Block, sent: wire.Event) -> Event:
        named = any(selector.sse_event for selector in self._profile.type_from)
        said = _event_line(block, sent) if named else None
        rules = self._profile.order.terminal
        ends = any(matches(sent.data, rule.event) or matches(said, rule.event) for rule in rules)
        return Event(
            exchange=exchange,
            block=block,
            at=block.at,
            type=None if said is None else capped(said),
            role=Role.TERMINAL if ends else Role.CONTENT,
            sentinel=sent.data,
            cursor=self._cursors.of(block, None),
        )

    def _type(self, name: str | None, payload: Any) -> str | None:
        for selector in self._profile.type_from:
            if (said := _said(selector, name, payload)) is not None:
                return said
        return None

    def _payload_violations(self, parsed: Parsed) -> list[Violation]:
        found = []
        if parsed.problem is not None:
            kind = self._profile.payload.kind
            wanted = "a JSON-RPC message" if kind == "jsonrpc" else "JSON as RFC 8259 defines it"
            found.append(Violation(STRICT, wanted, parsed.problem))
        if parsed.lone_surrogate:
            found.append(
                Violation(SURROGATES, "escaped surrogates in pairs only", shown(parsed.value))
            )
        return found

    def _type_violations(
        self, name: str | None, said: str | None, parsed: Parsed
    ) -> list[Violation]:
        profile = self._profile
        line = profile.framing.event_line
        if said is None:
            if parsed.problem is not None or (self._by_key and self._tolerates(None)):
                return []
            where = listed(_where(selector) for selector in profile.type_from)
            return [Violation(KNOWN, f"a type, said by {where}", shown(parsed.value))]
        if line == "equals-type" and name != said:
            actual = "no event line" if name is None else f"event: {capped(name)}"
            return [Violation(AGREES, f"event: {capped(said)}, as in the data", actual)]
        if line == "required" and name is None:
            return [Violation(KNOWN, f"an event line, `event: {capped(said)}`", "none")]
        if line == "forbidden" and name not in (None, "message"):
            return [
                Violation(
                    KNOWN, "no event line: the type is in the data", f"event: {capped(name or '')}"
                )
            ]
        if self.rule(said) is None and not self._tolerates(said):
            known = listed([*profile.events, *self._allowed])
            return [Violation(KNOWN, capped(f"a type of {known}"), capped(said))]
        return []

    @property
    def _allowed(self) -> tuple[str, ...]:
        unknown = self._profile.unknown
        return () if isinstance(unknown, str) else unknown

    def _tolerates(self, said: str | None) -> bool:
        if isinstance(self._profile.unknown, str):
            return self._profile.unknown == "ignore"
        return any(matches(said, glob) for glob in self._allowed)


def _event_line(block: Block, sent: wire.Event) -> str | None:
    # "message" is also what the specification calls an event without a name
    if sent.type != "message":
        return sent.type
    named = any(line.name == "event" and line.value == "message" for line in block.lines)
    return "message" if named else None


def _said(selector: Selector, name: str | None, payload: Any) -> str | None:
    if selector.sse_event:
        return name
    if selector.json_path is not None:
        found = find(payload, selector.json_path)
        return found if isinstance(found, str) else None
    if selector.key_present:
        keys = payload if isinstance(payload, dict) else {}
        # null and false are how servers write that something is not there, and "" beside another
        present = [key for key in selector.key_present if keys.get(key) not in (None, False)]
        return next((key for key in present if keys[key] != ""), present[-1] if present else None)
    return selector.constant


def _where(selector: Selector) -> str:
    if selector.sse_event:
        return "an event line"
    if selector.json_path is not None:
        return f"`{selector.json_path}`"
    return f"one of the keys {listed(selector.key_present)}"
