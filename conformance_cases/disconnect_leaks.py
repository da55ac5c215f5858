"""What a server gives back when its readers go, or are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import held_limit
from pytest_agentstream.verdicts import NotTested, expect

if TYPE_CHECKING:
    from conformance_cases.probes.holding import Lost, Storms

ENOUGH = 50
"""Streams of a storm that are dropped in their middle; of fewer, too few can be missed."""

VISIBLE = 5
"""One in so many streams shows in the descriptors at least: they are not all open at once."""


def expect_visible(storms: Storms) -> None:
    """Raise `NotTested` where the process's descriptors do not show the connections it has."""
    shown = storms.during.descriptors - storms.before.descriptors
    if shown < storms.dropped / VISIBLE:
        raise NotTested(
            f"{storms.dropped} streams showed in {max(shown, 0)} of the process's descriptors at "
            "most, so what is given back cannot be seen there",
            "let the command be the server itself, in the foreground",
        )


@requirement(
    "disconnect.no-zombies",
    MUST,
    tier="resilient",
    text="Descriptors and threads are after a second storm of dropped streams as after the first.",
    source="the promise of a server: it lives on whatever its clients do",
    breaks="the operator: the server runs out of descriptors, and refuses everybody",
    hint="when a client goes, end its reader: cancel its task, drop its subscription, close the "
    "socket",
)
def test_no_zombies(aborted_storms: Storms) -> None:
    storms = aborted_storms
    if storms.dropped < ENOUGH:
        raise NotTested(f"{storms.dropped} streams of a storm could be dropped in their middle")
    expect_visible(storms)
    allowed = held_limit(storms.dropped)
    for what in ("descriptors", "threads"):
        before, after = getattr(storms.before, what), getattr(storms.after, what)
        expect(
            after - before <= allowed,
            expected=f"{before} {what} again, as after the storm before (up to {allowed:g} more)",
            actual=f"{after}, {storms.waited:.1f} s after {storms.dropped} streams were dropped",
        )


@requirement(
    "disconnect.half-open",
    SHOULD,
    tier="resilient",
    text="What a reader held that the network lost is given back once its run is over.",
    source="TCP: a peer that is gone without a word never closes",
    breaks="the operator: each phone that leaves a network costs a descriptor until a restart",
    hint="close the connection when the response is over, and do not wait for the other side",
    presupposes=["disconnect.no-zombies"],
)
def test_half_open(lost_readers: Lost, aborted_storms: Storms) -> None:
    expect_visible(aborted_storms)
    lost, readers = lost_readers, len(lost_readers.runs)
    if readers < 2:
        raise NotTested(f"{readers} readers had seen an event when they were lost")
    held = lost.after.descriptors - lost.before.descriptors
    expect(
        held <= readers // 2,
        expected=f"{lost.before.descriptors} descriptors again, as before {readers} readers were "
        "lost",
        actual=f"{lost.after.descriptors}, {lost.waited:.1f} s later",
        at=lost.runs[0].first,
    )
