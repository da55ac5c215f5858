"""Every fault over real sockets: the exact bytes that come through, and what each side sees."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
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
from tests.faults.streams import EVENTS, HEAD, ONE, STREAM, THREE, TWO, endless, three

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Peer
    from tests.faults.conftest import Bench, Caller

# where a cut is -> what comes through
CUTS: dict[Cut, bytes] = {
    Cut(after_bytes=0): b"",
    Cut(after_bytes=9): STREAM[:9],
    Cut(after_bytes=len(HEAD)): HEAD,
    Cut(after_body=0): HEAD,
    Cut(after_body=1): HEAD + b"f\r\ni",
    Cut(after_body=len(EVENTS[0]) + 2): HEAD + ONE + b"f\r\nid",
    Cut(after_event=0): HEAD,
    Cut(after_event=1): HEAD + ONE[:-2],
    Cut(after_event=3): HEAD + ONE + TWO + THREE[:-2],
    Cut(after_event=0, into_next=5): HEAD + b"f\r\nid: 1",
    Cut(after_event=2, into_next=8): HEAD + ONE + TWO + b"f\r\nid: 3\nda",
}


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("cut", CUTS, ids=lambda fault: fault.describe())
def test_cuts(bench: Callable[..., Any], cut: Cut, how: Any) -> None:
    """A cut lets exactly the bytes before it through, and both sides see a FIN or a RST."""
    fault = Cut(
        after_bytes=cut.after_bytes,
        after_body=cut.after_body,
        after_event=cut.after_event,
        into_next=cut.into_next,
        how=how,
    )

    async def main() -> None:
        async with bench(endless, [fault]) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (CUTS[cut], how)
            caller.leave()
            await it.left()
            await it.over()
            assert [(fired.fault, fired.byte) for fired in connection.fired] == [
                (fault, len(CUTS[cut]))
            ]
            assert (connection.client_end.how, connection.client_end.by) == (how, "fault")
            assert (connection.server_end.how, connection.server_end.by) == (how, "fault")

    asyncio.run(main())


def test_a_place_that_does_not_come(bench: Callable[..., Any]) -> None:
    """A cut behind more events than there are isn't injected, and that can be seen."""

    async def main() -> None:
        async with bench(three, [Cut(after_event=4)]) as it:
            caller, connection = await it.get()
            assert caller.data == STREAM
            assert (connection.fired, connection.problem) == ([], "")

    asyncio.run(main())


def test_a_place_that_is_out_of_reach(bench: Callable[..., Any]) -> None:
    """Where the answer is no HTTP, all of it comes through, and the connection says why."""

    async def greet(peer: Peer) -> None:
        await peer.send("220 hello\r\n\r\n")

    async def main() -> None:
        async with bench(greet, [Cut(after_event=1)]) as it:
            caller, connection = await it.get()
            assert caller.data == b"220 hello\r\n\r\n"
            assert "can't be read as HTTP/1.1" in connection.problem

    asyncio.run(main())


def test_a_fin_before_bytes_that_the_client_sent(bench: Callable[..., Any]) -> None:
    """A FIN stays a FIN where the client goes on sending."""

    async def main() -> None:
        async with bench(endless, [Cut(after_event=1)]) as it:
            caller = await it.call()
            connection = await it.hit()
            await caller.send(b"more")
            await caller.read_all()
            assert (caller.data, caller.end) == (HEAD + ONE[:-2], "fin")
            await caller.send(b"and more")
            caller.leave()
            await it.over()
            assert connection.client_end.how == "fin"

    asyncio.run(main())


def test_a_reset_behind_much_that_is_unread(bench: Callable[..., Any]) -> None:
    """A RST waits for what was sent before it: a client that reads slowly gets all of that."""

    async def much(peer: Peer) -> None:
        await peer.head(content_length="2000000")
        await peer.send(b"b" * 2_000_000)
        await peer.left()

    async def main() -> None:
        async with bench(much, [Cut(after_body=1_500_000, how="rst")]) as it:
            caller = await it.call()
            while await caller.read(20_000):  # noqa: ASYNC110 - to be slower than the proxy
                await asyncio.sleep(0)
            assert caller.end == "rst"
            assert caller.data.count(b"b") == 1_500_000

    asyncio.run(main())


