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
    from tests.reference_server.conftest import Answer, Body, Chooser, Serve


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
        assert [*defect.options[::2]] == [text for text in defect.options if text[0] == "-"]
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


def test_a_crash_ends_others(defective: Chooser) -> None:
    """`crash-ends-others` ends a `silence` that is going on beside a crash."""
    client = defective("crash-ends-others")
    run = client.begin("silence; seconds=30")
    client.read(run, until=lambda body: bool(body.events))
    client.start("crash")

    assert client.read(run).last.payload["status"] == "error"
