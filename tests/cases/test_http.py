"""Cases of HTTP itself, on recordings as they may come about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance_cases.probes.requests import Asked
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import (
    Chunk,
    End,
    EndKind,
    Head,
    Phase,
    Recording,
    Request,
    Run,
)
from pytest_agentstream.target import Scenario
from pytest_agentstream.verdicts import Failed, NotTested

URL = "http://127.0.0.1/chat"
STREAM = Recording(
    Request("POST", URL),
    Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.01),
    (Chunk(0.02, b"data: [DONE]\n\n"),),
    End(EndKind.COMPLETE, 0.03),
)
ANSWERED = Recording(
    Request("PATCH", URL),
    Head(405, "Method Not Allowed", "HTTP/1.1", (), 0.01),
    (),
    End(EndKind.COMPLETE, 0.02),
)
CUT = replace(ANSWERED, head=None, end=End(EndKind.CUT, 0.01))


def judged(behind: Recording, alone: Recording = ANSWERED) -> None:
    """Judge whether a connection is reusable by what came behind a stream on it, and `alone`."""
    run = Observation(Run("complete", "mapped", (STREAM,)), load("generic-data"), Scenario(), 1)
    case = catalogue()["http.connection-reusable"]
    case.check(same_connection=(run, behind), wrong_method=Asked("PATCH", alone))


@pytest.mark.parametrize(
    "behind",
    [ANSWERED, replace(ANSWERED, head=None, end=End(EndKind.TIMEOUT, 5.0))],
    ids=["answered", "taken, and never answered"],
)
def test_a_connection_that_is_used_again(behind: Recording) -> None:
    """A request that went out on the connection behind a stream shows that it stood."""
    judged(behind)


@pytest.mark.parametrize(
    "behind",
    [
        replace(ANSWERED, connected=0.001),
        replace(ANSWERED, head=None, end=End(EndKind.TIMEOUT, 5.0, Phase.CONNECT)),
        CUT,
        replace(CUT, end=End(EndKind.RESET, 0.01)),
    ],
    ids=["seen before the request", "and no other came to stand", "seen behind it", "reset"],
)
def test_a_connection_that_was_closed(behind: Recording) -> None:
    """A close that was not announced is one, whether it is seen before or behind the request."""
    with pytest.raises(Failed, match="closed without a word"):
        judged(behind)


def test_a_request_that_never_gets_an_answer() -> None:
    """A server that drops such a request on any connection closed none because of the stream."""
    with pytest.raises(NotTested, match="PATCH, gets no answer on a connection of its own either"):
        judged(CUT, CUT)
    with pytest.raises(Failed, match="closed without a word"):
        judged(replace(ANSWERED, connected=0.001), CUT)
