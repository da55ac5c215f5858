"""The table of defects and of variations: each can be put together, and makes a difference."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import pytest

from reference_server.defects import DEFECTS
from reference_server.encoders import ENCODERS
from reference_server.parts import Parts
from reference_server.variations import VARIATIONS

if TYPE_CHECKING:
    from tests.reference_server.conftest import Answer, Body, Client, Serve

Chooser = Callable[[str], "Client"]


@pytest.fixture(scope="module")
def defective(serve: Serve) -> Chooser:
    """Serve every defect in one process."""
    made = {
        name: defect.make(Parts(encoder=ENCODERS[defect.dialect]))
        for name, defect in DEFECTS.items()
    }
    return serve.many({**made, "good": Parts()})


@pytest.fixture(scope="module")
def good(defective: Chooser) -> Callable[[str], str]:
    """Return what the good server says in a scenario, asked once for each."""

    @cache
    def said(scenario: str) -> str:
        return defective("good").start(scenario).raw.decode()

    return said


@pytest.fixture(scope="module")
def varied(serve: Serve) -> Chooser:
    """Serve every variation of the response in one process."""
    return serve.many({name: one.make(Parts()) for name, one in VARIATIONS.items()})


@pytest.fixture(scope="module")
def unvaried(defective: Chooser) -> list[tuple[str, object]]:
    """Return what a good server's `tools` consists of."""
    return [(event.type, event.payload) for event in defective("good").start("tools").events]


def _over(body: Body) -> bool:
    return any(event.type == "done" for event in body.events)


def test_the_table_is_in_order() -> None:
    """Names are kebab-case, slugs have a family and a name, sentences end."""
    for defect in DEFECTS.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", defect.name)
        assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", defect.breaks)
        assert defect.text.endswith(".")
        assert defect.dialect in ENCODERS
    assert not {*DEFECTS} & {*VARIATIONS}


def test_every_defective_server_still_serves(defective: Chooser) -> None:
    """A defect is narrow: its server starts runs and sends something of them."""

    def tools(name: str) -> Answer:
        return defective(name).start("tools", until=_over)

    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(DEFECTS, pool.map(tools, DEFECTS), strict=True))

    assert {seen.status for seen in answers.values()} == {200, 202}
    assert [name for name, seen in answers.items() if len(seen.raw) < 1000] == []


@pytest.mark.parametrize("name", sorted({*VARIATIONS} - {"cr", "close-delimited"}))
def test_a_variation_says_the_same(
    varied: Chooser, unvaried: list[tuple[str, object]], name: str
) -> None:
    """A variation changes nothing that a client sees."""
    seen = varied(name).start("tools")

    assert [(e.type, e.payload) for e in seen.events] == unvaried
    assert [e.id for e in seen.events] == [f"{seen.run}/{n + 1}" for n in range(len(unvaried))]


def test_cr_line_ends_have_no_lf(varied: Chooser) -> None:
    """The variation `cr` ends every line in CR alone."""
    raw = varied("cr").start("complete").raw

    assert b"\n" not in raw
    assert raw.endswith(b"\r\r")


def test_a_close_delimited_body_has_no_chunks(serve: Serve) -> None:
    """The variation `close-delimited` says Connection: close and sends no chunks."""
    seen = serve(VARIATIONS["close-delimited"].make(Parts())).start("complete")

    assert seen.headers["connection"] == "close"
    assert "transfer-encoding" not in seen.headers
    assert seen.last.type == "done"


Difference = tuple[str, str, Callable[[str], object], object]


def _types(raw: str) -> list[str]:
    return re.findall(r"^event: (.*)$", raw, re.MULTILINE)


