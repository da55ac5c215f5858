"""A Toxiproxy that goes away in the midst of a session, or was never there: what is said, and kept.

Each probe ends the Toxiproxy at one moment of its own.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.cases import case_of, requirement
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.faults import Cut, Latency, LimitData, Toxiproxy
from pytest_agentstream.faults import toxiproxy_api as api
from pytest_agentstream.probing import probe
from pytest_agentstream.reference import REFERENCE, TOKEN, reference_server
from pytest_agentstream.requirements import MUST
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.session import Session
from pytest_agentstream.settings import Loaded, Settings
from pytest_agentstream.verdicts import Verdict, expect
from tests.services import Service, free_port, toxiproxy_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_agentstream.cases import Case
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.wire import Block
    from tests.conftest import Peer, RawServer

    Serving = Callable[..., AbstractContextManager[RawServer]]

NO_ONE_TO_BLAME = "came to nothing, and not by the server's fault: "

PATIENCE = 30.0

running: list[Service] = []
"""The Toxiproxy of the test that runs: a probe can't be given it."""


def brief() -> Backoff:
    """Waits between attempts, far shorter than a client's."""
    return Backoff(Random(0), base=0.01, cap=0.02)


@probe(scenarios=["complete"])
async def killed_while_it_streams(client: Driver) -> Observation:
    """A run that has begun through Toxiproxy when that is killed."""

    def kill(_: Block) -> None:
        running[0].kill()

    async with client.through([Latency(latency=0.01)], repeat=True) as slow:
        return await slow.run("complete", on_block=kill, backoff=brief())


@probe(scenarios=["complete"])
async def killed_before(client: Driver) -> Observation:
    """A run that is to begin when Toxiproxy has been killed already."""
    async with client.through([Latency(latency=0.01)], repeat=True) as slow:
        running[0].kill()
        return await slow.run("complete")


@probe(scenarios=["complete"])
async def killed_in_between(client: Driver) -> Observation:
    """A run that is cut by the embedded proxy, and joined again when Toxiproxy has been killed."""
    async with client.through([Cut(after_event=1)], [Latency(latency=0.01)]) as cutting:
        running[0].kill()
        return await cutting.run("complete", backoff=brief())


@probe(scenarios=["complete"])
async def frozen(client: Driver) -> Observation:
    """A run that has ended when Toxiproxy answers no more."""
    async with client.through([Latency(latency=0.01)], repeat=True) as slow:
        run = await slow.run("complete")
        running[0].process.send_signal(signal.SIGSTOP)
        return run


@probe(scenarios=["complete"])
async def cut_by_both(client: Driver) -> Observation:
    """A run that is cut by Toxiproxy after its head, and then by the embedded proxy."""
    async with client.through([LimitData(bytes=600)], [Cut(after_event=1)]) as cutting:
        return await cutting.run("complete")


@probe(scenarios=["complete"])
async def cut_by_the_embedded(client: Driver) -> Observation:
    """A run that is cut by the embedded proxy, and joined again through it."""
    async with client.through([Cut(after_event=1)]) as cutting:
        return await cutting.run("complete", backoff=brief())


def expect_terminal(run: Observation) -> None:
    expect(run.terminals, expected="a terminal", actual="none")


def check_killed_while_it_streams(killed_while_it_streams: Observation) -> None:
    expect_terminal(killed_while_it_streams)


def check_killed_before(killed_before: Observation) -> None:
    expect_terminal(killed_before)


def check_killed_in_between(killed_in_between: Observation) -> None:
    expect_terminal(killed_in_between)


def check_frozen(frozen: Observation) -> None:
    expect_terminal(frozen)


def check_cut_by_both(cut_by_both: Observation) -> None:
    expect_terminal(cut_by_both)


def check_cut_by_the_embedded(cut_by_the_embedded: Observation) -> None:
    expect_terminal(cut_by_the_embedded)


def case(check: Callable[..., None]) -> Case:
    """The case that a check is; it becomes one here, or pytest would collect it."""
    slug = check.__name__.replace("_", "-")
    text = "The run has a terminal."
    made = case_of(requirement(slug, MUST, tier="core", text=text, source="a test")(check))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def reference() -> Iterator[str]:
    """The reference server in a process of its own."""
    with reference_server() as url:
        yield url


