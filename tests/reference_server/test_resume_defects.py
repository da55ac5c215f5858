"""The defects of resuming: what each makes of a suffix, a live tail, a start that was cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.reference_server.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.reference_server.conftest import Answer, Body, Chooser

SEAM = 4
"""The last event of `silence` before its silence, and of `interrupt` before it waits."""


def _silent(body: Body) -> bool:
    return len(body.events) == SEAM


def _anything(body: Body) -> bool:
    return bool(body.events or body.comments)


def _numbers(answer: Answer) -> list[int]:
    return [int(event.id.rpartition("/")[2]) for event in answer.events]


REPLAYS: list[tuple[str, int, Callable[[list[int]], list[int]]]] = [
    ("good", 8, lambda suffix: suffix),
    ("one-too-many", 8, lambda suffix: [8, *suffix]),
    ("one-too-few", 8, lambda suffix: suffix[1:]),
    ("terminal-not-replayed", 8, lambda suffix: suffix),
    ("page-border-twice", 8, lambda suffix: [8, *suffix]),
    ("page-border-twice", 7, lambda suffix: suffix),
    ("page-border-lost", 8, lambda suffix: suffix[1:]),
    ("page-border-lost", 7, lambda suffix: suffix),
    ("seam-lost", 8, lambda suffix: suffix),
    ("seam-twice", 8, lambda suffix: suffix),
    ("first-live-twice", 8, lambda suffix: suffix),
    ("numbering-restarts", 8, lambda suffix: suffix),
]


@pytest.mark.parametrize(("name", "after", "expected"), REPLAYS)
def test_a_replay_defect_does_what_it_says(
    defective: Chooser, name: str, after: int, expected: Callable[[list[int]], list[int]]
) -> None:
    """A cursor of a finished run gets back what the defect makes of the suffix."""
    client = defective(name)
    first = client.start("complete")

    again = client.read(first.run, f"{first.run}/{after}")
    assert _numbers(again) == expected(list(range(after + 1, len(first.events) + 1)))


LIVE: list[tuple[str, Callable[[list[int]], list[int]]]] = [
    ("good", lambda suffix: suffix),
    ("live-tail-only", lambda suffix: [n for n in suffix if n > SEAM]),
    ("seam-lost", lambda suffix: [n for n in suffix if n != SEAM + 1]),
    ("seam-twice", lambda suffix: sorted([*suffix, SEAM])),
    ("first-live-twice", lambda suffix: sorted([*suffix, SEAM + 1])),
    ("stops-after-replay", lambda suffix: [n for n in suffix if n <= SEAM]),
    ("numbering-restarts", lambda suffix: [n - 1 for n in suffix]),
    ("live-numbering-restarts", lambda suffix: [n - SEAM if n > SEAM else n for n in suffix]),
    ("page-border-twice", lambda suffix: suffix),
    ("drifts", lambda suffix: suffix),
]


@pytest.mark.parametrize(("name", "expected"), LIVE)
def test_a_live_defect_does_what_it_says(
    defective: Chooser, name: str, expected: Callable[[list[int]], list[int]]
) -> None:
    """A run that is resumed while it waits gets what the defect makes of replay and live tail."""
    client = defective(name)
    run = client.start("interrupt", until=_silent).run
    answer = {"request_id": "input-1", "input": "yes"}

    def answered(body: Body) -> bool:
        if body.comments == [": hb"]:  # the replay is over
            body.comments.append("answered")
            client.ask("POST", f"/v1/runs/{run}/input", json=answer)
        return False

    assert _numbers(client.read(run, f"{run}/1", until=answered)) == expected([2, 3, 4, 5, 6, 7])


def test_a_run_drifts_from_the_sixth_resume_on(defective: Chooser) -> None:
    """`drifts-while-live` resumes a run rightly five times, then sends the cursor's event again."""
    client = defective("drifts-while-live")
    run = client.start("silence; seconds=30", until=_silent).run

    firsts = [_numbers(client.read(run, f"{run}/2", until=_anything))[0] for _ in range(7)]
    assert firsts == [3] * 5 + [2] * 2


