"""What the double records: its calls, as they began, went on and ended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

DialectName: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic"]

REMEMBERED = 10_000
"""Calls that are kept; the oldest are forgotten."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of the double; it changes until `ended` is set. Times are `time.monotonic()`.

    `tag` and `script` are of the script that the request carries, whether it was `played` or the
    call got a minimal answer. `sent` counts the bytes of the response with its head, `cancelled` is
    when the peer went before the answer was complete.
    """

    path: str
    dialect: DialectName
    streaming: bool
    began: float
    tag: str | None = None
    script: str | None = None
    played: bool = False
    status: int | None = None
    sent: int = 0
    ended: float | None = None
    cancelled: float | None = None


class Calls:
    """The calls so far, at most REMEMBERED of them, and a way to wait for one."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._calls: deque[Call] = deque(maxlen=remembered)
        self._changed = asyncio.Event()

    @property
    def all(self) -> Sequence[Call]:
        """Every call that is remembered, in the order in which they began."""
        return tuple(self._calls)

    def begin(self, call: Call) -> None:
        """Remember a call."""
        self._calls.append(call)
        self._tell()

    def end(self, call: Call, cancelled: float | None) -> None:
        """Note that a call is over, and when its peer went if that ended it."""
        call.cancelled = cancelled
        call.ended = time.monotonic()
        self._tell()

    async def wait_for(self, tag: str, *, ended: bool = False, seconds: float) -> Call:
        """See `LlmDouble.wait_for`."""
        found: list[Call] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found = [call for call in self._calls if call.played and call.tag == tag]
                    if found and not (ended and any(call.ended is None for call in found)):
                        return found[-1]
                    await self._changed.wait()
        except TimeoutError:
            what = "ended" if found else "came"
            raise TimeoutError(f"no call tagged {tag!r} {what} within {seconds:g} s") from None

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
