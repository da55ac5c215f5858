"""Cases of an LLM that fails or is let go of, on recordings made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from conformance_cases.probes.upstream import GoneInside, Stopped, asked_again, still_tries
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from pytest_agentstream.doubles import Call
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario
from pytest_agentstream.verdicts import Failed, NotTested

if TYPE_CHECKING:
    from pytest_agentstream.verdicts import Outcome

LIMIT = 5.0
WORD, DONE = {"content": "word"}, "[DONE]"
ERROR = {"error": "the model failed"}


def run(*said: Any, at: float = 0.1, status: int = 200, **declared: Any) -> Observation:
    """A run in generic-data that says these payloads at one time and ends cleanly then."""
    head = Head(status, "", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.01)
    blocks = (one if isinstance(one, str) else json.dumps(one) for one in said)
    body = "".join(f"data: {one}\n\n" for one in blocks).encode()
    one = Recording(
        Request("POST", "http://127.0.0.1/chat"),
        head,
        (Chunk(at, body),) if body else (),
        End(EndKind.COMPLETE, at),
    )
    return Observation(
        Run("upstream-cut", "double", (one,)), load("generic-data"), Scenario(**declared), 1
    )


def check(slug: str, **values: Any) -> None:
    catalogue()[slug].check(**values)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_http_error_says_it(status: int) -> None:
    """A server that waits for its LLM before it answers says the failure in HTTP."""
    check("terminal.on-upstream-cut", upstream_cut_run=run(status=status))
    check("terminal.on-upstream-error", failed_upstreams=[run(status=status)])


def test_an_error_in_the_stream_says_it() -> None:
    """An error and a terminal are what is asked for, however late they come."""
    check("terminal.on-upstream-cut", upstream_cut_run=run(WORD, ERROR, DONE, at=40.0))


@pytest.mark.parametrize(
    ("said", "why"),
    [((WORD, DONE), "a terminal that says success"), ((WORD,), "then the body ends cleanly")],
)
def test_a_short_success(said: tuple[Any, ...], why: str) -> None:
    """Half an answer is no success, said or implied."""
    with pytest.raises(Failed, match=why):
        check("terminal.on-upstream-cut", upstream_cut_run=run(*said))


def test_one_cause_is_red_once() -> None:
    """Where an error lacks its terminal as in the cut, garbage adds nothing; a success does."""
    flawed = run(WORD, ERROR)
    with pytest.raises(NotTested, match="an error without a terminal"):
        check("terminal.on-upstream-garbage", upstream_garbage_run=flawed, cut_upstream=[flawed])
    with pytest.raises(Failed):
        check(
            "terminal.on-upstream-garbage",
            upstream_garbage_run=run(WORD, DONE),
            cut_upstream=[flawed],
        )
    with pytest.raises(Failed):
        check("terminal.on-upstream-garbage", upstream_garbage_run=flawed, cut_upstream=[])


def test_a_deadline() -> None:
    """A run that hangs ends in time, with some grace; later is a finding, undeclared is neither."""
    in_time, late = (run(ERROR, DONE, at=at, deadline=10) for at in (11.0, 14.0))
    check("terminal.deadline", upstream_stall_run=in_time, cut_upstream=[])
    with pytest.raises(Failed, match=r"after 14\.00 s"):
        check("terminal.deadline", upstream_stall_run=late, cut_upstream=[])
    with pytest.raises(NotTested, match="no deadline is declared"):
        check("terminal.deadline", upstream_stall_run=run(ERROR, DONE), cut_upstream=[])


@pytest.mark.parametrize("text", ["\\ufffd", "\\ud83c"])
def test_what_a_split_character_may_not_become(text: str) -> None:
    """A replacement character is found, and so is half a character."""
    with pytest.raises(Failed, match="expected the characters that the LLM sent"):
        check(
            "framing.no-replacement-characters",
            upstream_split_run=run(f'{{"content": "{text}"}}', DONE),
        )


@pytest.mark.parametrize(
    ("cancelled", "ended", "outcome"),
    [(104.0, 104.0, None), (None, 103.0, NotTested), (None, None, Failed), (107.0, 107.0, Failed)],
    ids=["stopped", "over by itself", "still going on", "too late"],
)
def test_when_a_call_stops(
    cancelled: float | None, ended: float | None, outcome: type[Outcome] | None
) -> None:
    """Only a call that somebody closed in time shows that the work stopped."""
    call = Call("/v1/chat/completions", "openai-chat", streaming=True, began=99.0)
    call.cancelled, call.ended = cancelled, ended
    left = Stopped(run(WORD), call, 100.0, LIMIT)
    if outcome is None:
        check("disconnect.cancels", left_run=left)
        return
    with pytest.raises(outcome):
        check("disconnect.cancels", left_run=left)


def called(began: float, *, played: bool = True) -> Call:
    return Call("/v1/responses", "openai-responses", streaming=played, began=began, played=played)


@pytest.mark.parametrize(
    ("calls", "again"),
    [
        ([called(1.0)], False),
        ([called(1.0), called(2.0)], False),
        ([called(1.0, played=False), called(2.0)], False),
        ([called(1.0), called(2.0, played=False)], True),
    ],
    ids=["once", "again in a stream", "a title before", "a fallback behind"],
)
def test_a_fallback_without_a_stream(calls: list[Call], again: bool) -> None:
    """Only a whole answer behind a short one can have made a success true."""
    assert asked_again(calls) is again


@pytest.mark.parametrize(
    ("began", "tries"),
    [((0.0, 1.0, 3.0, 7.0, 15.1), True), ((0.0, 1.0, 3.0), False), ((28.0,), False), ((), False)],
    ids=["a backoff", "given up long ago", "one call", "none"],
)
def test_who_still_tries(began: tuple[float, ...], tries: bool) -> None:
    """A server that has asked again not long before is still trying; one that waits is not."""
    assert still_tries([called(at) for at in began], 30.0, 30.0) is tries


def gone_beside(beside: Observation) -> GoneInside:
    one = run(WORD).first
    lost = Recording(one.request, one.head, one.chunks, End(EndKind.RESET, 0.1))
    gone = Observation(Run("pauses", "double", (lost,)), beside.dialect, Scenario(), 1)
    return GoneInside(gone, beside, in_time=True)


def test_who_is_beside_one_that_goes() -> None:
    """A run is harmed where it ends in another way than `pauses` does alone."""
    well, failed, open_ended = run(WORD, DONE), run(WORD, ERROR, DONE), run(WORD)
    check("disconnect.mid-event", gone_inside=gone_beside(well), pauses_run=well)
    check("disconnect.mid-event", gone_inside=gone_beside(open_ended), pauses_run=open_ended)
    for harmed in (failed, open_ended):
        with pytest.raises(Failed, match="as `pauses` does alone"):
            check("disconnect.mid-event", gone_inside=gone_beside(harmed), pauses_run=well)
    with pytest.raises(NotTested, match="does not end well anyway"):
        check("disconnect.mid-event", gone_inside=gone_beside(failed), pauses_run=failed)


def test_streams_that_end_early() -> None:
    """A run whose streams end one by one is judged by its terminal, wherever that stands."""
    said, cut = run(WORD, ERROR, DONE), run(WORD)
    whole = replace(said, run=replace(said.run, exchanges=(cut.first, said.first)))
    check("terminal.on-upstream-cut", upstream_cut_run=whole)
    well = run(WORD, DONE)
    again = replace(well, run=replace(well.run, exchanges=(cut.first, well.first)))
    check("disconnect.mid-event", gone_inside=gone_beside(again), pauses_run=well)
    lost = replace(cut.first, end=End(EndKind.CUT, 0.1))
    broken = replace(well, run=replace(well.run, exchanges=(lost, well.first)))
    with pytest.raises(Failed, match="a stream that broke off"):
        check("disconnect.mid-event", gone_inside=gone_beside(broken), pauses_run=well)
