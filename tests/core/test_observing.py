"""Observations: a run as a case sees it, and what of a planted text came back."""

from __future__ import annotations

import json

import pytest

from pytest_agentstream.controls import ECHO_TEXT
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import COUNTS, Observation
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario
from pytest_agentstream.verdicts import NotTested

REQUEST = Request("POST", "http://127.0.0.1/chat")
HEAD = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.1)


def observed(*texts: str, declared: Scenario | None = None) -> Observation:
    """A run that shows these texts, one an event, and then ends."""
    lines = [f"data: {json.dumps({'content': text})}\n\n" for text in texts]
    body = "".join([": hb\n\n", *lines, "data: [DONE]\n\n"]).encode()
    one = Recording(REQUEST, HEAD, (Chunk(0.2, body),), End(EndKind.COMPLETE, 0.3), lag=0.01)
    run = Run("echo", "mapped", (one,))
    return Observation(run, load("generic-data"), declared or Scenario(), 1)


def test_what_a_run_shows() -> None:
    """Texts are put together; terminals and heartbeats are no content."""
    seen = observed("Hel", "lo")
    assert seen.text == "Hello"
    assert len(seen.content) == 2
    assert seen.lag == 0.01
    counted = {kind: count(seen) for kind, count in COUNTS.items()}
    assert counted["events"] == 3
    assert counted["blocks"] == 4
    assert (counted["terminals"], counted["ids"], counted["exchanges"]) == (1, 0, 1)


def test_parts_of_a_planted_text() -> None:
    """Each part with the wanted characters comes with what came back in its place."""
    planted = Scenario(text=ECHO_TEXT, verbatim=True)
    parts = observed(ECHO_TEXT[:30], ECHO_TEXT[30:], declared=planted).planted_segments("\r\u2028")
    assert len(parts) == 2
    assert all(sent == came for sent, came in parts)


def test_parts_that_did_not_come() -> None:
    """A part whose marks are missing is None, and a changed one is as it came."""
    planted = Scenario(text="a|1|x\ry|2|x\nz|3|", verbatim=True)
    seen = observed("a|1|x\ny|3|", declared=planted)
    assert seen.planted_segments("\r\n") == [("x\ry", "x\ny"), ("x\nz", None)]


def test_where_a_part_differs() -> None:
    """A part of a planted text that was changed is found in the event where it begins to differ."""
    planted = Scenario(text="a|1|x\ry|2|z", verbatim=True)
    seen = observed("a|1", "|x", "\ny|", "2|Z", declared=planted)
    assert seen.place_of("x\ry") is seen.content[2]
    assert seen.place_of("z") is seen.content[3]


def test_where_a_part_did_not_come() -> None:
    """Where its marks are missing it is the last event, and where nothing came there is none."""
    planted = Scenario(text="a|1|x\ry|2|z", verbatim=True)
    lost = observed("a", "b", declared=planted)
    assert lost.place_of("x\ry") is lost.content[1]
    assert observed(declared=planted).place_of("z") is None


@pytest.mark.parametrize("declared", [Scenario(), Scenario(text="a"), Scenario(verbatim=True)])
def test_nothing_planted_is_not_tested(declared: Scenario) -> None:
    """Without a text that is to come back verbatim there is nothing to compare."""
    with pytest.raises(NotTested) as caught:
        observed("a", declared=declared).planted_segments("a")
    assert caught.value.option.endswith('json = { message = "{prompt}" }, verbatim = true }')


def test_a_text_without_the_characters_is_not_tested() -> None:
    """A planted text that has none of the wanted characters proves nothing about them."""
    with pytest.raises(NotTested, match="has none of the characters"):
        observed("a", declared=Scenario(text="a", verbatim=True)).planted_segments("\r")
