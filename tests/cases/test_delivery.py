"""Cases of delivery, on recordings whose times are made by hand."""

from __future__ import annotations

import json

import pytest

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario
from pytest_agentstream.verdicts import ControlBroken, Failed, NotTested, Outcome

MARKER = "before the silence"
SILENCE = 5.0


def silence(*said: tuple[float, str]) -> Observation:
    """A run that shows these texts at these times, in seconds, and ends with the last one."""
    head = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.01)
    chunks = [Chunk(at, f"data: {json.dumps({'content': text})}\n\n".encode()) for at, text in said]
    end = said[-1][0] + 0.01
    chunks.append(Chunk(end, b"data: [DONE]\n\n"))
    one = Recording(
        Request("POST", "http://127.0.0.1/chat"), head, tuple(chunks), End(EndKind.COMPLETE, end)
    )
    declared = Scenario(seconds=SILENCE, marker=MARKER)
    return Observation(Run("silence", "mapped", (one,)), load("generic-data"), declared, 1)


def judged(run: Observation) -> None:
    catalogue()["delivery.one-event-one-write"].check(silence_run=run)


@pytest.mark.parametrize(
    "said",
    [
        [(0.1, "Now"), (0.2, MARKER), (5.3, "on")],
        [(9.0, MARKER), (14.1, "on")],
        [(9.0, "Now"), (9.1, MARKER), (14.2, "on")],
        [(0.1, "Now"), (0.2, MARKER), (5.3, "on"), (15.3, "and on")],
    ],
    ids=["at once", "first", "behind a slow first token", "before a longer pause"],
)
def test_a_marker_that_comes_before_its_silence(said: list[tuple[float, str]]) -> None:
    """However long an agent takes elsewhere, only a silence before its marker is a finding."""
    judged(silence(*said))


def test_a_marker_that_comes_behind_its_silence() -> None:
    """An event that comes with the one behind the silence was held back."""
    with pytest.raises(Failed, match=r"it came 5\.100 s into the silence"):
        judged(silence((0.1, "Now"), (5.2, MARKER), (5.2, "on")))


@pytest.mark.parametrize(
    ("said", "outcome", "why"),
    [
        ([(5.2, MARKER), (5.2, "on")], NotTested, "may have been held back or slow"),
        ([(5.2, "Now"), (5.3, MARKER), (5.4, "on")], ControlBroken, "a silence that is over"),
    ],
    ids=["nothing before it", "no silence behind it"],
)
def test_a_silence_that_proves_nothing(
    said: list[tuple[float, str]], outcome: type[Outcome], why: str
) -> None:
    """The wait for the first event is no silence behind a marker."""
    with pytest.raises(outcome, match=why):
        judged(silence(*said))