def test_stall(bench: Callable[..., Any]) -> None:
    """A stall holds bytes and FINs of both sides and closes nothing; lifted, all goes on."""

    async def main() -> None:
        async with bench(endless, [Stall(after_event=1)]) as it:
            caller = await it.call()
            await caller.read_until(ONE[:-2])
            connection = await it.hit()
            caller.sock.shutdown(1)
            await asyncio.sleep(0.05)  # for what must not happen
            assert not it.server.peers[0].gone.is_set()
            assert connection.downstream == len(HEAD + ONE) - 2
            assert (connection.client_end, connection.server_end) == (None, None)
            await it.proxy.lift()
            await caller.read_all()
            assert (caller.data, caller.end) == (HEAD + ONE + TWO + THREE, "fin")
            await it.over()
            assert (connection.server_end.how, connection.server_end.by) == ("fin", "client")

    asyncio.run(main())


def test_half_open_when_the_client_goes(bench: Callable[..., Any]) -> None:
    """The server never learns that the client has gone, and in the end has to stop sending."""

    async def flood(peer: Peer) -> None:
        await peer.stream()
        while True:
            await peer.chunk(b"b" * 65536)

    async def main() -> None:
        async with bench(flood, [HalfOpen()]) as it:
            caller = await it.call()
            await caller.read()
            caller.leave()
            connection = await it.hit()
            (fired,) = connection.fired
            assert fired.fault == HalfOpen()
            assert connection.client_end.by == "client"
            peer = await it.blocked()
            assert not peer.gone.is_set()
            assert not connection.over.is_set()
            assert connection.server_end is None
            await it.proxy.__aexit__()
            await it.left()
            assert it.proxy.connections[0].server_end.by == "proxy"

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_half_open_at_a_place(bench: Callable[..., Any], how: Any) -> None:
    """The client is cut off at the place, and the server's side still stands."""

    async def main() -> None:
        async with bench(endless, [HalfOpen(after_event=2, how=how)]) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (HEAD + ONE + TWO[:-2], how)
            caller.leave()
            again = await it.call()
            await again.read_until(THREE)
            assert not it.server.peers[0].gone.is_set()
            assert (connection.client_end.how, connection.server_end) == (how, None)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (Corrupt(after_bytes=9, mask=0x01), 9),
        (Corrupt(after_body=len(EVENTS[0]), mask=0x01), len(HEAD + ONE) + 3),
        (Corrupt(after_event=1, into_next=3, mask=0x01), len(HEAD + ONE) + 6),
    ],
    ids=lambda it: it.describe() if isinstance(it, Fault) else None,
)
def test_corrupt(bench: Callable[..., Any], fault: Corrupt, at: int) -> None:
    """One byte is another, and everything else as it was."""

    async def main() -> None:
        async with bench(three, [fault]) as it:
            caller, connection = await it.get()
            assert len(connection.fired) == 1
            expected = bytearray(STREAM)
            expected[at] ^= 1
            assert caller.data == bytes(expected)

    asyncio.run(main())


def test_the_seed_repeats_chance(bench: Callable[..., Any]) -> None:
    """The same seed corrupts the same bytes on the same connections; another one others."""

    async def main(seed: int) -> list[bytes]:
        async with bench(three, [Corrupt(within=40)], repeat=True, seed=seed) as it:
            assert it.proxy.describe().endswith(f"seed {seed}")
            return [(await it.get())[0].data for _ in range(5)]

    first, again, other = (asyncio.run(main(seed)) for seed in (7, 7, 8))
    assert first == again != other
    assert len(set(first)) > 1


