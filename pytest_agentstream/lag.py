"""How late our own event loop is: what any time in a recording can be wrong by."""

from __future__ import annotations

import time
from collections import deque

import anyio

from pytest_agentstream.tolerances import LAG_NOTICED

INTERVAL = 0.02
KEPT = 20_000


class LagMeter:
    """Sample the delay of a loop's own timers; times are `time.perf_counter` seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._due = 0.0

    async def sample(self) -> None:
        """Sample until cancelled."""
        while True:
            self._due = time.perf_counter() + INTERVAL
            await anyio.sleep(INTERVAL)
            now = time.perf_counter()
            if now - self._due > LAG_NOTICED:
                self._seen.append((now, now - self._due))

    def since(self, start: float) -> float:
        """The worst lag between `start` and now, a delay that is still going on included."""
        late = max(0.0, time.perf_counter() - self._due) if self._due else 0.0
        worst = late if late > LAG_NOTICED else 0.0
        for at, lag in reversed(self._seen):
            if at < start:
                break
            worst = max(worst, lag)
        return worst
