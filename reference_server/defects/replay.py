"""Defects of what a cursor gets back of what was stored."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.defects.seams import Resumed, with_payload
from reference_server.intake import Intake
from reference_server.problems import Problem
from reference_server.stream import FellBehind

if TYPE_CHECKING:
    from reference_server.log import Entry, RunState
    from reference_server.parts import Parts

PAGE = 4
"""Events on a page, to whoever reads a log by pages and mistakes their borders."""
SLOW = 1000
"""Events from which on a replay blocks the loop, and each costs this many seconds."""
COST = 0.0001


@defect("one-too-many", "resume.exact-suffix", "The event of the cursor is sent again.")
def one_too_many(parts: Parts) -> Parts:
    class OneTooMany(Resumed):
        def begin(self, state: RunState) -> None:
            self.after -= 1

    return replace(parts, reader=OneTooMany)


@defect("one-too-few", "resume.exact-suffix", "The event behind the cursor is left out.")
def one_too_few(parts: Parts) -> Parts:
    class OneTooFew(Resumed):
        def begin(self, state: RunState) -> None:
            self.after = min(self.after + 1, state.last)

    return replace(parts, reader=OneTooFew)


@defect(
    "page-border-twice",
    "resume.exact-suffix",
    "In a finished run, every fourth cursor gets its own event again.",
)
def page_border_twice(parts: Parts) -> Parts:
    class BorderTwice(Resumed):
        def begin(self, state: RunState) -> None:
            self.after -= state.closed and self.after % PAGE == 0

    return replace(parts, reader=BorderTwice)


@defect(
    "page-border-lost",
    "resume.exact-suffix",
    "In a finished run, every fourth cursor misses the event behind it.",
)
def page_border_lost(parts: Parts) -> Parts:
    class BorderLost(Resumed):
        def begin(self, state: RunState) -> None:
            inside = self.after < state.last - 1
            self.after += state.closed and inside and self.after % PAGE == 0

    return replace(parts, reader=BorderLost)


@defect("replay-changes", "resume.same-events", "A replayed token is not the token first sent.")
def replay_changes(parts: Parts) -> Parts:
    class Changing(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                with_payload(entry, text=entry.payload["text"] + " ")
                if entry.type == "token"
                else entry
                for entry in coming
            ]

    return replace(parts, reader=Changing)


@defect("replay-is-one-text", "resume.same-events", "A replay says `thinking` as a token.")
def replay_is_one_text(parts: Parts) -> Parts:
    class Flat(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                replace(entry, type="token") if entry.type == "thinking" else entry
                for entry in coming
            ]

    return replace(parts, reader=Flat)


@defect("finished-run-hangs", "resume.finished-run", "A finished run's replay does not end.")
def finished_run_hangs(parts: Parts) -> Parts:
    class Hanging(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if coming is None and not self.live:
                await asyncio.sleep(WATCHED)
            return coming

    return replace(parts, reader=Hanging)


@defect("finished-run-gone", "resume.finished-run", "A run cannot be resumed once it is over: 404.")
def finished_run_gone(parts: Parts) -> Parts:
    class Forgetful(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            if (await self.known(run, user)).closed and after:
                raise Problem(404, "There is no such run.")
            return await super().place(run, after, user)

    return replace(parts, intake=Forgetful)


@defect(
    "terminal-not-replayed",
    "resume.after-last-event",
    "Behind the last event before the terminal there is nothing.",
)
def terminal_not_replayed(parts: Parts) -> Parts:
    class NoTerminal(Resumed):
        def begin(self, state: RunState) -> None:
            if state.closed and self.after == state.last - 1:
                self.after = state.last

    return replace(parts, reader=NoTerminal)


@defect(
    "terminal-behind-204",
    "resume.after-last-event",
    "Behind the last event before the terminal the answer is 204: nothing more will come.",
)
def terminal_behind_204(parts: Parts) -> Parts:
    class TooEarly(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            place = await super().place(run, after, user)
            state = await self.known(run, user)
            return None if state.closed and after == state.last - 1 else place

    return replace(parts, intake=TooEarly)


@defect(
    "replay-cut",
    "resume.finished-run",
    "The replay of a finished run has no last chunk: the connection is closed behind its terminal.",
)
def replay_cut(parts: Parts) -> Parts:
    class Unended(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            if coming is None and not self.live:
                raise FellBehind(self.run)
            return coming

    return replace(parts, reader=Unended)


@defect("crash-not-replayed", "resume.crash-terminal", "A replay leaves a crash's end out.")
def crash_not_replayed(parts: Parts) -> Parts:
    class NoCrash(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                entry
                for entry in coming
                if entry.type != "error" and entry.payload.get("status") != "error"
            ]

    return replace(parts, reader=NoCrash)


@defect(
    "crash-replayed-as-success",
    "resume.crash-terminal",
    "The replay of a crashed run ends in `done` with status completed, without its error.",
)
def crash_replayed_as_success(parts: Parts) -> Parts:
    class Whitewashed(Resumed):
        async def go_on(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().go_on(seconds)
            return coming and [
                with_payload(entry, status="completed", num_turns=1)
                if entry.payload.get("status") == "error" and entry.type == "done"
                else entry
                for entry in coming
                if entry.type != "error"
            ]

    return replace(parts, reader=Whitewashed)


@defect(
    "replay-blocks-loop",
    "resume.slow-replay",
    "A replay of more than 1,000 events blocks the event loop, 0.1 s for each 1,000.",
)
def replay_blocks_loop(parts: Parts) -> Parts:
    class Blocking(Resumed):
        def begin(self, state: RunState) -> None:
            behind = state.last - self.after
            if behind > SLOW:
                time.sleep(behind * COST)

    return replace(parts, reader=Blocking)