@contextmanager
def session(url: str, toxiproxy: str) -> Iterator[Session]:
    settings = Settings.model_validate({**REFERENCE, "url": url, "toxiproxy": toxiproxy})
    opened = Session(Loaded(settings, "a test"), catalogue())
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def service() -> Iterator[Service]:
    """A Toxiproxy that probes may end."""
    with toxiproxy_server() as service:
        running[:] = [service]
        yield service
        service.kill()


def test_while_it_is_there(reference: str, service: Service) -> None:
    """A run that is cut by both proxies is joined again, and the case says by which it was cut."""
    with session(reference, service.url) as opened:
        result = opened.judge(case(check_cut_by_both))
        assert (result.verdict, result.reason) == (Verdict.MET, "")
        assert result.control == (
            "complete: header, through "
            "connection 1: a FIN after 600 bytes of the connection (Toxiproxy) | "
            "connection 2: a FIN after event 1 "
            "(embedded proxy: Toxiproxy cannot cut after an event) | seed 0"
        )
        assert opened.ledger.faults == {
            "Toxiproxy": 2,
            "embedded proxy: Toxiproxy cannot cut after an event": 1,
        }
    assert api.Api(service.url).proxies() == {}


@pytest.mark.parametrize(
    "check", [check_killed_while_it_streams, check_killed_before, check_killed_in_between]
)
def test_it_is_killed(reference: str, service: Service, check: Callable[..., None]) -> None:
    """The probe is an error that names Toxiproxy; the recording is kept, the session goes on.

    What the embedded proxy injects is tested all the same.
    """
    with session(reference, service.url) as opened:
        result = opened.judge(case(check))
        assert result.verdict is Verdict.ERROR
        assert result.reason == (
            f"the probe `{check.__name__.removeprefix('check_')}` {NO_ONE_TO_BLAME}"
            f"Toxiproxy at {service.url} can't be reached: Connection refused"
        )
        preflight, cut = opened.recorded()
        assert preflight.first.ended_cleanly
        assert not cut.last.ended_cleanly
        assert not opened.ledger.gone
        later = opened.judge(case(check_cut_by_both))
        assert (later.verdict, later.option) == (
            Verdict.NOT_TESTED,
            "start it again, and run again",
        )
        assert later.reason.startswith("Toxiproxy has gone: Toxiproxy at")
        assert opened.judge(case(check_cut_by_the_embedded)).verdict is Verdict.MET
        assert opened.judge(catalogue()["http.status-200"]).verdict is Verdict.MET


def test_it_freezes(reference: str, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no more is given up, and is not waited for again at the end."""
    with session(reference, service.url) as opened:
        opened.begin([])
        monkeypatch.setattr(api, "LIMIT", 0.5)
        result = opened.judge(case(check_frozen))
        assert result.verdict is Verdict.ERROR
        assert result.reason.endswith(f"Toxiproxy at {service.url} did not answer within 0.5 s")
        monkeypatch.setattr(api, "LIMIT", 60.0)


def test_it_was_never_there(serving: Serving) -> None:
    """Without it nothing is sent to the server, and the session says why it can't begin."""

    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK")

    url = f"http://127.0.0.1:{free_port()}"
    with serving(answer) as server, session(f"{server.origin}/run", url) as opened:
        with pytest.raises(Exception, match=f"Toxiproxy at {url} can't be reached") as raised:
            opened.begin([])
        assert "\n" not in str(raised.value)
        assert server.peers == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_suite_is_ended(
    reference: str, service: Service, tmp_path: Path, end: signal.Signals
) -> None:
    """Ended in its midst, the suite leaves no proxy, or one that the next session removes."""
    options = {
        "dialect": "native",
        "heartbeat": "0.2",
        "url": reference,
        "toxiproxy": service.url,
        "header": f"Authorization: Bearer {TOKEN}",
    }
    words = [f"--agentstream-{name}={value}" for name, value in options.items()]
    suite = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--agentstream-control-header", *words, "agentstream"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with suite:
        there = api.Api(service.url)
        while not there.proxies():
            assert suite.poll() is None
        suite.send_signal(end)
        suite.wait(PATIENCE)
    if end != signal.SIGINT:
        with Toxiproxy(service.url):
            pass
    assert there.proxies() == {}
