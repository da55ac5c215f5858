"""Driving a server: runs are counted, overload is waited out, a dead server is noticed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.cases import Case, case_of, requirement
from pytest_agentstream.probing import probe
from pytest_agentstream.requirements import MUST
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.verdicts import InDoubt, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from tests.conftest import Peer, RawServer
    from tests.core.conftest import Opened

    Script = Callable[[Peer], Awaitable[None]]
    Serving = Callable[..., AbstractContextManager[RawServer]]


@probe(scenarios=["complete"])
async def first_run(client: Driver) -> Observation:
    """A run."""
    return await client.run("complete")


@probe(scenarios=["complete"])
async def second_run(client: Driver) -> Observation:
    """Another run."""
    return await client.run("complete")


@probe(scenarios=["crash-first"])
async def refused_run(client: Driver) -> Observation:
    """A run to which 503 is an answer."""
    return await client.run("crash-first")


def looking_at_first() -> Case:
    @requirement("t.first", MUST, tier="core", text="It is so.", source="this test")
    def look(first_run: Observation) -> None:
        pass

    return made(look)


def looking_at_second() -> Case:
    @requirement("t.second", MUST, tier="core", text="It is so.", source="this test")
    def look(second_run: Observation) -> None:
        pass

    return made(look)


def made(function: object) -> Case:
    case = case_of(function)
    assert case is not None
    return case


async def good(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk('data: {"content": "hi"}\n\ndata: [DONE]\n\n')
    await peer.end()


def overloaded(status: str = "429 Too Many Requests", after: str = "0") -> Script:
    async def script(peer: Peer) -> None:
        await peer.answer(status, retry_after=after)

    return script


def test_overload_is_waited_out(serving: Serving, session: Opened) -> None:
    """Two refusals for overload and then a stream: the run is judged, the refusals are counted."""
    with (
        serving(good, overloaded(), overloaded("503 Service Unavailable"), good) as server,
        session(f"{server.origin}/chat") as opened,
    ):
        assert opened.judge(looking_at_first()).verdict is Verdict.MET
        assert (opened.ledger.throttled, opened.ledger.started) == (2, 4)
        assert len(server.peers) == 4


def test_overload_for_ever_is_not_tested(serving: Serving, session: Opened) -> None:
    """A server that stays overloaded is asked three times; then the option is told."""
    with (
        serving(good, overloaded()) as server,
        session(f"{server.origin}/chat") as opened,
    ):
        result = opened.judge(looking_at_first())
        assert len(server.peers) == 4
    assert result.verdict is Verdict.NOT_TESTED
    assert result.reason == "the server answered 429 to `complete` 3 times"
    assert result.option == "slow down: --agentstream-concurrency 1"


def test_overload_makes_runs_take_turns(serving: Serving, session: Opened) -> None:
    """Once the server is overloaded, runs are started one at a time."""
    under_way: list[int] = []
    most: list[int] = []

    async def counted(peer: Peer) -> None:
        under_way.append(1)
        most.append(len(under_way))
        await peer.stream()
        await peer.chunk('data: {"content": "hi"}\n\n')
        await asyncio.sleep(0.05)  # long enough for another run to come, if one did
        under_way.pop()
        await peer.chunk("data: [DONE]\n\n")
        await peer.end()

    with (
        serving(good, overloaded(), overloaded(), counted) as server,
        session(f"{server.origin}/chat") as opened,
    ):
        opened.begin([looking_at_first(), looking_at_second()])
        for case in (looking_at_first(), looking_at_second()):
            assert opened.judge(case).verdict is Verdict.MET
    assert most == [1, 1]


def test_a_provoked_503_is_an_answer(serving: Serving, session: Opened) -> None:
    """A crash before the first event may be told as 503: that is not waited out."""

    @requirement("t.crash", MUST, tier="core", text="It is so.", source="this test")
    def look(refused_run: Observation) -> None:
        assert refused_run.first.status == 503

    with (
        serving(good, overloaded("503 Service Unavailable")) as server,
        session(f"{server.origin}/chat", scenarios={"crash-first": {}}) as opened,
    ):
        assert opened.judge(made(look)).verdict is Verdict.MET
        assert opened.ledger.throttled == 0


@probe(scenarios=["complete"])
async def resumed_run(client: Driver) -> Observation:
    """A run that is joined again by repeating its start."""
    return await client.run("complete", backoff=Backoff(Random(0), base=0.0))


def test_reconnects_that_repeat_the_start_are_counted(
    serving: Serving, session: Opened, tmp_path: Path
) -> None:
    """Where a run is joined by its start request, each reconnect counts as a repeat of it."""
    dialect = tmp_path / "repeats.toml"
    dialect.write_text(
        'name = "repeats"\ntype_from = [{ key_present = ["content"] }]\n'
        "[start]\njson = {}\n"
        '[payload]\nsentinels = ["[DONE]"]\n'
        '[events.content]\ntext = "content"\n'
        '[order]\nterminal = [{ event = "[DONE]", outcome = "success" }]\n'
        '[cursor]\nsource = "sse-id"\n'
        '[resume]\nkind = "last-event-id"\nmethod = "POST"\n'
    )

    async def half(peer: Peer) -> None:
        await peer.stream()
        await peer.chunk('id: 1\ndata: {"content": "hi"}\n\n')

    @requirement("t.resumed", MUST, tier="core", text="It is so.", source="this test")
    def look(resumed_run: Observation) -> None:
        pass

    with (
        serving(good, half, half, good) as server,
        session(f"{server.origin}/chat", dialect=str(dialect)) as opened,
    ):
        assert opened.judge(made(look)).verdict is Verdict.MET
        assert opened.ledger.repeats == 2
        assert opened.ledger.started == 2


def test_runs_are_bounded(serving: Serving, session: Opened) -> None:
    """No more runs are started than are allowed; the rest is not tested, with the option."""
    with serving(good) as server, session(f"{server.origin}/chat", max_runs=2) as opened:
        first, second = map(opened.judge, (looking_at_first(), looking_at_second()))
        assert len(server.peers) == 2
    assert first.verdict is Verdict.MET
    assert second.verdict is Verdict.NOT_TESTED
    assert second.reason == "the limit of 2 runs is used up"
    assert second.option == "allow more: --agentstream-max-runs 12"


def test_a_doubt_counts_its_runs(serving: Serving, session: Opened) -> None:
    """A run that is probed again is one more run."""

    @requirement("t.doubt", MUST, tier="core", text="It is so.", source="this test")
    def look(first_run: Observation) -> None:
        if first_run.number == 2:
            raise InDoubt("late")

    with serving(good) as server, session(f"{server.origin}/chat") as opened:
        assert opened.judge(made(look)).verdict is Verdict.MET
        assert opened.ledger.started == len(server.peers) == 3


def test_a_setup_that_fails_later_is_not_tested(serving: Serving, session: Opened) -> None:
    """A setup step that was fine in the preflight and is refused later is named."""

    async def step(peer: Peer) -> None:
        await peer.answer("200 OK", '{"id": "a"}')

    steps = [{"request": "POST /threads", "capture": {"thread": "json:id"}}]
    with (
        serving(step, good, overloaded("500 Oops")) as server,
        session(f"{server.origin}/chat", setup=steps) as opened,
    ):
        result = opened.judge(looking_at_first())
    assert result.verdict is Verdict.NOT_TESTED
    assert result.reason.startswith(
        "setup 'POST /threads' failed: expected 2xx, the server answered"
    )
    assert result.option == "mend that step: [[tool.agentstream.setup]]"


SERVER = """
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    started = 0

    def do_POST(self):
        Handler.started += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        if b"die" in body:
            self.send_header("Content-Length", "1000")
        self.end_headers()
        if b"die" in body and Handler.started >= 3:
            self.wfile.write(b'data: {"content": "hi"}\\n\\n')
            os._exit(1)
        while b"die" in body:
            time.sleep(1)
        self.wfile.write(b'data: {"content": "hi"}\\n\\ndata: [DONE]\\n\\n')

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, which says its port first."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_a_server_that_is_gone(process: subprocess.Popen[str], session: Opened) -> None:
    """A server killed behind the preflight is one finding; all that needs it is not tested."""
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}/chat"
    with session(url) as opened:
        opened.begin([])
        process.kill()
        process.wait()
        results = [opened.judge(case) for case in (looking_at_first(), looking_at_second())]
        gone = opened.ledger.gone
    assert gone.startswith(
        "the server under test stopped accepting connections; first seen by the probe `first_run`"
    )
    for result in results:
        assert result.verdict is Verdict.NOT_TESTED
        assert result.reason == f"server gone: {gone}"
        assert result.option == "see its log for why it ended"