DIFFERENCES: list[Difference] = [
    ("byte-order-mark", "complete", lambda raw: raw[0], "\ufeff"),
    ("last-blank-line-missing", "complete", lambda raw: raw.endswith("\n\n"), False),
    ("retry-with-unit", "complete", lambda raw: "retry: 1.5s\n" in raw, True),
    ("type-field", "complete", lambda raw: "\ntype: token\n" in raw, True),
    ("nan", "complete", lambda raw: '"count":NaN' in raw, True),
    ("field-dropped", "complete", lambda raw: '"count"' in raw, False),
    ("null-optional", "complete", lambda raw: '"tool_use_id":null' in raw, True),
    ("token-first", "complete", lambda raw: _types(raw)[0], "token"),
    ("tool-left-open", "tools", lambda raw: _types(raw).count("tool_result"), 1),
    ("tool-opened-twice", "tools", lambda raw: _types(raw).count("tool_use"), 3),
    ("progress-goes-back", "tools", lambda raw: '"percentage":40' in raw, True),
    ("no-heartbeat", "silence; seconds=0.08", lambda raw: raw.count(": hb"), 0),
    ("one-heartbeat-only", "silence; seconds=0.08", lambda raw: raw.count(": hb"), 1),
    ("heartbeat-as-block", "silence; seconds=0.08", lambda raw: ": hb\n\n" in raw, True),
    ("heartbeat-as-token", "silence; seconds=0.08", lambda raw: '{"text":""}' in raw, True),
    ("heartbeat-moves-cursor", "silence; seconds=0.08", lambda raw: ": hb\nid: " in raw, True),
    ("unlocked-heartbeats", "long", lambda raw: "x: hb\nx" in raw, True),
    ("two-terminals", "complete", lambda raw: _types(raw)[-2:], ["done", "done"]),
    ("token-after-done", "complete", lambda raw: _types(raw)[-2:], ["done", "token"]),
    ("success-unsaid", "complete", lambda raw: _types(raw)[-1], "progress"),
    ("crash-says-nothing", "crash", lambda raw: _types(raw)[-1], "token"),
    ("crash-first-says-nothing", "crash-first", lambda raw: raw, ""),
    ("base-exceptions-swallowed", "crash; kind=cancelled", lambda raw: _types(raw)[-1], "token"),
    ("base-exceptions-swallowed", "crash", lambda raw: _types(raw)[-2:], ["error", "done"]),
    ("crash-is-completed", "crash", lambda raw: '"status":"completed"' in raw, True),
    ("last-event-lost", "crash; marker=gone", lambda raw: "gone" in raw, False),
    ("last-event-lost", "crash; marker=gone", lambda raw: _types(raw)[-2:], ["error", "done"]),
    ("exception-text", "crash; secret=srv/app", lambda raw: "srv/app" in raw, True),
    ("failure-is-completed", "fail", lambda raw: '"status":"completed"' in raw, True),
    ("tool-result-after-error", "crash; kind=tool", lambda raw: _types(raw)[-2], "tool_result"),
    ("no-done-after-error", "fail", lambda raw: _types(raw)[-1], "error"),
    ("id-missing", "complete", lambda raw: "/3\n" in raw, False),
    ("id-repeated", "complete", lambda raw: raw.count("/3\n"), 2),
    ("id-skipped", "complete", lambda raw: "/4\n" in raw, False),
    ("lone-surrogate", "complete", lambda raw: '{"text":"and \\ud83d "}' in raw, True),
    ("stack-trace", "crash", lambda raw: "Traceback (most recent" in raw, True),
    ("two-terminals-after-crash", "crash", lambda raw: _types(raw)[-2:], ["done", "done"]),
    ("token-after-crash", "crash", lambda raw: _types(raw)[-1], "token"),
    ("no-terminal", "tools", lambda raw: _types(raw)[-1], "token"),
    ("remainder-lost", "echo", lambda raw: '{"text":"lo"}' in raw, False),
]


KEPT = {
    ("base-exceptions-swallowed", "crash"),
    ("last-event-lost", "crash; marker=gone"),
}
"""Rows of DIFFERENCES that say what a defect leaves as it is."""


@pytest.mark.parametrize(("name", "scenario", "look", "found"), DIFFERENCES)
def test_a_defect_does_what_it_says(
    defective: Chooser,
    good: Callable[[str], str],
    name: str,
    scenario: str,
    look: Callable[[str], object],
    found: object,
) -> None:
    """What the defect's sentence says is on the wire, and is not without it."""
    bad = defective(name).start(scenario).raw.decode()

    assert look(bad) == found
    assert look(good(scenario)) != found or (name, scenario) in KEPT


