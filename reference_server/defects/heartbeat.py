"""Defects of what is sent in a silence."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import Around, FailureSeen, around
from reference_server.frames import Comment, Frame, Item, compact_json
from reference_server.middleware import body
from reference_server.protocol import Progress
from reference_server.stream import Pacing, Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from reference_server.log import Entry
    from reference_server.parts import Parts

WATCHED = 30.0
"""Seconds after which even a stream that is wrongly kept open ends."""


def _paced(parts: Parts, pause: Callable[[float, int, Entry | None], float | None]) -> Parts:
    class Paced(Pacing):
        def pause(self, beats: int, last: Entry | None) -> float | None:
            return pause(self.heartbeat, beats, last)

    return replace(parts, pacing=Paced)


@defect("no-heartbeat", "heartbeat.present", "Nothing is sent in a silence.")
def no_heartbeat(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: None)


@defect("heartbeats-held", "heartbeat.present", "Heartbeats wait for the next event.")
def heartbeats_held(parts: Parts) -> Parts:
    def make() -> Callable[[bytes, bool], Iterable[bytes]]:
        waiting = b""

        def change(piece: bytes, last: bool) -> Iterator[bytes]:
            nonlocal waiting
            if piece.startswith(b":"):
                waiting += piece
                return
            yield waiting + piece
            waiting = b""

        return change

    return parts.behind(body(make))


@defect("one-heartbeat-only", "heartbeat.keeps-pace", "A silence gets one heartbeat and no more.")
def one_heartbeat_only(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: h / 2 if beats == 0 else None)


@defect("slow-heartbeat", "heartbeat.keeps-pace", "A heartbeat comes only every 2.2 H.")
def slow_heartbeat(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: 2.2 * h)


@defect(
    "heartbeat-just-too-slow",
    "heartbeat.survives-idle-cut",
    "A heartbeat comes only every 1.65 H: within the tolerance, and too late for an idle cut.",
)
def heartbeat_just_too_slow(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: 1.65 * h)


@defect(
    "heartbeat-slows-down",
    "heartbeat.survives-idle-cut",
    "A silence's first heartbeat is on time; the further ones come only every 1.65 H.",
)
def heartbeat_slows_down(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: h / 2 if beats == 0 else 1.65 * h)


@defect(
    "no-heartbeat-before-first-event",
    "heartbeat.starts-early",
    "The first heartbeat waits for the first event.",
)
def no_heartbeat_before_first_event(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: None if last is None else h / 2)


@defect(
    "first-heartbeat-late",
    "heartbeat.starts-early",
    "Before the first event a heartbeat comes only every 3 H.",
)
def first_heartbeat_late(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: 3 * h if last is None else h / 2)


@defect(
    "no-heartbeat-in-tools", "heartbeat.while-tool-runs", "There is no heartbeat while a tool runs."
)
def no_heartbeat_in_tools(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: None if last and last.type == "tool_use" else h / 2)


@defect(
    "one-heartbeat-in-tools",
    "heartbeat.while-tool-runs",
    "A tool that runs gets one heartbeat and no more.",
)
def one_heartbeat_in_tools(parts: Parts) -> Parts:
    def pause(h: float, beats: int, last: Entry | None) -> float | None:
        return None if beats and last and last.type == "tool_use" else h / 2

    return _paced(parts, pause)


@defect("heartbeat-as-token", "heartbeat.invisible", "The heartbeat is an empty token.")
def heartbeat_as_token(parts: Parts) -> Parts:
    class AsToken(Around):
        def heartbeat(self, run: str, last: int) -> Item | None:
            return Frame('{"text":""}', event="token")

    return around(parts, AsToken)


@defect("heartbeat-as-progress", "heartbeat.invisible", "The heartbeat is a step's progress.")
def heartbeat_as_progress(parts: Parts) -> Parts:
    class AsProgress(Around):
        def heartbeat(self, run: str, last: int) -> Item | None:
            said = Progress(step="alive", percentage=100, message="still here")
            return Frame(compact_json(said.payload()), event=said.type)

    return around(parts, AsProgress)


@defect(
    "heartbeat-moves-cursor",
    "heartbeat.no-cursor",
    "Each heartbeat has the id of the event that is still to come.",
)
def heartbeat_moves_cursor(parts: Parts) -> Parts:
    class Moving(Around):
        def heartbeat(self, run: str, last: int) -> Item | None:
            return Comment(f"hb\nid: {parts.cursors.text(run, last + 1)}\n")

    return around(parts, Moving)


@defect(
    "heartbeat-has-own-cursor",
    "heartbeat.no-cursor",
    "The heartbeat is a block with an id made of the time, far ahead of every event.",
)
def heartbeat_has_own_cursor(parts: Parts) -> Parts:
    class Timed(Around):
        def heartbeat(self, run: str, last: int) -> Item | None:
            now = parts.cursors.text(run, time.time_ns() // 1_000_000)
            return Comment(f"hb\nid: {now}\n")

    return around(parts, Timed)


@defect("heartbeat-flood", "heartbeat.not-a-flood", "There are 25 heartbeats per H.")
def heartbeat_flood(parts: Parts) -> Parts:
    return _paced(parts, lambda h, beats, last: h / 25)


async def _beat_on(writer: Writer, send: Callable[[bytes], Awaitable[None]]) -> None:
    pause = writer.pacing.heartbeat / 2
    for _ in range(int(WATCHED / pause)):
        await asyncio.sleep(pause)
        await send(writer.framing.write(Comment("hb")))


@defect(
    "heartbeat-after-done",
    "heartbeat.stops",
    "The stream stays open behind the terminal, with heartbeats.",
)
def heartbeat_after_done(parts: Parts) -> Parts:
    class GoesOn(Writer):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            await super().write(reader, send)
            await _beat_on(self, send)

    return replace(parts, writer=GoesOn)


@defect(
    "heartbeat-after-error",
    "heartbeat.stops",
    "The stream of a run that reports a failure stays open behind its terminal, with heartbeats.",
)
def heartbeat_after_error(parts: Parts) -> Parts:
    class GoesOn(FailureSeen):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            await super().write(reader, send)
            if self.failed:
                await _beat_on(self, send)

    return replace(parts, writer=GoesOn)
