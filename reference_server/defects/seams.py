"""Short ways to put a wrapper where a seam is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from reference_server.agent import Assignment
    from reference_server.encoders import Encoder
    from reference_server.frames import Frame, Item
    from reference_server.log import Entry
    from reference_server.parts import Parts
    from reference_server.protocol import Event


class Around:
    """An encoder around another, the same until something is overridden."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.name = inner.name
        self.start_path = inner.start_path
        self.resumable = inner.resumable
        self.answerable = inner.answerable

    def frames(self, entry: Entry) -> Iterator[Frame]:
        return self.inner.frames(entry)

    def heartbeat(self, run: str, last: int) -> Item | None:
        return self.inner.heartbeat(run, last)


def around(parts: Parts, wrapper: Callable[[Encoder], Encoder]) -> Parts:
    """Put a wrapper around the encoder."""
    inner = parts.encoder
    return replace(parts, encoder=lambda cursors: wrapper(inner(cursors)))


def entries(parts: Parts, change: Callable[[Entry], Iterable[Entry]]) -> Parts:
    """Change stored events on their way out, in replays as well."""

    class Changed(Around):
        def frames(self, entry: Entry) -> Iterator[Frame]:
            for changed in change(entry):
                yield from self.inner.frames(changed)

    return around(parts, Changed)


def frames(parts: Parts, change: Callable[[Entry, Frame], Iterable[Frame]]) -> Parts:
    """Change frames before they are written."""

    class Changed(Around):
        def frames(self, entry: Entry) -> Iterator[Frame]:
            for frame in self.inner.frames(entry):
                yield from change(entry, frame)

    return around(parts, Changed)


Says: TypeAlias = "Callable[[AsyncIterator[Event]], AsyncIterator[Event]]"


def agent(parts: Parts, change: Says, *scenarios: str) -> Parts:
    """Change what the agent says in these scenarios, or in all."""
    inner = parts.agent

    def changed(task: Assignment) -> AsyncIterator[Event]:
        events = inner(task)
        return change(events) if not scenarios or task.scenario.name in scenarios else events

    return replace(parts, agent=changed)


def with_payload(entry: Entry, **fields: object) -> Entry:
    """Return the entry with these payload fields set."""
    return replace(entry, payload={**entry.payload, **fields})