def test_slicer(bench: Callable[..., Any]) -> None:
    """Slices come one by one, a delay apart, and nothing is lost."""

    async def whole(peer: Peer) -> None:
        await peer.send(b"abcdefghij")

    async def main() -> None:
        async with bench(whole, [Slicer(average_size=3, delay=0.02)]) as it:
            caller = await it.call()
            pieces = []
            while piece := await caller.read():
                pieces.append(piece)
            assert pieces == [b"ab", b"cde", b"fg", b"hij"]

    asyncio.run(main())


async def timed(it: Bench) -> tuple[Caller, float]:
    """What came until the end, and how many seconds that took."""
    begin = time.perf_counter()
    caller, _ = await it.get()
    return caller, time.perf_counter() - begin


# a fault that only takes time -> the least seconds that it takes here
LATE: dict[Fault, float] = {
    Latency(latency=0.1): 0.1,
    Latency(latency=0.1, direction="upstream"): 0.1,
    SlowClose(delay=0.1): 0.1,
    Bandwidth(rate=1): len(STREAM) / 1000,
    SlowReader(rate=1500): len(STREAM) / 1500,
}


@pytest.mark.parametrize("fault", LATE, ids=lambda fault: fault.describe())
def test_faults_that_take_time(bench: Callable[..., Any], fault: Fault) -> None:
    """What only delays loses nothing, and takes at least its time."""

    async def main() -> None:
        async with bench(three, [fault]) as it:
            caller, seconds = await timed(it)
            assert (caller.data, caller.end) == (STREAM, "fin")
            assert seconds >= LATE[fault]

    asyncio.run(main())


def test_latency_does_not_slow_what_follows(bench: Callable[..., Any]) -> None:
    """Latency delays everything by the same time: a hundred pieces aren't a hundred times late."""

    async def many(peer: Peer) -> None:
        await peer.stream()
        for event in EVENTS * 30:
            await peer.chunk(event)
            await asyncio.sleep(0)
        await peer.end()

    async def main() -> None:
        async with bench(many, [Latency(latency=0.1)]) as it:
            caller, seconds = await timed(it)
            assert caller.data.count(b"data: ") == 90
            assert 0.1 <= seconds < 3

    asyncio.run(main())


def test_a_client_that_never_reads(bench: Callable[..., Any]) -> None:
    """The server soon has to wait behind a client that never reads, whose window is small."""

    async def flood(peer: Peer) -> None:
        for _ in range(1000):
            await peer.send(b"b" * 65536)

    async def main() -> None:
        async with bench(flood, [SlowReader(rate=0)]) as it:
            caller = await it.call()
            await it.server.asked.wait()
            await it.blocked()
            connection = it.proxy.connections[0]
            assert (connection.downstream, connection.held) == (0, 0)
            caller.leave()
            await it.left()

    asyncio.run(main())


def test_limit_data(bench: Callable[..., Any]) -> None:
    """Behind so many bytes both sides see a FIN."""

    async def main() -> None:
        async with bench(endless, [LimitData(bytes=len(HEAD) + 4)]) as it:
            caller, _ = await it.get()
            assert (caller.data, caller.end) == (HEAD + ONE[:4], "fin")
            await it.left()

    asyncio.run(main())


def test_limit_data_of_requests(bench: Callable[..., Any]) -> None:
    """Upstream it is the server that gets so many bytes."""

    async def greet(peer: Peer) -> None:
        peer.body = await peer.reader.read()

    async def main() -> None:
        async with bench(greet, [LimitData(bytes=7, direction="upstream")], reads=False) as it:
            caller, _ = await it.get()
            assert caller.end == "fin"
            assert (await it.left()).body == b"GET /ru"

    asyncio.run(main())


def test_timeout(bench: Callable[..., Any]) -> None:
    """No byte comes through, and the FIN comes in time."""

    async def main() -> None:
        async with bench(endless, [Timeout(timeout=0.1)]) as it:
            caller, seconds = await timed(it)
            assert (caller.data, caller.end) == (b"", "fin")
            assert seconds >= 0.1
            await it.left()

    asyncio.run(main())


