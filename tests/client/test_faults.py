"""The reference client under faults: what it tries again, what never, how often, after how long.

Each row is a fault of the real proxy before the real reference server. Whatever happens, a user
sees every character once, and no run is started twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Corrupt,
    Cut,
    HalfOpen,
    IdleCut,
    Latency,
    LimitData,
    Refuse,
    ResetPeer,
    Slicer,
    SlowClose,
    SlowReader,
    Stall,
    Timeout,
)
from pytest_agentstream.reference import RETRY
from pytest_agentstream.target import Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.faults import Fault, FaultProxy
    from tests.client.conftest import Journey, NotedBackoff

    Travel = Callable[..., Journey]

ECHOED = "Grüße aus Zürich: serves ☕ and 🍰 to everyone."
SILENCE = "A café in Zürich serves ☕ and 🍰 to everyone."
SHORT = 0.4
"""Seconds of the one time-out that is to be over; the others keep their length."""

SLOW = 5.0
"""Seconds that a busy machine may add to a wait."""

WHOLE = len('event: token\ndata: {"text":"ße "}\nid: /3\n\n'.encode()) + 32
"""Bytes of the third event; 32 of them name the run."""

FIRST = RETRY
"""The first wait behind progress is what the server asks for, and nothing drawn."""


@dataclass(frozen=True)
class Row:
    """Faults, and what the client made of them.

    `asked` is each request with the number of the event behind which it goes on, `ends` how each
    exchange ended. `floors` are the waits that the server asked for, in seconds; None for none.
    """

    plans: tuple[list[Fault], ...]
    ends: tuple[str, ...]
    asked: tuple[str, ...]
    floors: tuple[float | None, ...] = ()
    scenario: str = "echo"
    text: str = ECHOED
    limits: dict[str, float] | None = None

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(**(self.limits or {}))


def cut(**place: Any) -> list[Fault]:
    return [Cut(**place)]


TABLE = {
    "FIN between events": Row(
        (cut(after_event=3),), ("cut", "complete"), ("POST", "GET 3"), (FIRST,)
    ),
    "RST between events": Row(
        (cut(after_event=3, how="rst"),), ("reset", "complete"), ("POST", "GET 3"), (FIRST,)
    ),
    # no answer was seen: the same key and the same user is the same run
    "FIN in the head": Row((cut(after_bytes=20),), ("cut", "complete"), ("POST", "POST"), (None,)),
    "RST in the head": Row(
        (cut(after_bytes=20, how="rst"),), ("reset", "complete"), ("POST", "POST"), (None,)
    ),
    "FIN behind the head": Row(
        (cut(after_event=0),), ("cut", "complete"), ("POST", "GET"), (None,)
    ),
    # what was not complete is not dispatched, and its id does not count
    "FIN inside an event": Row(
        (cut(after_event=2, into_next=9),), ("cut", "complete"), ("POST", "GET 2"), (FIRST,)
    ),
    "FIN before a blank line": Row(
        (cut(after_event=2, into_next=WHOLE - 1),), ("cut", "complete"), ("POST", "GET 2"), (FIRST,)
    ),
    "FIN behind the terminal": Row((cut(after_event=17),), ("cut",), ("POST",)),
    "cuts in a row": Row(
        (cut(after_event=2), cut(after_event=1, into_next=5), cut(after_event=4, how="rst")),
        ("cut", "cut", "reset", "complete"),
        ("POST", "GET 2", "GET 3", "GET 7"),
        (FIRST, FIRST, FIRST),
    ),
    "cuts in vain": Row(
        (cut(after_event=3), cut(after_event=0), cut(after_bytes=3), cut(after_event=0)),
        ("cut", "cut", "cut", "cut", "complete"),
        ("POST", "GET 3", "GET 3", "GET 3", "GET 3"),
        (FIRST, FIRST, FIRST, FIRST),
    ),
    "no head": Row(
        ([Stall(after_bytes=0)],),
        ("timeout head", "complete"),
        ("POST", "POST"),
        (None,),
        limits={"head": SHORT},
    ),
    "no first event": Row(
        ([Stall(after_event=0)],),
        ("timeout first event", "complete"),
        ("POST", "GET"),
        (None,),
        limits={"first_event": SHORT},
    ),
    "silence": Row(
        ([Stall(after_event=3)],),
        ("timeout silence", "complete"),
        ("POST", "GET 3"),
        (FIRST,),
        limits={"silence": SHORT},
    ),
    "half-open": Row(
        ([HalfOpen(after_event=3)],), ("cut", "complete"), ("POST", "GET 3"), (FIRST,)
    ),
    "idle cut": Row(
        ([IdleCut(seconds=0.3)],),
        ("cut", "complete"),
        ("POST", "GET 4"),
        (FIRST,),
        "silence; seconds=0.6",
        SILENCE,
    ),
    "slices of 1 to 7 bytes": Row(
        ([Slicer(average_size=4, size_variation=3)],), ("complete",), ("POST",)
    ),
    "slices and a cut": Row(
        ([Slicer(average_size=4, size_variation=3), Cut(after_event=5, into_next=31)],),
        ("cut", "complete"),
        ("POST", "GET 5"),
        (FIRST,),
    ),
    "latency": Row(([Latency(latency=0.05, jitter=0.05)],), ("complete",), ("POST",)),
    "bandwidth": Row(([Bandwidth(rate=8)],), ("complete",), ("POST",)),
    # a small buffer, read slowly: what the server can't send yet waits, and nothing is lost
    "slow reader": Row(([SlowReader(rate=4000)],), ("complete",), ("POST",)),
    "slow reader and a cut": Row(
        ([SlowReader(rate=4000), Cut(after_event=5)],),
        ("cut", "complete"),
        ("POST", "GET 5"),
        (FIRST,),
    ),
    "slow close": Row(([SlowClose(delay=0.1)],), ("complete",), ("POST",)),
    "limited data": Row(([LimitData(bytes=5)],), ("cut", "complete"), ("POST", "POST"), (None,)),
    "reset peer": Row(
        ([ResetPeer(timeout=0.05)],), ("reset", "complete"), ("POST", "POST"), (None,)
    ),
    "black hole": Row(([Timeout(timeout=0.1)],), ("cut", "complete"), ("POST", "POST"), (None,)),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_the_client_does(travel: Travel, name: str) -> None:
    """Each fault leads to these requests, waits and ends, and to a text that is exactly right."""
    row = TABLE[name]
    seen = travel(*row.plans, scenario=row.scenario, timeouts=row.timeouts)
    assert (tuple(seen.ends), tuple(seen.asked)) == (row.ends, row.asked), seen.described
    assert tuple(seen.backoff.floors) == row.floors
    assert seen.text == row.text
    assert seen.identities == seen.read_back
    assert seen.run.synthetic == ""
    for wait, floor, pause in zip(seen.backoff.waits, row.floors, seen.pauses, strict=True):
        assert wait >= (floor or 0.0)
        assert wait - 0.002 <= pause <= wait + SLOW  # clocks of two kinds differ a little


def test_waits_in_vain_are_drawn(travel: Travel) -> None:
    """Only attempts in vain draw their wait, from a range that doubles; a seed repeats them."""
    row = TABLE["cuts in vain"]
    seen = travel(*row.plans, seed=5)
    again = travel(*row.plans, seed=5)
    random, reaches = Random(5), (0.04, 0.08, 0.08)
    assert seen.backoff.waits == [FIRST, *(FIRST + random.uniform(0, r) for r in reaches)]
    assert again.backoff.waits == seen.backoff.waits


TIMED = {"no head": "head", "no first event": "first_event", "silence": "silence"}


@pytest.mark.parametrize("name", TIMED)
def test_time_outs_are_kept(travel: Travel, name: str) -> None:
    """A wait is over when its phase's limit is, and its end says which and how long it was."""
    row = TABLE[name]
    end = travel(*row.plans, timeouts=row.timeouts).run.first.end
    assert SHORT <= end.at <= SHORT + SLOW
    assert f"{SHORT:g} s" in end.detail


