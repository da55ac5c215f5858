"""How late our own event loop is: what any time in a recording can be wrong by.

Two figures tell it. A timer that fires late: something held the loop. And the processor time that
the loop's thread was denied: on a crowded machine many short waits make no timer late, and delay
all the same whatever takes many steps, here as in the server beside us.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.tolerances import LAG_NOTICED, LAG_SPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

INTERVAL = 0.02
KEPT = 20_000
NANOSECONDS = 1e-9
SCHEDSTAT = Path("/proc/thread-self/schedstat")


@contextmanager
def denied_so_far() -> Iterator[Callable[[], float]]:
    """Yield what tells how many seconds this thread has waited for a processor.

    Linux counts them; elsewhere there are none.
    """
    try:
        counts = SCHEDSTAT.open("rb", buffering=0)
    except OSError:
        yield lambda: 0.0
        return

    def seconds() -> float:
        counts.seek(0)
        return int(counts.read().split()[1]) * NANOSECONDS

    with counts:
        yield seconds


class LagMeter:
    """Sample how late a loop is; times are `time.perf_counter` seconds.

    `denied` opens, in the loop's thread, what tells how long that waited for a processor so far.
    """

    def __init__(
        self, denied: Callable[[], AbstractContextManager[Callable[[], float]]] = denied_so_far
    ) -> None:
        self._seen: deque[tuple[float, float, float]] = deque(maxlen=KEPT)  # when, late, denied
        self._due = 0.0
        self._denied = denied

    async def sample(self) -> None:
        """Sample until cancelled."""
        with self._denied() as denied_until_now:
            before = denied_until_now()
            while True:
                self._due = time.perf_counter() + INTERVAL
                await anyio.sleep(INTERVAL)
                now, denied = time.perf_counter(), denied_until_now()
                late = max(0.0, now - self._due)
                if late > LAG_NOTICED or denied - before > LAG_NOTICED:
                    self._seen.append((now, late, denied - before))
                    before = denied  # what is less than noticed adds up until it is

    def since(self, start: float) -> float:
        """By how much the latest timer was late between `start` and now, one still due included."""
        worst = max(0.0, time.perf_counter() - self._due) if self._due else 0.0
        for at, late, _ in reversed(self._seen):
            if at < start:
                break
            worst = max(worst, late)
        return worst if worst > LAG_NOTICED else 0.0

    def denied_since(self, start: float) -> float:
        """The most that was denied within `LAG_SPAN`, between `start` and now."""
        span: deque[tuple[float, float]] = deque()
        within = worst = 0.0
        for at, _, denied in reversed(self._seen):
            if at < start:
                break
            span.append((at, denied))
            within += denied
            while span[0][0] - at > LAG_SPAN:
                within -= span.popleft()[1]
            worst = max(worst, within)
        return worst
