"""A data-only stream: content, interrupt, heartbeat, error as JSON, then always `[DONE]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_server.frames import Frame, Item, compact_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_server.cursor import Cursors
    from reference_server.log import Entry


class GenericData:
    name = "generic-data"
    start_path = "/chat"
    resumable = False
    answerable = False

    def __init__(self, cursors: Cursors) -> None:
        pass

    def frames(self, entry: Entry) -> Iterator[Frame]:
        match entry.type:
            case "token":
                yield Frame(compact_json({"content": entry.payload["text"]}))
            case "input_required":
                yield Frame(compact_json({"interrupt": True}))
            case "error":
                yield Frame(compact_json({"error": entry.payload["message"]}))
            case "done":
                yield Frame("[DONE]")

    def heartbeat(self, run: str, last: int) -> Item | None:
        return Frame(compact_json({"heartbeat": True}))
