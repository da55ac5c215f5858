"""Defects that only a stream which was cut brings out."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import Resumed, log, with_payload
from reference_server.log import MemoryLog
from reference_server.stream import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from reference_server.log import Entry, EventLog, RunState
    from reference_server.parts import Parts

MANY = 5
"""Cuts or resumes of a run after which it drifts."""


def _when_cut(parts: Parts, tell: Callable[[Reader], object]) -> Parts:
    """Tell of each reader that left before the end."""

    class Telling(Writer):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            try:
                await super().write(reader, send)
            except asyncio.CancelledError:
                tell(reader)
                raise

    return replace(parts, writer=Telling)


def _cuts(parts: Parts) -> tuple[Parts, dict[str, int]]:
    """Note for each run whose reader left up to which event that one was written to."""
    cut: dict[str, int] = {}
    return _when_cut(parts, lambda reader: cut.update({reader.run: reader.after})), cut


@defect(
    "written-is-delivered",
    "resume.mid-event-cut",
    "The last event written before a cut counts as delivered: a client that misses it never "
    "gets it.",
)
def written_is_delivered(parts: Parts) -> Parts:
    parts, cut = _cuts(parts)

    class Delivered(Resumed):
        def begin(self, state: RunState) -> None:
            missed = cut.pop(self.run, 0) == self.after + 1
            if missed and not (state.closed and self.after + 1 == state.last):
                self.after += 1

    return replace(parts, reader=Delivered)


@defect(
    "cut-event-comes-in-half",
    "resume.mid-event-cut",
    "The last event written before a cut comes again without the first half of its text.",
)
def cut_event_comes_in_half(parts: Parts) -> Parts:
    parts, cut = _cuts(parts)

    class Halved(Resumed):
        half = 0

        def begin(self, state: RunState) -> None:
            if cut.pop(self.run, 0) == self.after + 1:
                self.half = self.after + 1

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                with_payload(entry, text=entry.payload["text"][len(entry.payload["text"]) // 2 :])
                if entry.seq == self.half and "text" in entry.payload
                else entry
                for entry in coming
            ]

    return replace(parts, reader=Halved)


@defect(
    "cut-start-starts-again",
    "resume.before-first-id",
    "The idempotency key of a run whose reader was cut off starts a second one.",
)
def cut_start_starts_again(parts: Parts) -> Parts:
    parts, cut = _cuts(parts)

    class Forgetful(MemoryLog):
        async def create(self, run: str, owner: str, key: str | None) -> str:
            holder = await super().create(run, owner, key)
            if cut.pop(holder, None) is None:
                return holder
            return await super().create(run, owner, None)

    return log(parts, Forgetful)


@defect(
    "cut-start-goes-on",
    "resume.before-first-id",
    "A reader without a cursor gets only what was not yet written when one before it was cut off.",
)
def cut_start_goes_on(parts: Parts) -> Parts:
    parts, cut = _cuts(parts)

    class GoingOn(Reader):
        def __init__(self, log: EventLog, run: str, after: int) -> None:
            super().__init__(log, run, after or cut.pop(run, 0))

    return replace(parts, reader=GoingOn)


@defect(
    "drifts",
    "resume.many-cuts",
    "Once six readers of a run were cut off, a resume sends the event of the cursor again.",
)
def drifts(parts: Parts) -> Parts:
    cuts: Counter[str] = Counter()
    parts = _when_cut(parts, lambda reader: cuts.update([reader.run]))

    class Drifting(Resumed):
        def begin(self, state: RunState) -> None:
            self.after -= cuts[self.run] > MANY

    return replace(parts, reader=Drifting)


@defect(
    "drifts-while-live",
    "resume.many-cuts",
    "From the sixth resume of a live run on, the event of the cursor is sent again.",
)
def drifts_while_live(parts: Parts) -> Parts:
    resumes: Counter[str] = Counter()

    class Drifting(Resumed):
        def begin(self, state: RunState) -> None:
            resumes[self.run] += self.live
            self.after -= self.live and resumes[self.run] > MANY

    return replace(parts, reader=Drifting)
