"""A second look is a look at things of one time: nothing new is judged beside something old."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.probing import Probe, probe
from pytest_agentstream.scheduling import Scheduler
from pytest_agentstream.verdicts import Finding, ServerDied, ServerGone

if TYPE_CHECKING:
    from collections.abc import Iterator

numbers = count(1)


@probe(runs=0)
async def a_number() -> int:
    """Another one each time."""
    return next(numbers)


@probe(runs=0)
async def its_double(a_number: int) -> int:
    """What is built on it."""
    return 2 * a_number


@probe(runs=0)
async def something_else() -> int:
    """What stands beside it."""
    return next(numbers)


class NoResources:
    """Probes that need nothing but one another."""

    async def supply(self, name: str, probe: Probe) -> object:
        """There is none."""
        raise LookupError(name)

    def permit(self, probe: Probe) -> None:
        """All may run."""

    async def restore(self, *, alone: bool = False) -> bool:
        """There is no server."""
        return True

    async def background(self) -> None:
        """There is nothing beside."""

    def timeout(self, probe: Probe) -> float:
        """Seconds that are never reached."""
        return 5.0


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(NoResources())
    scheduler.start([its_double, something_else])
    yield scheduler
    scheduler.close()


def test_first_results_stay(scheduler: Scheduler) -> None:
    """A probe that ran once more replaces nothing: what was built on its first result fits it."""
    first = scheduler.result(a_number)

    [again] = scheduler.again([a_number])

    assert again.result(a_number) != first
    assert scheduler.result(a_number) == first
    assert scheduler.result(its_double) == 2 * first


def test_what_it_needs_is_of_the_same_time(scheduler: Scheduler) -> None:
    """What a probe needs runs again with it."""
    first = scheduler.result(its_double)

    [again] = scheduler.again([its_double])

    assert again.result(its_double) == 2 * again.result(a_number) != first


def test_an_earlier_second_look_comes_first(scheduler: Scheduler) -> None:
    """Where all was run once more before, that is looked at before it is run again."""
    [before] = scheduler.again([its_double])

    earlier, own = scheduler.again([a_number])

    assert earlier.result(a_number) == before.result(a_number)
    assert own.result(a_number) not in {before.result(a_number), scheduler.result(a_number)}


def test_an_earlier_second_look_at_less_is_left_out(scheduler: Scheduler) -> None:
    """Results of another time are not put together with those that are still wanting."""
    [_] = scheduler.again([a_number])

    [own] = scheduler.again([its_double, something_else])

    assert own.result(its_double) == 2 * own.result(a_number)


@probe(runs=0)
async def many_at_once() -> None:
    """Some that learn that the server is gone, and one that saw it die."""
    died = ServerDied(Finding("it to live", "it ended"))
    raise ExceptionGroup("", [ServerGone("gone", ""), ExceptionGroup("", [died])])


def test_a_death_is_what_is_meant(scheduler: Scheduler) -> None:
    """Where several tasks of a probe fail at once, the one that saw the server die tells why."""
    with pytest.raises(ServerDied, match="it ended"):
        scheduler.result(many_at_once)
