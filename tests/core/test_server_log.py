"""The server's log under a finding: what was written meanwhile, and who else may have caused it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from pytest_agentstream.cases import case_of, requirement
from pytest_agentstream.probing import probe
from pytest_agentstream.requirements import MUST
from pytest_agentstream.server_log import joined
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from tests.core.conftest import Opened

SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))["message"]
        os.write(1, f"serves {message}\\n".encode())  # in one piece, beside other threads
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'data: {"choices":[{"delta":{"content":"hi"}}]}\\n\\n')
        time.sleep(0.5 if message in ("silence", "crash") else 0.0)
        self.wfile.write(b"data: [DONE]\\n\\n")
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

APART = 1.2
"""Seconds between two runs that are told apart: a busy machine reads a line when it comes to it."""

NAMES = ("complete", "silence", "long", "tools", "crash", "echo")


@probe(runs=0)
async def a_while() -> None:
    """What sets the first runs apart from the preflight's."""
    await anyio.sleep(APART)


@probe(scenarios=["silence"])
async def slow_run(client: Driver, a_while: None) -> Observation:
    """A run that takes its time."""
    return await client.run("silence")


@probe(scenarios=["long"])
async def beside_it(client: Driver, a_while: None) -> Observation:
    """A run that is over while the slow one goes on."""
    return await client.run("long")


@probe(runs=0)
async def a_while_later(slow_run: Observation, beside_it: Observation) -> None:
    """What sets others apart from these."""
    await anyio.sleep(APART)


@probe(scenarios=["tools"], exclusive=True)
async def afterwards(client: Driver, a_while_later: None) -> Observation:
    """A run that nothing else is beside."""
    return await client.run("tools")


@probe(runs=0)
async def both(slow_run: Observation, afterwards: Observation) -> list[Observation]:
    """Two runs with another time between them."""
    return [slow_run, afterwards]


@probe(scenarios=["crash", "echo"], exclusive=True)
async def between(client: Driver, slow_run: Observation) -> Observation:
    """Two runs that nobody looks at, between two others; the first may be in the margin of one."""
    await client.run("crash")
    await anyio.sleep(APART)
    return await client.run("echo")


@probe(runs=0, exclusive=True)
async def a_while_behind(between: Observation) -> None:
    """What sets the last run apart from those."""
    await anyio.sleep(APART)


@probe(scenarios=["tools"], exclusive=True)
async def at_last(client: Driver, a_while_behind: None) -> Observation:
    """A run behind it."""
    return await client.run("tools")


def alone_is_wrong(afterwards: Observation) -> None:
    expect(False, expected="this", actual="that")


def alone_is_wrong_at(afterwards: Observation) -> None:
    expect(False, expected="this", actual="that", at=afterwards.last)


def slow_is_wrong(slow_run: Observation) -> None:
    expect(False, expected="this", actual="that", at=slow_run.last)


def both_are_wrong(slow_run: Observation, at_last: Observation) -> None:
    expect(False, expected="this", actual="that", at=(slow_run.first, at_last.first))


def composed_is_wrong(both: list[Observation]) -> None:
    expect(False, expected="this", actual="that")


WARNING = "(lines of probes that ran at the same time may be among these: "
BESIDE, BETWEEN = f"{WARNING}`beside_it`)", f"{WARNING}`beside_it`, `between`)"

CASES = {
    "without a place": (alone_is_wrong, ["serves tools"]),
    "with one": (alone_is_wrong_at, ["serves tools"]),
    "beside another": (slow_is_wrong, [BESIDE, "serves long", "serves silence"]),
    "of two times": (
        both_are_wrong,
        [BETWEEN, "serves crash", "serves long", "serves silence", "serves tools"],
    ),
    "of a probe that asks nothing": (
        composed_is_wrong,
        [BESIDE, "serves long", "serves silence", "serves tools"],
    ),
}


@pytest.mark.parametrize(("check", "log"), CASES.values(), ids=list(CASES))
def test_what_was_written_meanwhile(
    session: Opened, tmp_path: Path, check: Callable[..., None], log: list[str]
) -> None:
    """A finding shows what the server wrote while its own runs were under way, and nothing else;
    other probes that ran at the same time are named."""
    (tmp_path / "server.py").write_text(SERVER)
    options = {
        "command": [sys.executable, str(tmp_path / "server.py"), "{port}"],
        "scenarios": {name: {"json": {"message": name}} for name in NAMES},
    }
    case = case_of(
        requirement("log.shown", MUST, tier="core", text="It is so.", source="this", hint="do so")(
            check
        )
    )
    assert case is not None
    with session("/chat", **options) as opened:
        opened.catalogue = {case.slug: case}
        opened.begin([case])
        opened.scheduler.start([beside_it])
        found = opened.judge(case)

    assert sorted(found.log) == log


def test_windows_that_overlap() -> None:
    """A line is shown once, also where two exchanges were under way when it was written."""
    assert joined([(5, 6), (1, 3), (2, 4)]) == [(1, 4), (5, 6)]
    assert joined([(1, 9), (2, 4)]) == [(1, 9)]
    assert joined([]) == []
