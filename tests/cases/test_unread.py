"""Cases of what a run did while nobody read it, on recordings made up."""

from __future__ import annotations

from itertools import accumulate

import pytest

from conformance_cases.disconnect import expect_gone_on
from conformance_cases.probes.cuts import Left, LiveCut
from conformance_cases.resume_live import expect_same_said
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario
from pytest_agentstream.verdicts import Failed, NotTested

DIALECT = load("native")
WORDS = ("one ", "two ", "three ", "four ", "five ", "six ")
PAUSE = 0.2


def stream(first: int, words: tuple[str, ...], pause: float, end: EndKind) -> Recording:
    """Record a stream of words, numbered from `first`; one that ends has the terminal."""
    parts = [
        f'id: run/{n}\nevent: token\ndata: {{"text":"{word}"}}\n\n'
        for n, word in enumerate(words, first)
    ]
    if end is EndKind.COMPLETE:
        done = f'id: run/{first + len(words)}\nevent: done\ndata: {{"status":"completed"}}\n\n'
        parts.append(done)
    times = accumulate([pause] * len(parts))
    chunks = tuple(Chunk(at, part.encode()) for at, part in zip(times, parts, strict=True))
    head = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.0)
    return Recording(Request("GET", "http://127.0.0.1/"), head, chunks, End(end, chunks[-1].at))


def observed(*exchanges: Recording, deterministic: bool = True) -> Observation:
    declared = Scenario(pause=PAUSE, deterministic=deterministic)
    return Observation(Run("pauses", "mapped", exchanges), DIALECT, declared, 1)


UNCUT = observed(stream(1, WORDS, PAUSE, EndKind.COMPLETE))
BEGUN = stream(1, WORDS[:1], PAUSE, EndKind.CUT)


def left(pause: float) -> Left:
    """A run that was joined when it should have been over, and came with these pauses then."""
    return Left(observed(BEGUN, stream(2, WORDS[1:], pause, EndKind.COMPLETE)), 2.0, "a cut")


def test_a_run_that_went_on() -> None:
    """What was said meanwhile comes at once."""
    expect_gone_on(left(0.0), UNCUT)


def test_a_run_that_waited() -> None:
    """What comes with the pauses that it had was not said before."""
    with pytest.raises(Failed, match=r"0\.800 s from the first event .* as though it had waited"):
        expect_gone_on(left(PAUSE), UNCUT)


def test_a_run_that_may_be_slower() -> None:
    """One that is not the same each time may have gone on until then."""
    with pytest.raises(NotTested, match="deterministic = true"):
        expect_gone_on(left(PAUSE), observed(*UNCUT.exchanges, deterministic=False))


@pytest.mark.parametrize(
    "words", [WORDS[1:], ("two three ", "four five six ")], ids=["same", "other cuts"]
)
def test_all_was_said(words: tuple[str, ...]) -> None:
    """A text may be cut into events in another way."""
    run = observed(BEGUN, stream(2, words, 0.0, EndKind.COMPLETE))
    expect_same_said(LiveCut("a cut", 1, run, None), UNCUT)


def test_a_word_that_was_not_kept() -> None:
    """A word that is missing is told, whatever its neighbours' numbers are; not of other agents."""
    run = observed(BEGUN, stream(2, WORDS[2:], 0.0, EndKind.COMPLETE))
    with pytest.raises(Failed, match=r"expected token 'one two three .*found token 'one thr"):
        expect_same_said(LiveCut("a cut", 1, run, None), UNCUT)
    free = observed(*UNCUT.exchanges, deterministic=False)
    expect_same_said(LiveCut("a cut", 1, run, None), free)
