"""The suite's own client through the proxy: recordings of the server, and runs that are whole."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.client import Client
from pytest_agentstream.cookies import Jar
from pytest_agentstream.dialects import load
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.faults import Connection, Cut, Fault, FaultProxy, HalfOpen, Refuse, Stall
from pytest_agentstream.recording import EndKind, Phase, Recording, Request, Run
from pytest_agentstream.reference import TOKEN, reference_server
from pytest_agentstream.target import Target, Timeouts
from pytest_agentstream.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Peer

TLS = Path(__file__).parent.parent / "tls"
EVENT = "id: 1\ndata: {}\n\n"


async def endless(peer: Peer) -> None:
    await peer.stream()
    for _ in range(5):
        await peer.chunk(EVENT)
    await peer.left()


ENDS: dict[Fault, tuple[EndKind, int]] = {
    Cut(after_event=3): (EndKind.CUT, 3),
    Cut(after_event=3, into_next=4): (EndKind.CUT, 3),
    Cut(after_event=3, how="rst"): (EndKind.RESET, 3),
    Cut(after_bytes=10): (EndKind.CUT, 0),
    Refuse(): (EndKind.RESET, 0),
    Stall(after_event=2): (EndKind.TIMEOUT, 2),
    HalfOpen(after_event=4): (EndKind.CUT, 4),
}


@pytest.mark.parametrize("fault", ENDS, ids=lambda fault: fault.describe())
def test_ends(bench: Callable[..., Any], fault: Fault) -> None:
    """A recording has the end that the fault makes, and the events before it."""

    async def main() -> Recording:
        async with bench(endless, [fault]) as it:
            transport = HttpTransport(via=it.proxy.address)
            url = f"{it.server.origin}/run?a=b"
            recording = await transport.exchange(
                Request("GET", url), timeouts=Timeouts(silence=0.3)
            )
            assert recording.request.url == url
            assert ("Host", it.server.origin.removeprefix("http://")) in recording.request.headers
            return recording

    recording = asyncio.run(main())
    kind, events = ENDS[fault]
    assert recording.end.kind is kind, recording.end
    assert recording.end.phase is (Phase.SILENCE if kind is EndKind.TIMEOUT else None)
    assert sum(block.event is not None for block in recording.blocks) == events


def test_the_server_is_asked_as_without_a_proxy(bench: Callable[..., Any]) -> None:
    """Through the proxy an https server gets its own name in TLS and in Host."""
    names: list[str | None] = []
    asked: list[tuple[str, str, str]] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    context.sni_callback = lambda _, name, __: names.append(name)

    async def answer(peer: Peer) -> None:
        asked.append((peer.method, peer.target, peer.headers["host"]))
        await peer.answer("200 OK", "yes", set_cookie="a=b")

    async def main() -> None:
        options = {"tls": context, "ca_file": str(TLS / "cert.pem"), "host": "localhost"}
        async with bench(answer, **options) as it:
            netloc = it.server.origin.replace("https://127.0.0.1", "localhost")
            transport, jar = HttpTransport(via=it.proxy.address), Jar()
            for _ in range(2):
                request = Request("POST", f"https://{netloc}/run", (), b"{}")
                recording = await transport.exchange(request, timeouts=Timeouts(), jar=jar)
                assert recording.end.kind is EndKind.COMPLETE
            assert asked == [("POST", "/run", netloc)] * 2
            assert ("Cookie", "a=b") in recording.request.headers
            assert recording.request.url == f"https://{netloc}/run"

    asyncio.run(main())
    assert names == ["localhost", "localhost"]


def test_a_connection_that_is_kept(bench: Callable[..., Any]) -> None:
    """A transport that keeps its connection keeps it to the proxy."""

    async def answer(peer: Peer) -> None:
        while True:
            await peer.answer("200 OK", "yes")
            if not await peer.read_request():
                return

    async def main() -> None:
        async with bench(answer) as it:
            transport = HttpTransport(via=it.proxy.address)
            url = f"{it.server.origin}/run"
            async with transport.keeping_alive(url) as kept:
                for _ in range(3):
                    recording = await kept.exchange(Request("GET", url), timeouts=Timeouts())
                    assert recording.body == b"yes"
            assert len(it.proxy.connections) == 1

    asyncio.run(main())


@pytest.fixture(scope="module")
def reference() -> Iterator[Target]:
    """The reference server in a process of its own."""
    with reference_server() as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        yield Target(url=url, dialect="native", headers=headers, control_header=True)


PLANS: dict[str, list[list[Fault]]] = {
    "nothing": [],
    "after event 3": [[Cut(after_event=3)]],
    "inside event 4": [[Cut(after_event=3, into_next=9, how="rst")]],
    "before the first": [[Cut(after_event=0)]],
    "again and again": [[Cut(after_event=1)]] * 4,
    "half-open": [[HalfOpen(after_event=2)]],
}


@pytest.mark.parametrize("name", PLANS)
def test_runs_are_whole(reference: Target, name: str) -> None:
    """Whatever is cut, the client resumes, and the run is the whole run, nothing lost or twice."""

    async def main() -> tuple[Run, list[Connection]]:
        async with FaultProxy(reference.url) as proxy:
            await proxy.script(*PLANS[name])
            transport = HttpTransport(via=proxy.address)
            client = Client(reference, load("native"), transport=transport)
            run = await client.run("complete")
            return run, proxy.connections

    run, connections = asyncio.run(main())
    events = [event for each in run.exchanges for event in load("native").events(each)]
    assert events[-1].role is Role.TERMINAL
    assert [event.block.id.rpartition("/")[2] for event in events if event.block.id] == [
        str(number) for number in range(1, len(events) + 1)
    ]
    assert run.synthetic == ""
    assert len(run.exchanges) == len(PLANS[name]) + 1
    assert [len(each.fired) for each in connections] == [1] * len(PLANS[name]) + [0]