@probe(scenarios=["crash"])
async def deadly_run(client: Driver) -> Observation:
    """A run in which the server dies."""
    return await client.run("crash")


@probe(scenarios=["crash"])
async def run_beside(client: Driver) -> Observation:
    """A run that is under way when the server dies."""
    return await client.run("crash")


def test_a_server_that_dies_in_a_run(process: subprocess.Popen[str], session: Opened) -> None:
    """One run is judged on what the server's death cut short; the others are not tested."""

    @requirement("t.deadly", MUST, tier="core", text="It is so.", source="this test")
    def look(deadly_run: Observation) -> None:
        pass

    @requirement("t.beside", MUST, tier="core", text="It is so.", source="this test")
    def look_beside(run_beside: Observation) -> None:
        pass

    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}/chat"
    scenarios = {"crash": {"json": {"message": "die"}}}
    with session(url, scenarios=scenarios) as opened:
        opened.begin([made(look), made(look_beside)])
        results = [opened.judge(made(look)), opened.judge(made(look_beside))]
        assert opened.ledger.gone
    words = sorted(str(result.verdict) for result in results)
    assert words == ["met", "not tested"]
    (untested,) = [one for one in results if one.verdict is Verdict.NOT_TESTED]
    assert untested.reason.startswith("server gone: ")
