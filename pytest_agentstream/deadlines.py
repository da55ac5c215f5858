"""The waits of one exchange: which are running, which ends first, and what it is called then.

Sans-IO: whoever waits asks `next()` and tells what happened. Times are seconds since the request
was begun.

1. `connect` runs from the beginning until the connection stands, `head` from there until the head.
2. With the head `first event` and `silence` begin. An answer that is no event stream has its first
   event with its first byte.
3. `silence` begins anew with every byte, `end` never.
4. A watch runs beside these, and stops the exchange instead of failing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.recording import EndKind, Phase

if TYPE_CHECKING:
    from pytest_agentstream.recording import Head
    from pytest_agentstream.target import Timeouts


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a wait is over, in seconds, and which end of the exchange that is."""

    at: float
    kind: EndKind
    detail: str
    phase: Phase | None = None


class Deadlines:
    """The waits of one exchange."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._running = {Phase.CONNECT: timeouts.connect, Phase.END: timeouts.end}
        self._watch: Deadline | None = None
        self._streaming = False

    def connected(self, now: float) -> None:
        del self._running[Phase.CONNECT]
        self._running[Phase.HEAD] = now + self._timeouts.head

    def answered(self, head: Head) -> None:
        media = (head.value("content-type") or "").partition(";")[0].strip().lower()
        self._streaming = media == "text/event-stream"
        del self._running[Phase.HEAD]
        self._running[Phase.FIRST_EVENT] = head.at + self._timeouts.first_event
        self._running[Phase.SILENCE] = head.at + self._timeouts.silence

    def received(self, now: float) -> None:
        self._running[Phase.SILENCE] = now + self._timeouts.silence
        if not self._streaming:
            self.dispatched()

    def dispatched(self) -> None:
        self._running.pop(Phase.FIRST_EVENT, None)

    def watch(self, until: float, why: str) -> None:
        """Stop the exchange at `until`; of several watches the first to end counts."""
        if self._watch is None or until < self._watch.at:
            self._watch = Deadline(until, EndKind.STOPPED, why)

    def next(self) -> Deadline:
        """Return the wait that is over first."""
        phase = min(self._running, key=lambda phase: self._running[phase])
        at = self._running[phase]
        if self._watch is not None and self._watch.at <= at:
            return self._watch
        return Deadline(at, EndKind.TIMEOUT, self._words(phase), phase)

    def _words(self, phase: Phase) -> str:
        match phase:
            case Phase.CONNECT:
                return f"no connection within {self._timeouts.connect:g} s"
            case Phase.HEAD:
                return f"no response head within {self._timeouts.head:g} s"
            case Phase.FIRST_EVENT:
                return f"no event within {self._timeouts.first_event:g} s of the head"
            case Phase.SILENCE:
                return f"not a byte for {self._timeouts.silence:g} s"
            case Phase.END:
                return f"not over within {self._timeouts.end:g} s"
