"""Short ways to put a wrapper where a seam is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from reference_server.stream import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from reference_server.agent import Assignment
    from reference_server.encoders import Encoder
    from reference_server.frames import Frame, Item
    from reference_server.log import Entry, EventLog, MemoryLog, RunState
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


def log(parts: Parts, kind: type[MemoryLog]) -> Parts:
    """Keep the runs in a memory log of another kind."""
    return replace(
        parts,
        log=lambda settings: kind(retention=settings.retention, max_runs=settings.max_runs),
    )


class Resumed(Reader):
    """A reader that is right from the start, and otherwise from a cursor."""

    def __init__(self, log: EventLog, run: str, after: int) -> None:
        super().__init__(log, run, after)
        self.resumed = after > 0
        self.first = True
        self.live = False
        """Whether the run was going on when it was resumed."""
        self.seam = 0
        """The last event that was stored then: what is behind it came live."""

    async def next(self, seconds: float | None) -> list[Entry] | None:
        if not self.resumed:
            return await super().next(seconds)
        if self.first:
            self.first = False
            state = await self.log.state(self.run)
            self.live, self.seam = not state.closed, state.last
            self.begin(state)
        return await self.go_on(seconds)

    def begin(self, state: RunState) -> None:
        """Move the place where a resumed stream begins."""

    async def go_on(self, seconds: float | None) -> list[Entry] | None:
        """Return what a resumed stream says next."""
        return await super().next(seconds)


class FailureSeen(Writer):
    """A writer that knows whether its stream has said that the run failed (scenario `fail`)."""

    failed = False

    def block(self, entry: Entry) -> bytes:
        self.failed |= entry.payload.get("error_type") == "upstream_unavailable"
        return super().block(entry)
