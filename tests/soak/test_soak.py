"""A small soak: it finds nothing on a good log, and what is planted it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.soak.reading import Event, Reading
from tests.soak.soak import _compare, soak

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize("log", ["sqlite", "redis"])
def test_kills_and_cuts_lose_nothing(log: str) -> None:
    """Runs that are cut, on servers that are killed: nothing lost, nothing twice, all ended."""
    report = soak(log, runs=24, kills=2, seed=7)

    assert report["first_wrong"] == []
    assert (report["lost"], report["twice"]) == (0, 0)
    assert (report["runs"], report["kills"]) == (24, 2)
    assert sum(report["ends"].values()) == 24
    assert report["cuts"] > 5


def _reading(*numbers: int, types: Sequence[str] = ()) -> Reading:
    reading = Reading("run")
    for place, number in enumerate(numbers):
        kind = types[place] if types else "done" if place + 1 == len(numbers) else "token"
        reading.take(Event(number, kind, '{"retryable": true}'))
    return reading


@pytest.mark.parametrize(
    ("seen", "stored", "lost", "twice", "wrong"),
    [
        (_reading(1, 2, 3), _reading(1, 2, 3), 0, 0, 0),
        (_reading(1, 2, 2, 3), _reading(1, 2, 3), 0, 1, 0),
        (_reading(1, 3), _reading(1, 3), 1, 0, 0),
        (_reading(1, 2, 3), _reading(1, 2), 2, 0, 0),
        (_reading(1), _reading(1, 2, types=["done", "done"]), 0, 0, 1),
        (_reading(1), _reading(1, 2, types=["done", "token"]), 0, 0, 1),
        (
            _reading(1, types=["error"]),
            _reading(1, 2, 3, types=["error", "token", "done"]),
            *(0, 0, 1),
        ),
    ],
)
def test_what_is_wrong_is_counted(
    seen: Reading, stored: Reading, lost: int, twice: int, wrong: int
) -> None:
    """Gaps, repeats, changed events and wrong ends are told apart."""
    _compare(seen, stored)

    assert (seen.lost, seen.twice, len(seen.wrong)) == (lost, twice, wrong)
