"""agent-event-stream 0.1.0: the same events, without ids, heartbeats, resume and retry classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_server.frames import Frame, Item, compact_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_server.cursor import Cursors
    from reference_server.log import Entry

OURS = {"done": {"status"}, "error": {"retryable", "retry_after_ms"}}
"""Fields that its protocol does not have."""


class AgentEventStream:
    name = "agent-event-stream"
    start_path = "/chat"
    resumable = False
    answerable = False

    def __init__(self, cursors: Cursors) -> None:
        pass

    def frames(self, entry: Entry) -> Iterator[Frame]:
        if entry.type == "input_required":  # it has no word for it, so the run says why it ends
            asked = {"error_type": entry.type, "message": entry.payload["prompt"]}
            yield Frame(compact_json(asked), event="error")
            return
        ours = OURS.get(entry.type, set())
        payload = {key: value for key, value in entry.payload.items() if key not in ours}
        yield Frame(compact_json(payload), event=entry.type)

    def heartbeat(self, run: str, last: int) -> Item | None:
        return None
