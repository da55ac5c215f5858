"""A typed multi-agent stream: chunk, jobs_data, error, then always complete; ids on every event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reference_server.frames import Comment, Frame, Item, compact_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reference_server.cursor import Cursors
    from reference_server.log import Entry

AGENT = "reference"


class GenericTyped:
    name = "generic-typed"
    start_path = "/chat"
    resumable = True
    answerable = False

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    def frames(self, entry: Entry) -> Iterator[Frame]:
        kind, payload = self._said(entry)
        cursor = self._cursors.text(entry.run, entry.seq)
        yield Frame(compact_json(payload), event=kind, id=cursor)

    def heartbeat(self, run: str, last: int) -> Item | None:
        return Comment("hb")

    def _said(self, entry: Entry) -> tuple[str, Mapping[str, Any]]:
        """Structured events that it has no word for are job data that name their kind."""
        payload = entry.payload
        match entry.type:
            case "token":
                return "chunk", {"content": payload["text"], "agent": AGENT}
            case "error":
                return "error", {"content": payload["message"], "retry": payload["retryable"]}
            case "input_required":
                return "error", {"content": payload["prompt"], "retry": False}
            case "done":
                return "complete", {"conversation_id": entry.run}
            case kind:
                return "jobs_data", {"kind": kind, **payload}
