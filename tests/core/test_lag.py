"""Lag: how late our own event loop was, which no server is blamed for."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from pytest_agentstream.lag import INTERVAL, SCHEDSTAT, LagMeter, denied_so_far
from pytest_agentstream.verdicts import Failed, InDoubt, expect_at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELD = 0.15


def measured(hold: float) -> tuple[float, float]:
    """What the meter says of a loop that is held for so many seconds: meanwhile, and afterwards."""

    async def main() -> tuple[float, float]:
        meter = LagMeter()
        async with anyio.create_task_group() as group:
            group.start_soon(meter.sample)
            await anyio.sleep(INTERVAL)
            start = time.perf_counter()
            time.sleep(hold)  # noqa: ASYNC251 - the loop is to be held
            during = meter.since(start)
            await anyio.sleep(2 * INTERVAL)  # the meter itself comes to its next sample
            after = meter.since(start)
            group.cancel_scope.cancel()
        return during, after

    return anyio.run(main)


def test_a_loop_that_is_held_is_late() -> None:
    """The lag is known while it lasts, and is remembered afterwards."""
    during, after = measured(HELD)
    assert during >= HELD - 2 * INTERVAL
    assert after >= HELD - 2 * INTERVAL


def test_many_short_waits_add_up() -> None:
    """A crowded machine makes no timer late: what the loop was denied within a second counts."""
    waited = iter(n * 0.004 for n in range(1000))

    @contextmanager
    def crowded() -> Iterator[Callable[[], float]]:
        yield lambda: next(waited)

    async def main() -> float:
        meter = LagMeter(crowded)
        async with anyio.create_task_group() as group:
            start = time.perf_counter()
            group.start_soon(meter.sample)
            await anyio.sleep(15 * INTERVAL)
            found = meter.denied_since(start)
            group.cancel_scope.cancel()
        return found

    assert anyio.run(main) >= 0.02


def test_the_system_counts_what_a_thread_was_denied() -> None:
    """Where the system tells, the count never falls; elsewhere there is none."""
    with denied_so_far() as seconds:
        first = seconds()
        sum(range(100_000))
        assert 0.0 <= first <= seconds()
        assert SCHEDSTAT.exists() or seconds() == 0.0


def test_before_it_is_sampled_there_is_none() -> None:
    """A meter that never sampled knows of no lag."""
    assert LagMeter().since(0.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [(0.5, None), (1.0, None), (0.95, InDoubt), (1.05, InDoubt), (1.5, Failed)],
)
def test_lag_makes_a_time_doubtful(seconds: float, outcome: type[Exception] | None) -> None:
    """A time nearer to its limit than the lag is in doubt, on either side; at the limit is good."""
    try:
        expect_at_most(seconds, 1.0, lag=0.1, expected="soon", actual="later")
    except (Failed, InDoubt) as raised:
        assert type(raised) is outcome  # noqa: PT017 - which of the two is the question
    else:
        assert outcome is None