def test_the_whole_time_is_bounded(travel: Travel) -> None:
    """A run that takes longer than the client's patience is given up, not joined again."""
    seen = travel([], scenario="pauses; seconds=0.2; count=8", timeouts=Timeouts(end=0.5))
    assert seen.ends == ["timeout end"]
    assert seen.run.synthetic == "timeout: not over within 0.5 s"
    assert seen.backoff.waits == []


REFUSALS = {
    "overloaded": ("overloaded", "429 Too Many Requests"),
    "unknown scenario": ("nonsense", "400 Bad Request"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_start_is_not_repeated(travel: Travel, name: str) -> None:
    """A start that the server refuses is never posted again, not even behind a Retry-After."""
    scenario, said = REFUSALS[name]
    seen = travel([], scenario=scenario)
    assert seen.asked == ["POST"]
    assert seen.run.synthetic == said
    assert seen.backoff.waits == []


def test_no_credentials(travel: Travel) -> None:
    """401 is final."""
    seen = travel([], headers={"Authorization": None})
    assert (seen.asked, seen.run.synthetic) == (["POST"], "401 Unauthorized")


def test_nobody_accepts(travel: Travel) -> None:
    """A start that never reached anybody is not tried again: nothing says that this would help."""
    seen = travel(closed=True)
    assert (seen.ends, seen.asked) == (["refused"], ["POST"])
    assert seen.run.synthetic.startswith("refused: ")


def test_refused_then_accepted(travel: Travel) -> None:
    """A port that is closed for a while is tried again, in waits that grow, and then goes on."""

    async def restart(proxy: FaultProxy, backoff: NotedBackoff) -> None:
        await (await proxy.connection(1)).hit.wait()
        await proxy.refuse()
        while len(backoff.waits) < 4:
            await backoff.asked.wait()
            backoff.renew()
        await proxy.accept()

    seen = travel(cut(after_event=3), beside=restart)
    assert seen.ends == ["cut", "refused", "refused", "refused", "complete"]
    assert seen.asked == ["POST", *["GET 3"] * 4]
    assert seen.backoff.floors == [FIRST] * 4
    assert seen.text == ECHOED


def test_reset_then_accepted(travel: Travel) -> None:
    """A connection that is reset as soon as it stands is tried again as well."""
    seen = travel(cut(after_event=3), [Refuse()], [Refuse()])
    assert seen.ends == ["cut", "reset", "reset", "complete"]
    assert seen.text == ECHOED
    assert seen.identities == seen.read_back


def test_attempts_in_vain_end(travel: Travel) -> None:
    """Six attempts in a row that bring nothing are enough; what was seen until then stays."""

    async def go_down(proxy: FaultProxy, _: NotedBackoff) -> None:
        await (await proxy.connection(1)).hit.wait()
        await proxy.refuse()

    seen = travel(cut(after_event=3), beside=go_down)
    assert seen.ends == ["cut", *["refused"] * 6]
    assert seen.run.synthetic.endswith("given up: 6 attempts in a row brought nothing")
    assert seen.text == ECHOED[:6]
    assert len(seen.backoff.waits) == 6


def test_progress_begins_the_count_anew(travel: Travel) -> None:
    """Attempts that bring events are not in vain, however many they are."""
    seen = travel(*[cut(after_event=1)] * 12)
    assert seen.asked == ["POST", *(f"GET {number}" for number in range(1, 13))]
    assert seen.backoff.waits == [FIRST] * 12
    assert seen.text == ECHOED


CORRUPT = {
    "one character for another": (1, "`rüße"),
    "no UTF-8": (0xFF, "\ufffdrüße"),
}
DATA = len('event: token\ndata: {"text":"')


@pytest.mark.parametrize("name", CORRUPT)
def test_a_corrupt_byte_in_the_data(travel: Travel, name: str) -> None:
    """A wrong byte in the data can't be noticed: it is shown, and nothing is asked again."""
    mask, shown = CORRUPT[name]
    corrupt = Corrupt(after_event=1, into_next=DATA, mask=mask)
    seen = travel([corrupt], prompt="a" + ECHOED[1:])
    assert seen.ends == ["complete"]
    assert seen.text == shown + ECHOED[5:]
    wrong = [pair for pair in zip(seen.identities, seen.read_back, strict=True) if len({*pair}) > 1]
    assert len(wrong) == 1


def test_a_corrupt_head(travel: Travel) -> None:
    """An answer that is not HTTP is final: to ask again can't help."""
    seen = travel([Corrupt(after_bytes=0)])
    assert (seen.ends, seen.asked, seen.backoff.waits) == (["protocol"], ["POST"], [])
    assert seen.run.synthetic.startswith("protocol: ")


def test_a_corrupt_answer_to_a_resume(travel: Travel) -> None:
    """A resume that is answered with no HTTP is final too: what came before it stays."""
    seen = travel([Cut(after_event=3)], [Corrupt(after_bytes=0)])
    assert (seen.ends, seen.asked) == (["cut", "protocol"], ["POST", "GET 3"])
    assert seen.text == ECHOED[:6]
