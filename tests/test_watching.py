"""Watching: when a client has seen enough, and how it knows a terminal among many blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import load
from pytest_agentstream.recorder import Recorder
from pytest_agentstream.recording import Request
from pytest_agentstream.watching import TerminalWatch, after_events, when
from pytest_agentstream.wire import decode

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = """
name = "watched"
title = "Watched"
verified_against = "nothing"
verified_on = "2026-11-21"
source = "these tests"
[payload]
sentinels = ["[DONE]"]
[events."*"]
"""
DIALECTS = {
    "by name": """
type_from = [{ json_path = "type" }]
[order]
terminal = [{ event = "end", outcome = "success" }]
""",
    "by glob": """
type_from = [{ json_path = "type" }]
[order]
terminal = [{ event = "en*", outcome = "success" }]
""",
    "by sentinel": """
type_from = [{ json_path = "type" }]
[order]
terminal = [{ event = "[DONE]", outcome = "success" }]
""",
    "by constant": """
type_from = [{ constant = "end" }]
[order]
terminal = [{ event = "end", outcome = "success", where = { last = true } }]
""",
    "by what came before": """
type_from = [{ json_path = "type" }]
[order]
terminal = [{ event = "end", after = "start", outcome = "success" }]
""",
}
STREAM = "".join(
    f"data: {data}\n\n"
    for data in (
        '{"type": "end of nothing", "last": false}',
        '{"type": "text", "text": "the end"}',
        '{"type": "start"}',
        '{"type": "end", "last": true}',
        "[DONE]",
    )
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("by name", [3]),
        ("by glob", [0, 3]),
        ("by sentinel", [4]),
        ("by constant", [3]),
        ("by what came before", [3]),
    ],
)
def test_terminals_are_noticed(tmp_path: Path, name: str, expected: list[int]) -> None:
    """A terminal is noticed with its block, however the dialect tells it from other events."""
    path = tmp_path / "watched.toml"
    top, _, tables = DIALECTS[name].partition("[order]")
    head, _, rest = PROFILE.partition("[payload]")
    path.write_text(f"{head}{top}[payload]{rest}[order]{tables}")
    watch = TerminalWatch(load(path))
    recorder = Recorder()
    recorder.begin(Request("GET", "http://127.0.0.1/"))
    blocks = decode([(0.0, STREAM.encode())])
    found = [block.index for block in blocks if watch.is_terminal(block, recorder)]
    assert found == expected
    assert watch.seen


def test_after_events_counts_events() -> None:
    """Only what is dispatched counts, not comments."""
    blocks = decode([(0.0, b": hb\n\ndata: 1\n\n: hb\n\ndata: 2\n\n")])
    on_block = after_events(2)
    answers = [on_block(block) for block in blocks]
    assert [answer is not None for answer in answers] == [False, False, False, True]


def test_when_holds() -> None:
    """The first block for which something holds stops the exchange, or begins a last wait."""
    (block,) = decode([(0.0, b"data: 1\n\n")])
    assert when(lambda _: False, "why")(block) is None
    answer = when(lambda _: True, "why", 2.0)(block)
    assert answer is not None
    assert (answer.seconds, answer.why) == (2.0, "why")
