"""Defects of resuming a run that is going on: replay, seam, live tail, several readers."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.defects.seams import Resumed
from reference_server.stream import FellBehind, Reader

if TYPE_CHECKING:
    from reference_server.log import Entry, EventLog, RunState
    from reference_server.parts import Parts


@defect("live-tail-only", "resume.no-gaps", "What a live run said meanwhile is left out.")
def live_tail_only(parts: Parts) -> Parts:
    class TailOnly(Resumed):
        def begin(self, state: RunState) -> None:
            if self.live:
                self.after = state.last

    return replace(parts, reader=TailOnly)


@defect(
    "seam-lost",
    "resume.no-gaps",
    "Where something was replayed, the first event that comes live is lost.",
)
def seam_lost(parts: Parts) -> Parts:
    class SeamLost(Resumed):
        replayed = False

        def begin(self, state: RunState) -> None:
            self.replayed = self.after < state.last

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            lost = self.seam + 1 if self.live and self.replayed else 0
            return coming and [entry for entry in coming if entry.seq != lost]

    return replace(parts, reader=SeamLost)


@defect(
    "seam-twice",
    "resume.no-duplicates",
    "The last replayed event comes again when the live tail begins.",
)
def seam_twice(parts: Parts) -> Parts:
    class SeamTwice(Resumed):
        last: Entry | None = None

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if not coming or not self.live:
                return coming
            again = [self.last] if self.last and coming[0].seq == self.seam + 1 else []
            self.last = coming[-1]
            return [*again, *coming]

    return replace(parts, reader=SeamTwice)


@defect(
    "first-live-twice",
    "resume.no-duplicates",
    "The first event that comes live behind a replay comes from both sides, twice.",
)
def first_live_twice(parts: Parts) -> Parts:
    class FirstLiveTwice(Resumed):
        replayed = False

        def begin(self, state: RunState) -> None:
            self.replayed = self.after < state.last

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if not coming or not (self.live and self.replayed):
                return coming
            return [entry for e in coming for entry in ([e, e] if e.seq == self.seam + 1 else [e])]

    return replace(parts, reader=FirstLiveTwice)


@defect("stops-after-replay", "resume.live-tail", "A resumed live run ends with its replay.")
def stops_after_replay(parts: Parts) -> Parts:
    class Stopping(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            if self.live and self.after >= self.seam:
                return None
            return await super().go_on(seconds)

    return replace(parts, reader=Stopping)


@defect(
    "live-tail-stays-open",
    "resume.live-tail",
    "A resumed live run's stream stays open behind the terminal.",
)
def live_tail_stays_open(parts: Parts) -> Parts:
    class StaysOpen(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if coming is None and self.live:
                await asyncio.sleep(WATCHED)
            return coming

    return replace(parts, reader=StaysOpen)


@defect(
    "live-tail-cut",
    "resume.live-tail",
    "A resumed live run's stream has no last chunk: it is cut off behind the terminal.",
)
def live_tail_cut(parts: Parts) -> Parts:
    class Unended(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if coming is None and self.live:
                raise FellBehind(self.run)
            return coming

    return replace(parts, reader=Unended)


@defect(
    "numbering-restarts",
    "ids.survive-reconnect",
    "A reconnect to a live run numbers from 1 again.",
)
def numbering_restarts(parts: Parts) -> Parts:
    class Restarting(Resumed):
        def begin(self, state: RunState) -> None:
            self.before = self.after if self.live else 0

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [replace(entry, seq=entry.seq - self.before) for entry in coming]

    return replace(parts, reader=Restarting)


@defect(
    "live-numbering-restarts",
    "ids.survive-reconnect",
    "What comes live behind a reconnect is numbered from 1 again; the replay is not.",
)
def live_numbering_restarts(parts: Parts) -> Parts:
    class Restarting(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if not coming or not self.live:
                return coming
            return [replace(e, seq=e.seq - self.seam) if e.seq > self.seam else e for e in coming]

    return replace(parts, reader=Restarting)


@defect("readers-share", "resume.two-readers", "Two readers of a live run each get a part of it.")
def readers_share(parts: Parts) -> Parts:
    class Sharing(Reader):
        everybody: ClassVar[WeakSet[Sharing]] = WeakSet()

        async def next(self, seconds: float | None) -> list[Entry] | None:
            if not (await self.log.state(self.run)).closed:
                self.everybody.add(self)
            coming = await super().next(seconds)
            if not coming or self not in self.everybody:
                return coming
            readers = sorted(id(reader) for reader in self.everybody if reader.run == self.run)
            mine = readers.index(id(self))
            return [
                entry
                for entry in coming
                if entry.type == "done" or entry.seq % len(readers) == mine
            ]

    return replace(parts, reader=Sharing)


@defect(
    "newest-reader-wins",
    "resume.two-readers",
    "A second reader of a live run ends the first one's stream.",
)
def newest_reader_wins(parts: Parts) -> Parts:
    readers: Counter[str] = Counter()

    class Jealous(Reader):
        def __init__(self, log: EventLog, run: str, after: int) -> None:
            super().__init__(log, run, after)
            readers[run] += 1
            self.number = readers[run]

        async def next(self, seconds: float | None) -> list[Entry] | None:
            live = not (await self.log.state(self.run)).closed
            if live and self.number != readers[self.run]:
                return None
            return await super().next(seconds)

    return replace(parts, reader=Jealous)