def test_a_run_drifts_after_six_cuts(defective: Chooser) -> None:
    """`drifts` sends the cursor's event again once six readers were cut off."""
    client = defective("drifts")
    run = client.start("silence; seconds=30", until=_silent).run

    assert _numbers(client.read(run, f"{run}/2", until=_anything))[0] == 3
    assert _eventually(
        lambda: client.read(run, f"{run}/2", until=_anything), lambda seen: _numbers(seen)[0] == 2
    )


def test_the_newest_reader_wins(defective: Chooser) -> None:
    """`newest-reader-wins` ends a reader's stream when another one comes."""
    client = defective("newest-reader-wins")
    run = client.begin("silence; seconds=30")
    silent = Event()

    def noted(body: Body) -> bool:
        if _silent(body):
            silent.set()
        return False

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.read, run, until=noted)
        assert silent.wait(PATIENCE)
        client.read(run, until=_silent)
    assert first.result().types[-1] == "token"


def _eventually(ask: Callable[[], Answer], found: Callable[[Answer], bool]) -> bool:
    """Ask until the server has noticed that a reader has gone."""
    return any(found(ask()) for _ in range(200))


def test_a_written_event_counts_as_delivered(defective: Chooser) -> None:
    """`written-is-delivered` does not send again what it wrote last before a cut."""
    client = defective("written-is-delivered")
    run = client.start("silence; seconds=30", until=_silent).run

    assert _eventually(
        lambda: client.read(run, f"{run}/3", until=_anything), lambda seen: not seen.events
    )


def test_a_cut_start_starts_again(defective: Chooser) -> None:
    """`cut-start-starts-again` gives the key of a run that was cut off to another run."""
    client = defective("cut-start-starts-again")
    key = {"Idempotency-Key": "cut"}
    run = client.start("silence; seconds=30", headers=key, until=_silent).run

    assert _eventually(
        lambda: client.start("silence; seconds=30", headers=key, until=_anything),
        lambda seen: seen.run != run,
    )


def test_a_cut_start_goes_on(defective: Chooser) -> None:
    """`cut-start-goes-on` lets a reader without a cursor miss what was sent before the cut."""
    client = defective("cut-start-goes-on")
    key = {"Idempotency-Key": "cut"}
    run = client.start("silence; seconds=30", headers=key, until=_silent).run

    assert _eventually(
        lambda: client.start("silence; seconds=30", headers=key, until=_anything),
        lambda seen: seen.run == run and not seen.events,
    )


def test_a_key_is_forgotten_too_early_or_known_too_late(defective: Chooser) -> None:
    """Two defects of keys differ in whether the run that has the key is over."""
    early, late = defective("key-forgotten-at-the-end"), defective("key-unknown-while-live")
    key = {"Idempotency-Key": "k"}

    def runs(name: str, scenario: str) -> int:
        client = {"early": early, "late": late}[name]
        headers = {"Idempotency-Key": scenario}
        return len({client.start(scenario, headers=headers, until=_silent).run for _ in range(2)})

    assert early.start(headers=key).run != early.start(headers=key).run
    assert late.start(headers=key).run == late.start(headers=key).run
    assert (runs("early", "silence; seconds=30"), runs("late", "silence; seconds=30")) == (1, 2)


def test_a_finished_run_is_started_again(defective: Chooser) -> None:
    """`resume-restarts-when-finished` answers the terminal's cursor with another run."""
    client = defective("resume-restarts-when-finished")
    first = client.start()

    again = client.read(first.run, first.last.id)
    assert again.run != first.run
    assert again.types == first.types


def test_a_foreign_cursor_leads_away(defective: Chooser) -> None:
    """`foreign-cursor-leads-away` sends the events of the cursor's run below the path's."""
    client = defective("foreign-cursor-leads-away")
    one, other = client.start(), client.start()

    assert client.read(one.run, f"{other.run}/1").events[0].id == f"{other.run}/2"


def test_a_query_gets_one_too_many(defective: Chooser) -> None:
    """`query-one-too-many` is off by one in the query, and right in the header."""
    client = defective("query-one-too-many")
    run = client.start().run

    assert _numbers(client.read(run, query=f"?last_event_id={run}/5"))[0] == 5
    assert _numbers(client.read(run, f"{run}/5"))[0] == 6
