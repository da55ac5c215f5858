"""The native protocol (docs/protocol.md): type in `event:`, JSON in `data:`, `id: <run>/<seq>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_server.frames import Comment, Frame, Item, compact_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_server.cursor import Cursors
    from reference_server.log import Entry


class Native:
    name = "native"
    start_path = "/v1/runs"
    resumable = True
    answerable = True

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def frames(self, entry: Entry) -> Iterator[Frame]:
        cursor = self._cursors.text(entry.run, entry.seq)
        yield Frame(compact_json(entry.payload), event=entry.type, id=cursor)

    def heartbeat(self, run: str, last: int) -> Item | None:
        return Comment("hb")
