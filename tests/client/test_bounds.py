"""What a client bounds by itself: how long it follows one run, and how much it keeps of any."""

from __future__ import annotations

import gzip
import socket
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.client import Client
from pytest_agentstream.dialects import load
from pytest_agentstream.faults import Cut, FaultProxy
from pytest_agentstream.recorder import Recorder, Room
from pytest_agentstream.recording import EndKind, Phase, Request
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.target import Target, Timeouts
from pytest_agentstream.transport import HttpTransport
from pytest_agentstream.wire import decode

if TYPE_CHECKING:
    from pytest_agentstream.recording import Run
    from tests.conftest import Peer, RawServer

RUN = "run-0123456789-abcdefghij"
EVENT = b'event: token\ndata: {"text":"x"}\n\n'


async def one_more(peer: Peer) -> None:
    """An event, and a cut."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(f"id: {RUN}/1\nretry: 20\n".encode() + EVENT)


async def one_more_at_once(peer: Peer) -> None:
    """The same, with hardly any wait."""
    await peer.stream(agentstream_run=RUN)
    await peer.chunk(f"id: {RUN}/1\nretry: 1\n".encode() + EVENT)


async def thousand(peer: Peer) -> None:
    await peer.stream(agentstream_run=RUN)
    for _ in range(1000):
        await peer.chunk(EVENT)
    await peer.end()


def follow(raw_server: type[RawServer], script: Any, *, end: float = 5.0, **options: Any) -> Run:
    async def main() -> Run:
        async with raw_server((script,)) as server:
            client = Client(Target(url=f"{server.origin}/v1/runs"), load("native"), **options)
            backoff = Backoff(Random(0), base=0.001, total=10**6)
            with anyio.fail_after(30):
                return await client.run(timeouts=Timeouts(end=end), backoff=backoff)

    return anyio.run(main)


def test_a_run_without_end_is_given_up(raw_server: type[RawServer]) -> None:
    """A run that goes on in one exchange after another is bounded as a whole, not by exchange."""
    run = follow(raw_server, one_more_at_once, end=1.0)
    assert len(run.exchanges) > 1
    assert "not over within " in run.synthetic
    assert run.unwaited == "", "the server had its time"


def test_a_wait_beyond_the_end_is_not_begun(raw_server: type[RawServer]) -> None:
    """A wait that would outlast the run's limit is not waited."""

    async def later(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(b"retry: 20000\n" + EVENT)

    run = follow(raw_server, later, end=10.0)
    assert len(run.exchanges) == 1
    assert run.unwaited == "the server asked for waits of 20 s, of 10 s for the whole run"
    assert run.synthetic.endswith(f"given up: {run.unwaited}")


def test_the_same_unfinished_block_is_not_asked_for_for_ever(raw_server: type[RawServer]) -> None:
    """A server that says the same half of an event twice, and ends well, has no more to say."""

    async def half(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(EVENT + b"event: done\ndata: {}\n")
        await peer.end()

    run = follow(raw_server, half)
    assert len(run.exchanges) == 2
    assert run.synthetic.endswith("given up: the same unfinished block came twice")


def test_recordings_share_a_room(raw_server: type[RawServer]) -> None:
    """Once a session has recorded all that it keeps, an exchange ends with LIMIT, and says why."""
    room = Room(100_000)
    run = follow(raw_server, thousand, room=room)
    assert room.full
    assert run.first.end.kind is EndKind.LIMIT
    assert run.first.end.detail == "this session has recorded as much as the client keeps"
    assert 10 < len(run.first.blocks) < 1000
    assert run.synthetic.startswith("limit: ")


SHAPES = {
    "blocks": (b":\n\n" * 20_000, 10),
    "chunks": (b":", 300_000),
    "values": (b"data: [" + b"{}," * 100_000 + b"0]\n\n", 20),
    "wide characters": (b"data: " + b"a" * 500_000 + "☕🍰".encode() + b"\n\n", 20),
}


@pytest.mark.parametrize("name", SHAPES)
def test_one_recording_is_bounded(name: str) -> None:
    """Whatever shape a body has, it is full before it takes more memory than one may."""
    piece, times = SHAPES[name]
    recorder = Recorder()
    recorder.begin(Request("GET", "http://127.0.0.1/"))
    recorder.answer(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),))
    fed = 0
    while not recorder.full and fed < times:
        recorder.receive(piece)
        fed += 1
    assert 0 < fed < times
    assert "more than the client keeps of one exchange" in recorder.full


