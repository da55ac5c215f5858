"""Watching: when a client that is reading a stream has seen enough of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.terminals import Terminals
from pytest_agentstream.recording import Chunk, End, EndKind, Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.profile import Profile
    from pytest_agentstream.recorder import Recorder
    from pytest_agentstream.wire import Block


@dataclass(frozen=True, slots=True)
class Watch:
    """Go on reading for at most this many `seconds`, then stop; `why` becomes the end's detail."""

    seconds: float
    why: str


def after_events(count: int) -> Callable[[Block], Watch | None]:
    """Stop at the event with this number, counted from 1."""
    seen = 0

    def on_block(block: Block) -> Watch | None:
        nonlocal seen
        seen += block.event is not None
        return Watch(0, f"{seen} events were seen") if seen >= count else None

    return on_block


def when(
    holds: Callable[[Block], bool], why: str, seconds: float = 0
) -> Callable[[Block], Watch | None]:
    """Stop at the first block for which `holds` is true, or `seconds` behind it."""
    return lambda block: Watch(seconds, why) if holds(block) else None


class TerminalWatch:
    """Notice a run's terminal as its bytes come in.

    Blocks that can't be a terminal, nor what a rule for one looks back at, are told by their bytes,
    so that reading them does not delay the event loop.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._terminals = Terminals(dialect.profile)
        self._needles = _needles(dialect.profile)

    @property
    def seen(self) -> bool:
        """Whether the run has a terminal so far."""
        return bool(self._terminals.found)

    def is_terminal(self, block: Block, recorder: Recorder) -> bool:
        """Take the next block of the run; return whether it is a terminal."""
        if block.event is None or recorder.request is None or not self._may_be(block.raw):
            return False
        chunk, end = Chunk(block.at, block.raw), End(EndKind.STOPPED, block.at)
        before = len(self._terminals.found)
        for event in self._dialect.events(Recording(recorder.request, None, (chunk,), end)):
            self._terminals.feed(event)
        return len(self._terminals.found) > before

    def _may_be(self, raw: bytes) -> bool:
        return self._needles is None or any(needle in raw for needle in self._needles)


_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


def _needles(profile: Profile) -> tuple[bytes, ...] | None:
    """Bytes of which a block that matters has at least one, or None where nothing is known of them.

    A type stands in the bytes as it is named where it is said there, in characters that JSON has no
    reason to escape.
    """
    said = all(selector.constant is None for selector in profile.type_from)
    names = {rule.event for rule in profile.order.terminal}
    names |= {rule.after for rule in profile.order.terminal if rule.after is not None}
    for name in names:
        plain = _PLAIN.fullmatch(name) is not None and said
        if not (plain or name in profile.payload.sentinels):
            return None
    return tuple(name.encode() for name in names)
