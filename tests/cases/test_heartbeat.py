"""Cases of heartbeats, on recordings that ended in one way or another."""

from __future__ import annotations

import pytest

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.verdicts import Failed, InDoubt, NotTested

URL = "http://127.0.0.1/chat"
H = 2.0
DONE = b'data: {"content": "on"}\n\ndata: [DONE]\n\n'
DIALECT = load("generic-data")


def judged(kind: EndKind, *behind: Chunk, lag: float = 0.0) -> None:
    """Judge a run that said one thing, and ended so, behind a proxy that cuts after 1.5 H."""
    chunks = (Chunk(0.02, b'data: {"content": "now"}\n\n'), *behind)
    head = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.01)
    end = End(kind, max(3.1, chunks[-1].at))
    one = Recording(Request("POST", URL), head, chunks, end, lag=lag)
    run = Observation(Run("silence", "mapped", (one,)), DIALECT, Scenario(seconds=7.0), 1)
    target = Target(url=URL, heartbeat=H)
    case = catalogue()["heartbeat.survives-idle-cut"]
    case.check(idle_cut=run, target=target, dialect=DIALECT)


@pytest.mark.parametrize("kind", [EndKind.CUT, EndKind.RESET])
def test_a_cut(kind: EndKind) -> None:
    """What the proxy cut had been silent for too long, also where we were a little late."""
    with pytest.raises(Failed, match=r"a cut after 3\.10 s"):
        judged(kind, lag=0.006)


def test_a_silence_that_was_filled() -> None:
    """A heartbeat every H is enough."""
    beats = [Chunk(float(at), b": alive\n\n") for at in (2, 4, 6)]
    judged(EndKind.COMPLETE, *beats, Chunk(7.1, DONE))


def test_a_silence_that_should_have_been_cut() -> None:
    """A run that came through with too long a gap had a proxy that was late."""
    beats = [Chunk(at, b": alive\n\n") for at in (3.3, 6.5)]
    with pytest.raises(InDoubt, match=r"3\.280 s without a byte were not cut"):
        judged(EndKind.COMPLETE, *beats, Chunk(7.1, DONE))


def test_a_cut_by_a_late_proxy() -> None:
    """A proxy that was late may not have read the heartbeat that had come."""
    with pytest.raises(InDoubt, match=r"beside 0\.300 s of lag"):
        judged(EndKind.CUT, lag=0.3)


@pytest.mark.parametrize("kind", [EndKind.COMPLETE, EndKind.CLOSE_DELIMITED, EndKind.TIMEOUT])
def test_an_end_of_its_own(kind: EndKind) -> None:
    """A run that was not cut, and did not end well, shows nothing about idle connections."""
    with pytest.raises(NotTested, match="not by a cut either"):
        judged(kind, lag=0.3)
