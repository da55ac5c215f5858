"""Say what an encoder is: a dialect's way to write stored events, its start path, its heartbeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_server.frames import Frame, Item
    from reference_server.log import Entry


class Encoder(Protocol):
    """Turn entries into frames; an entry that the dialect cannot say becomes none."""

    name: str
    start_path: str
    """Where POST starts a run."""
    resumable: bool
    """Whether frames carry cursors; without them a run ends when its reader goes."""
    answerable: bool
    """Whether a person can answer a run; otherwise it ends where it would wait."""

    def frames(self, entry: Entry) -> Iterator[Frame]:
        """Yield what the entry becomes on the wire."""

    def heartbeat(self, run: str, last: int) -> Item | None:
        """Return what is sent in a silence behind event `last`, or None: the dialect has none."""
