"""Defects of what a cursor gets back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.defects.seams import with_payload
from reference_server.intake import Intake
from reference_server.problems import Problem
from reference_server.stream import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from reference_server.cursor import Cursor
    from reference_server.log import Entry, EventLog, RunState
    from reference_server.parts import Parts


class _Resumed(Reader):
    """A reader that is right from the start, and otherwise from a cursor."""

    def __init__(self, log: EventLog, run: str, after: int) -> None:
        super().__init__(log, run, after)
        self.resumed = after > 0
        self.first = True

    async def next(self, seconds: float | None) -> list[Entry] | None:
        if not self.resumed:
            return await super().next(seconds)
        if self.first:
            self.first = False
            await self.begin(await self.log.state(self.run))
        return await self.go_on(seconds)

    async def begin(self, state: RunState) -> None:
        """Move the place where a resumed stream begins."""

    async def go_on(self, seconds: float | None) -> list[Entry] | None:
        """Return what a resumed stream says next."""
        return await super().next(seconds)


@defect("one-too-many", "resume.exact-suffix", "The event of the cursor is sent again.")
def one_too_many(parts: Parts) -> Parts:
    class OneTooMany(_Resumed):
        async def begin(self, state: RunState) -> None:
            self.after -= 1

    return replace(parts, reader=OneTooMany)


@defect("one-too-few", "resume.exact-suffix", "The event behind the cursor is left out.")
def one_too_few(parts: Parts) -> Parts:
    class OneTooFew(_Resumed):
        async def begin(self, state: RunState) -> None:
            self.after = min(self.after + 1, state.last)

    return replace(parts, reader=OneTooFew)


@defect("replay-changes", "resume.same-events", "A replayed token is not the token first sent.")
def replay_changes(parts: Parts) -> Parts:
    class Changing(_Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                with_payload(entry, text=entry.payload["text"] + " ")
                if entry.type == "token"
                else entry
                for entry in coming
            ]

    return replace(parts, reader=Changing)


@defect("live-tail-only", "resume.no-gaps", "What a live run said meanwhile is left out.")
def live_tail_only(parts: Parts) -> Parts:
    class TailOnly(_Resumed):
        async def begin(self, state: RunState) -> None:
            if not state.closed:
                self.after = state.last

    return replace(parts, reader=TailOnly)


@defect(
    "seam-twice",
    "resume.no-duplicates",
    "The last replayed event comes again when the live tail begins.",
)
def seam_twice(parts: Parts) -> Parts:
    class SeamTwice(_Resumed):
        seam: Entry | None = None
        again = False

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            live = not (await self.log.state(self.run)).closed
            coming = await super().go_on(seconds)
            if coming and live and not self.again:
                if self.seam is not None:
                    self.again = True
                    return [self.seam, *coming]
                self.seam = coming[-1]
            return coming

    return replace(parts, reader=SeamTwice)


@defect("finished-run-hangs", "resume.finished-run", "A finished run's replay does not end.")
def finished_run_hangs(parts: Parts) -> Parts:
    class Hanging(_Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if coming is None and self.finished:
                await asyncio.sleep(WATCHED)
            return coming

        async def begin(self, state: RunState) -> None:
            self.finished = state.closed

    return replace(parts, reader=Hanging)


@defect(
    "terminal-not-replayed",
    "resume.after-last-event",
    "Behind the last event before the terminal there is nothing.",
)
def terminal_not_replayed(parts: Parts) -> Parts:
    class NoTerminal(_Resumed):
        async def begin(self, state: RunState) -> None:
            if state.closed and self.after == state.last - 1:
                self.after = state.last

    return replace(parts, reader=NoTerminal)


@defect("stops-after-replay", "resume.live-tail", "A resumed live run ends with its replay.")
def stops_after_replay(parts: Parts) -> Parts:
    class Stopping(_Resumed):
        async def begin(self, state: RunState) -> None:
            self.until = None if state.closed else state.last

        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            if self.until is not None and self.after >= self.until:
                return None
            return await super().go_on(seconds)

    return replace(parts, reader=Stopping)


@defect("crash-not-replayed", "resume.crash-terminal", "A replay leaves a crash's end out.")
def crash_not_replayed(parts: Parts) -> Parts:
    class NoCrash(_Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                entry
                for entry in coming
                if entry.type != "error" and entry.payload.get("status") != "error"
            ]

    return replace(parts, reader=NoCrash)


@defect("readers-share", "resume.two-readers", "Two readers of a live run each get a part of it.")
def readers_share(parts: Parts) -> Parts:
    class Sharing(Reader):
        everybody: ClassVar[WeakSet[Sharing]] = WeakSet()

        def __init__(self, log: EventLog, run: str, after: int) -> None:
            super().__init__(log, run, after)
            self.everybody.add(self)

        async def next(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().next(seconds)
            if coming is None:
                self.everybody.discard(self)
                return None
            readers = sorted(id(reader) for reader in self.everybody if reader.run == self.run)
            mine = readers.index(id(self))
            return [
                entry
                for entry in coming
                if entry.type == "done" or entry.seq % len(readers) == mine
            ]

    return replace(parts, reader=Sharing)


def _intake(parts: Parts, wrong: type[Intake]) -> Parts:
    return replace(parts, intake=wrong)


@defect("malformed-replays-all", "resume.unknown-cursor", "A malformed cursor replays all.")
def malformed_replays_all(parts: Parts) -> Parts:
    class Replaying(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            try:
                return super().cursor(request)
            except Problem:
                return None

    return _intake(parts, Replaying)


def _place_instead(parts: Parts, status: int, place: Callable[[int, int], int]) -> Parts:
    class Placing(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            try:
                return await super().place(run, after, user)
            except Problem as problem:
                if problem.status != status:
                    raise
                return place(after, (await self.known(run, user)).last)

    return _intake(parts, Placing)


@defect("expired-is-empty", "resume.expired-cursor", "An expired run is an empty stream.")
def expired_is_empty(parts: Parts) -> Parts:
    return _place_instead(parts, 410, lambda after, last: last)


@defect("future-is-empty", "resume.future-cursor", "A cursor ahead of the run is an empty stream.")
def future_is_empty(parts: Parts) -> Parts:
    return _place_instead(parts, 409, lambda after, last: after)


@defect("query-wins", "resume.header-and-query", "The query's cursor wins over the header's.")
def query_wins(parts: Parts) -> Parts:
    class QueryWins(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            cursor = super().cursor(request)
            query = request.query_params.get("last_event_id")
            return self.cursors.parse(query) if query and cursor else cursor

    return _intake(parts, QueryWins)