def test_timeout_until_it_is_lifted(bench: Callable[..., Any]) -> None:
    """A timeout of 0 holds the connection, and closes it when it is lifted."""

    async def main() -> None:
        async with bench(endless, [Timeout()]) as it:
            caller = await it.call()
            await it.server.asked.wait()
            await it.proxy.lift()
            await caller.read_all()
            assert (caller.data, caller.end) == (b"", "fin")
            await it.left()

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [0.0, 0.05])
def test_reset_peer(bench: Callable[..., Any], timeout: float) -> None:
    """The first byte of the answer brings the RST, in time."""

    async def main() -> None:
        async with bench(endless, [ResetPeer(timeout=timeout)]) as it:
            caller, seconds = await timed(it)
            assert (caller.data, caller.end) == (b"", "rst")
            assert seconds >= timeout
            await it.left()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_idle_cut(bench: Callable[..., Any], how: Any) -> None:
    """A stream is cut once it is idle for that long, not before."""

    async def pausing(peer: Peer) -> None:
        await peer.stream()
        for event in EVENTS:
            await peer.chunk(event)
            await asyncio.sleep(0.05)
        await peer.left()

    async def main() -> None:
        async with bench(pausing, [IdleCut(seconds=0.3, how=how)]) as it:
            caller, seconds = await timed(it)
            assert (caller.data, caller.end) == (HEAD + ONE + TWO + THREE, how)
            assert seconds >= 0.4
            await it.left()

    asyncio.run(main())


def test_an_idle_cut_that_never_comes(bench: Callable[..., Any]) -> None:
    """A stream that is over before isn't cut, nor later."""

    async def main() -> None:
        async with bench(three, [IdleCut(seconds=0.05)]) as it:
            caller, connection = await it.get()
            caller.leave()
            await it.over()
            assert (caller.data, connection.fired) == (STREAM, [])

    asyncio.run(main())


def test_refuse_one(bench: Callable[..., Any]) -> None:
    """A connection that is refused by its plan gets a RST, and the server sees nothing of it."""

    async def main() -> None:
        async with bench(three, [Refuse()]) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (b"", "rst")
            assert [fired.fault for fired in connection.fired] == [Refuse()]
            assert (await it.get())[0].data == STREAM
            assert len(it.server.peers) == 1

    asyncio.run(main())


def test_refuse_all(bench: Callable[..., Any]) -> None:
    """A proxy that refuses is a closed port, until it accepts again at the same address."""

    async def main() -> None:
        async with bench(endless) as it:
            caller = await it.call()
            await caller.read_until(THREE)
            address = it.proxy.address
            for _ in range(2):
                await it.proxy.refuse()
                with pytest.raises(ConnectionRefusedError):
                    await it.call()
            assert not it.proxy.connections[0].over.is_set()
            for _ in range(2):
                await it.proxy.accept()
            assert it.proxy.address == address
            await (await it.call()).read_until(THREE)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_now(bench: Callable[..., Any], how: Any) -> None:
    """All open connections can be cut at any moment, also stalled ones."""

    async def main() -> None:
        async with bench(endless, [], [Stall(after_event=1)]) as it:
            first, second = await it.call(), await it.call()
            await first.read_until(THREE)
            await it.hit(2)
            await it.proxy.cut(how)
            for caller in (first, second):
                await caller.read_all()
            assert (first.end, second.end) == (how, how)
            assert second.data == HEAD + ONE[:-2]
            await it.left(1)
            await it.left(2)

    asyncio.run(main())


def test_several_faults(bench: Callable[..., Any]) -> None:
    """Faults of one plan act together, in their order."""

    async def main() -> None:
        plan = [
            Latency(latency=0.02),
            Slicer(average_size=5),
            Corrupt(after_event=1, mask=0x01),
            Cut(after_event=2, how="rst"),
            IdleCut(seconds=5),
        ]
        async with bench(endless, plan) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (HEAD + ONE + TWO[:-2].replace(b"id", b"hd"), "rst")
            assert [fired.fault for fired in connection.fired] == [plan[2], plan[3]]

    asyncio.run(main())