def test_what_gzip_hides_is_bounded_too() -> None:
    """A few bytes that decode to very many blocks are decoded only as far as they are kept."""
    recorder = Recorder()
    recorder.begin(Request("GET", "http://127.0.0.1/"))
    recorder.answer(200, "OK", "HTTP/1.1", (("Content-Encoding", "gzip"),))
    blocks = recorder.receive(gzip.compress(b"data: {}\n\n" * 10**6))
    recorder.finish(EndKind.LIMIT, recorder.full)
    recording = recorder.recording
    assert 1000 < len(blocks) < 10**6
    shown = [(block.start, block.raw) for block in recording.blocks]
    again = decode((chunk.at, chunk.data) for chunk in recording.content)
    assert shown == [(block.start, block.raw) for block in again]
    assert recording.blocks[-1].end == len(recording.body)


def test_redirects_that_go_on_are_noted(raw_server: type[RawServer]) -> None:
    """The last of too many redirects says that it was not followed."""

    async def elsewhere(peer: Peer) -> None:
        await peer.answer("307 Temporary Redirect", location=peer.target)

    run = follow(raw_server, elsewhere)
    assert run.first.notes[-1] == "not followed any more: 5 redirects in a row"


def test_a_connection_that_never_stands() -> None:
    """A start whose connection does not stand in time is not tried again."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # of which one waits in the backlog, and the others for it
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        client = Client(Target(url=f"http://127.0.0.1:{address[1]}/v1/runs"), load("native"))
        run = anyio.run(lambda: client.run(timeouts=Timeouts(connect=0.3)))
    (exchange,) = run.exchanges
    assert (exchange.end.kind, exchange.end.phase) == (EndKind.TIMEOUT, Phase.CONNECT)
    assert run.synthetic == "timeout: no connection within 0.3 s"


def test_a_resume_waits_as_long_as_it_is_told(raw_server: type[RawServer]) -> None:
    """503 to a resume, behind a cut by the proxy, is tried again after its Retry-After."""

    async def overloaded(peer: Peer) -> None:
        await peer.answer("503 Service Unavailable", retry_after="1")

    async def rest(peer: Peer) -> None:
        assert peer.headers["last-event-id"] == f"{RUN}/1"
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(f'id: {RUN}/2\nevent: done\ndata: {{"status":"completed"}}\n\n')
        await peer.end()

    async def main() -> tuple[Run, list[float]]:
        async with (
            raw_server((one_more, overloaded, rest)) as server,
            FaultProxy(server.origin) as proxy,
        ):
            await proxy.script([Cut(after_event=1, how="rst")])
            client = Client(Target(url=f"{server.origin}/v1/runs"), load("native"))
            client = client.over(HttpTransport(via=proxy.address))
            waits: list[float] = []
            with anyio.fail_after(30):
                return await client.run(backoff=Noted(waits)), waits

    run, waits = anyio.run(main)
    assert [exchange.end.kind for exchange in run.exchanges] == ["reset", "complete", "complete"]
    assert waits[0] == 0.02
    assert 1.0 <= waits[1] <= 1.0 + 0.002
    assert run.synthetic == ""


class Noted(Backoff):
    """Waits that are written down."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__(Random(0), base=0.001)
        self._waits = waits

    def next(self, floor: float | None = None) -> float:
        self._waits.append(super().next(floor))
        return self._waits[-1]