RESUMES: list[tuple[str, Callable[[list[int]], list[int]]]] = [
    ("good", lambda suffix: suffix),
    ("one-too-many", lambda suffix: [suffix[0] - 1, *suffix]),
    ("one-too-few", lambda suffix: suffix[1:]),
    ("terminal-not-replayed", lambda suffix: suffix),
    ("page-border-twice", lambda suffix: suffix),
    ("drifts", lambda suffix: suffix),
]


LIVE: list[tuple[str, Callable[[list[int], int], list[int]]]] = [
    ("good", lambda suffix, seam: suffix),
    ("live-tail-only", lambda suffix, seam: [n for n in suffix if n > seam]),
    ("seam-lost", lambda suffix, seam: [n for n in suffix if n != seam + 1]),
    ("seam-twice", lambda suffix, seam: sorted([*suffix, seam])),
    ("first-live-twice", lambda suffix, seam: sorted([*suffix, seam + 1])),
    ("stops-after-replay", lambda suffix, seam: [n for n in suffix if n <= seam]),
    ("numbering-restarts", lambda suffix, seam: [n - 1 for n in suffix]),
    ("live-numbering-restarts", lambda suffix, seam: [n - seam if n > seam else n for n in suffix]),
    ("query-one-too-many", lambda suffix, seam: suffix),
]


@pytest.mark.parametrize(("name", "expected"), LIVE)
def test_a_live_resume_defect_does_what_it_says(
    defective: Chooser, name: str, expected: Callable[[list[int], int], list[int]]
) -> None:
    """A run that is resumed in its silence gets what the defect makes of replay and live tail."""
    client = defective(name)
    cut = client.start("silence; seconds=0.05", until=lambda body: len(body.events) > 3)

    again = client.read(cut.run, f"{cut.run}/1")
    numbers = [int(event.id.rpartition("/")[2]) for event in again.events]
    assert numbers == expected(list(range(2, 9)), 4)


@pytest.mark.parametrize(("name", "expected"), RESUMES)
def test_a_resume_defect_does_what_it_says(
    defective: Chooser, name: str, expected: Callable[[list[int]], list[int]]
) -> None:
    """A cursor gets back what the defect makes of the suffix."""
    client = defective(name)
    first = client.start("complete")

    again = client.read(first.run, f"{first.run}/5")
    numbers = [int(event.id.rpartition("/")[2]) for event in again.events]
    assert numbers == expected(list(range(6, len(first.events) + 1)))


def test_a_live_tail_stays_open(defective: Chooser) -> None:
    """`live-tail-stays-open` sends heartbeats no more, and does not end behind the terminal."""
    client = defective("live-tail-stays-open")
    cut = client.start("silence; seconds=0.05", until=_tokens(3))

    again = client.read(cut.run, cut.last.id, until=_over)
    with pytest.raises(httpx.ReadTimeout):
        client.read(client.start("silence; seconds=0.05", until=_tokens(3)).run)
    assert again.last.type == "done"


def test_the_newest_reader_wins(defective: Chooser) -> None:
    """`newest-reader-wins` ends the first reader's stream when a second one comes."""
    client = defective("newest-reader-wins")
    run = client.begin("silence; seconds=0.2")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.read, run)
        client.read(run, until=_tokens(3))
        second = client.read(run)
    assert first.result().types[-1] == "token"
    assert second.types[-1] == "done"


def test_a_written_event_counts_as_delivered(defective: Chooser) -> None:
    """`written-is-delivered` never sends again what was written last before a cut."""
    client = defective("written-is-delivered")
    cut = client.start("silence; seconds=0.2", until=_tokens(3))
    _gone()

    again = client.read(cut.run, f"{cut.run}/3")
    assert again.events[0].id == f"{cut.run}/5"


def test_a_cut_start_is_not_joined(defective: Chooser) -> None:
    """`cut-start-starts-again` and `cut-start-goes-on` mistreat a start that was cut off."""
    key = {"Idempotency-Key": "cut"}
def test_a_crash_ends_others(defective: Chooser) -> None:
    """`crash-ends-others` ends a `silence` that is going on beside a crash."""
    client = defective("crash-ends-others")
    run = client.begin("silence; seconds=30")
    client.read(run, until=lambda body: bool(body.events))
    client.start("crash")

    assert client.read(run).last.payload["status"] == "error"
