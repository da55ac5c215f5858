"""Defects of the cursors that events carry."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.cursor import Cursor, Cursors, is_run_id
from reference_server.defects.defect import defect
from reference_server.defects.seams import frames
from reference_server.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from reference_server.frames import Frame
    from reference_server.log import Entry
    from reference_server.parts import Parts

REPEAT = 3
TOP = 1_000_000


@defect("id-missing", "ids.present", "Every third event has no id.")
def id_missing(parts: Parts) -> Parts:
    def change(entry: Entry, frame: Frame) -> Iterator[Frame]:
        yield replace(frame, id=None) if entry.seq % 3 == 0 else frame

    return frames(parts, change)


@defect("terminal-without-id", "ids.present", "The terminal has no id.")
def terminal_without_id(parts: Parts) -> Parts:
    def change(entry: Entry, frame: Frame) -> Iterator[Frame]:
        yield replace(frame, id=None) if entry.type == "done" else frame

    return frames(parts, change)


class _Numbered(Cursors):
    """Cursors whose numbers are shown otherwise than they are."""

    def shown(self, seq: int) -> int:
        raise NotImplementedError

    def meant(self, seq: int) -> int:
        raise NotImplementedError

    def text(self, run: str, seq: int) -> str:
        return super().text(run, self.shown(seq))

    def parse(self, text: str) -> Cursor:
        cursor = super().parse(text)
        return replace(cursor, seq=self.meant(cursor.seq))


@defect("id-repeated", "ids.unique", "Two events of a run have the same id.")
def id_repeated(parts: Parts) -> Parts:
    class Repeated(_Numbered):
        def shown(self, seq: int) -> int:
            return REPEAT if seq == REPEAT + 1 else seq

        def meant(self, seq: int) -> int:
            return seq

    return replace(parts, cursors=Repeated())


@defect("id-comes-back", "ids.unique", "An event has the id of one that came long before it.")
def id_comes_back(parts: Parts) -> Parts:
    class Back(_Numbered):
        def shown(self, seq: int) -> int:
            return 2 if seq == 8 else seq

        def meant(self, seq: int) -> int:
            return seq

    return replace(parts, cursors=Back())


@defect("ids-swapped", "ids.strictly-increasing", "The ids of two events are exchanged.")
def ids_swapped(parts: Parts) -> Parts:
    class Swapped(_Numbered):
        def shown(self, seq: int) -> int:
            return {4: 5, 5: 4}.get(seq, seq)

        meant = shown

    return replace(parts, cursors=Swapped())


@defect("ids-fall", "ids.strictly-increasing", "Ids count down.")
def ids_fall(parts: Parts) -> Parts:
    class Falling(_Numbered):
        def shown(self, seq: int) -> int:
            return TOP - seq if seq else 0

        meant = shown

    return replace(parts, cursors=Falling())


@defect("id-skipped", "ids.contiguous", "There is no event 4; the third is followed by the fifth.")
def id_skipped(parts: Parts) -> Parts:
    class Skipping(_Numbered):
        def shown(self, seq: int) -> int:
            return seq if seq < 4 else seq + 1

        def meant(self, seq: int) -> int:
            return seq if seq < 4 else seq - 1

    return replace(parts, cursors=Skipping())


@defect("ids-in-tens", "ids.contiguous", "Ids go up by ten: 1, 11, 21.")
def ids_in_tens(parts: Parts) -> Parts:
    class Tens(_Numbered):
        def shown(self, seq: int) -> int:
            return 10 * seq - 9 if seq else 0

        def meant(self, seq: int) -> int:
            return (seq + 9) // 10

    return replace(parts, cursors=Tens())


@defect("id-too-long", "ids.header-safe", "Ids are longer than 256 bytes.")
def id_too_long(parts: Parts) -> Parts:
    class Long(Cursors):
        tail = "/" + "0" * 300

        def text(self, run: str, seq: int) -> str:
            return super().text(run, seq) + self.tail

        def parse(self, text: str) -> Cursor:
            return super().parse(text.removesuffix(self.tail))

    return replace(parts, cursors=Long())


@defect("id-with-control-character", "ids.header-safe", "Ids have the character U+0001.")
def id_with_control_character(parts: Parts) -> Parts:
    class Controlled(Cursors):
        def text(self, run: str, seq: int) -> str:
            return super().text(run, seq).replace("/", "/\x01")

        def parse(self, text: str) -> Cursor:
            return super().parse(text.replace("\x01", ""))

    return replace(parts, cursors=Controlled())


@defect("foreign-cursor-accepted", "ids.run-scoped", "A cursor of another run is obeyed.")
def foreign_cursor_accepted(parts: Parts) -> Parts:
    class Credulous(Intake):
        def same_run(self, cursor: Cursor | None, run: str) -> None:
            return

    return replace(parts, intake=Credulous)


@defect(
    "foreign-cursor-leads-away",
    "ids.run-scoped",
    "A header's cursor of another run gets that run's events.",
)
def foreign_cursor_leads_away(parts: Parts) -> Parts:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            cursor = dict(scope.get("headers", ())).get(b"last-event-id", b"").decode("latin-1")
            run, slash, _ = cursor.partition("/")
            if slash and is_run_id(run) and scope["path"].endswith("/events"):
                scope = {**scope, "path": f"/v1/runs/{run}/events"}
            await app(scope, receive, send)

        return wrapped

    return parts.behind(middleware)
