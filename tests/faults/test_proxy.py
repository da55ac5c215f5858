"""The proxy over real sockets, nothing injected: as if it were not there; and then gone."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Connection,
    Cut,
    FaultProxy,
    Faults,
    HalfOpen,
    Latency,
    SlowReader,
    Stall,
    UnsupportedFault,
    describe,
)
from tests.faults.streams import EVENTS, HEAD, STREAM, chunk, endless, three

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Peer
    from tests.faults.conftest import Bench

TLS = Path(__file__).parent.parent / "tls"
BIG = 50 * 1024 * 1024
BLOCK = b"b" * 65536


async def big(peer: Peer) -> None:
    await peer.head(content_length=str(BIG))
    for _ in range(BIG // len(BLOCK)):
        await peer.send(BLOCK)


async def echo(peer: Peer) -> None:
    """Answer each request with its body, until the client ends."""
    while True:
        await peer.answer("200 OK", peer.body.decode())
        if not await peer.read_request():
            return


async def reset(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENTS[0])
    peer.reset()


def test_it_is_a_fault_proxy() -> None:
    """The embedded proxy has the interface that every backend has."""
    proxy: Faults = FaultProxy("http://127.0.0.1:1/")
    assert proxy.describe() == "seed 0"


def test_nothing_injected(bench: Callable[..., Any]) -> None:
    """Every byte of request and answer comes through as it was, and both sides see the FIN."""

    async def main() -> None:
        async with bench(three) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (STREAM, "fin")
            assert it.server.peers[0].headers == {"host": "origin.example"}
            caller.leave()
            await it.left()
            await it.over()
            assert connection.downstream == len(STREAM)
            assert connection.upstream == len(b"GET /run HTTP/1.1\r\nHost: origin.example\r\n\r\n")
            assert (connection.client_end.how, connection.client_end.by) == ("fin", "server")
            assert (connection.server_end.how, connection.server_end.by) == ("fin", "server")
            assert connection.opened <= connection.server_end.at <= connection.closed
            assert (connection.fired, connection.problem, connection.held) == ([], "", 0)

    asyncio.run(main())


def test_the_url(bench: Callable[..., Any]) -> None:
    """The proxy's URL has its own origin and the target's path and query."""

    async def main() -> None:
        async with FaultProxy("https://user@origin.example/a/b?c=d") as proxy:
            host, port = proxy.address
            assert host == "127.0.0.1"
            assert proxy.url == f"http://127.0.0.1:{port}/a/b?c=d"

    asyncio.run(main())


@pytest.mark.parametrize("target", ["ftp://a/", "/a", "http://", "localhost:80"])
def test_a_target_that_is_none(target: str) -> None:
    """What is no absolute HTTP URL is refused."""
    with pytest.raises(ValueError, match=r"expected an absolute http:// or https:// URL, found"):
        FaultProxy(target)


def test_a_client_that_half_closes(bench: Callable[..., Any]) -> None:
    """A client's FIN reaches the server, whose answer still reaches the client."""

    async def late(peer: Peer) -> None:
        await peer.left()
        await peer.answer("200 OK", "late")

    async def main() -> None:
        async with bench(late) as it:
            caller = await it.call()
            caller.sock.shutdown(1)
            await caller.read_all()
            assert caller.data.endswith(b"late")
            connection = await it.over()
            assert (connection.server_end.how, connection.server_end.by) == ("fin", "client")

    asyncio.run(main())


def test_a_client_that_goes(bench: Callable[..., Any]) -> None:
    """The server learns that the client has gone."""

    async def main() -> None:
        async with bench(endless) as it:
            caller = await it.call()
            await caller.read_until(chunk(EVENTS[2]))
            caller.leave()
            await it.left()
            connection = await it.over()
            assert (connection.client_end.how, connection.client_end.by) == ("fin", "client")

    asyncio.run(main())


def test_a_server_that_resets(bench: Callable[..., Any]) -> None:
    """A server's RST reaches the client as a RST, behind the bytes before it."""

    async def main() -> None:
        async with bench(reset) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (HEAD + chunk(EVENTS[0]), "rst")
            await it.over()
            assert (connection.client_end.how, connection.client_end.by) == ("rst", "server")

    asyncio.run(main())


def test_a_client_that_resets(bench: Callable[..., Any]) -> None:
    """A client's RST reaches the server as a RST."""
    seen: list[BaseException] = []

    async def sending(peer: Peer) -> None:
        await peer.stream()
        try:
            while True:
                await peer.chunk(BLOCK)
        except ConnectionError as error:
            seen.append(error)
            raise

    async def main() -> None:
        async with bench(sending) as it:
            caller = await it.call()
            await caller.read()
            caller.leave()  # with bytes unread
            await it.left()
            connection = await it.over()
            assert (connection.server_end.how, connection.server_end.by) == ("rst", "client")

    asyncio.run(main())
    assert isinstance(seen[0], ConnectionResetError)


def test_a_connection_that_is_used_again(bench: Callable[..., Any]) -> None:
    """One connection carries any number of requests and answers."""

    async def main() -> None:
        async with bench(echo) as it:
            caller = await it.call(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n1")
            for number in range(2, 20):
                await caller.read_until(b"\r\n\r\n%d" % (number - 1))
                body = b"%d" % number
                await caller.send(
                    b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                )
            assert len(it.proxy.connections) == 1

    asyncio.run(main())


def test_the_nth_connection_gets_the_nth_plan(bench: Callable[..., Any]) -> None:
    """Connections get the plans in order, later ones nothing, and a new script begins anew."""

    async def lengths(it: Bench, count: int) -> list[int]:
        return [len((await it.get())[0].data) for _ in range(count)]

    async def main() -> None:
        whole = len(STREAM)
        async with bench(three, [Cut(after_bytes=5)], [], [Cut(after_bytes=7)]) as it:
            assert await lengths(it, 5) == [5, whole, 7, whole, whole]
            await it.proxy.script([], [Cut(after_bytes=9)], repeat=True)
            assert await lengths(it, 4) == [whole, 9, 9, 9]
            assert it.proxy.describe() == (
                "connection 1: nothing injected | connection 2: a FIN after byte 9 of the "
                "connection, and later ones | seed 0"
            )
            await it.proxy.script()
            assert await lengths(it, 1) == [whole]
            assert [each.number for each in it.proxy.connections] == list(range(1, 11))

    asyncio.run(main())


def test_raw(bench: Callable[..., Any]) -> None:
    """A raw proxy passes anything, and refuses faults that need HTTP to be read."""

    async def greet(peer: Peer) -> None:
        await peer.send("220 hello\r\n")

    async def main() -> None:
        async with bench(greet, [Cut(after_bytes=3)], raw=True, reads=False) as it:
            assert (await it.get())[0].data == b"220"
            assert (await it.get())[0].data == b"220 hello\r\n"
            with pytest.raises(UnsupportedFault, match=r"a FIN after event 1 needs HTTP"):
                await it.proxy.script([], [Cut(after_event=1)])

    asyncio.run(main())


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def test_tls_to_the_server(bench: Callable[..., Any]) -> None:
    """The proxy speaks TLS to an https target, with its name, and none to the client."""
    names: list[str | None] = []
    context = server_tls()
    context.sni_callback = lambda _, name, __: names.append(name)

    async def main() -> None:
        options = {"tls": context, "ca_file": str(TLS / "cert.pem"), "host": "localhost"}
        async with bench(three, [], [Cut(after_event=2)], **options) as it:
            caller, _ = await it.get()
            assert (caller.data, caller.end) == (STREAM, "fin")
            caller, _ = await it.get()
            assert caller.data == HEAD + chunk(EVENTS[0]) + chunk(EVENTS[1])[:-2]

    asyncio.run(main())
    assert names == ["localhost", "localhost"]


def test_big_answers_in_tls(bench: Callable[..., Any]) -> None:
    """Records of TLS that the kernel knows nothing of any more are not forgotten."""

    async def half(peer: Peer) -> None:
        await peer.head(content_length=str(BIG // 8))
        for _ in range(BIG // 8 // len(BLOCK)):
            await peer.send(BLOCK)
        await peer.left()

    async def main() -> None:
        options = {"tls": server_tls(), "ca_file": str(TLS / "cert.pem")}
        async with bench(half, [], [Bandwidth(rate=100_000)], **options) as it:
            for _ in range(2):
                caller = await it.call()
                async with asyncio.timeout(10):
                    while len(caller.data) < BIG // 8:
                        assert await caller.read()

    asyncio.run(main())


def test_a_certificate_that_nothing_vouches_for(bench: Callable[..., Any]) -> None:
    """Where TLS fails, the client is reset and the connection says why."""

    async def main() -> None:
        async with bench(three, tls=server_tls()) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (b"", "rst")
            assert "certificate verify failed" in connection.problem
            assert (connection.client_end.by, connection.server_end) == ("proxy", None)

    asyncio.run(main())


def test_a_ca_file_that_is_none() -> None:
    """A `ca_file` that can't be read is an error that names it."""
    with pytest.raises(ValueError, match=r"ca_file.*nowhere\.pem"):
        FaultProxy("https://127.0.0.1/", ca_file="nowhere.pem")


@pytest.mark.parametrize("host", ["127.0.0.1", "nothing.invalid"])
def test_nobody_listens(bench: Callable[..., Any], closed_port: int, host: str) -> None:
    """Where the server can't be reached, the client is reset and the connection says why."""

    async def main() -> None:
        async with bench(three, host=host, port=closed_port) as it:
            caller, connection = await it.get()
            assert (caller.data, caller.end) == (b"", "rst")
            assert "was not reached" in connection.problem
            assert connection.over.is_set()

    asyncio.run(main())


def test_a_hundred_connections(bench: Callable[..., Any]) -> None:
    """A hundred connections at once don't disturb each other, whatever is injected into them."""

    async def marked(peer: Peer) -> None:
        await peer.stream()
        for number in range(10):
            await peer.chunk(f"data: {peer.target} {number}\n\n")
            await asyncio.sleep(0)
        await peer.end()

    async def main() -> None:
        plans = [[], [Cut(after_event=4)], [Latency(latency=0.01)], [Cut(after_event=4, how="rst")]]
        async with bench(marked, *(plans * 25)) as it:
            callers = [
                await it.call(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % each) for each in range(100)
            ]
            await asyncio.gather(*(caller.read_all() for caller in callers))
            for number, caller in enumerate(callers):
                whole = number % 2 == 0
                assert caller.data.count(b"data: /%d " % number) == (10 if whole else 4)
                assert caller.data.count(b"data: ") == (10 if whole else 4)
                assert caller.end == ("rst" if number % 4 == 3 else "fin")

    asyncio.run(main())


def test_a_client_that_does_not_read(bench: Callable[..., Any]) -> None:
    """Behind a client that doesn't read the proxy holds little, and the server has to wait."""

    async def main() -> None:
        async with bench(big) as it:
            caller = await it.call()
            await caller.read(1)
            connection = it.proxy.connections[0]
            writer = it.server.peers[0].writer
            passed = -1
            while passed != connection.downstream:  # until nothing moves any more
                passed = connection.downstream
                await asyncio.sleep(0.05)
            assert passed < BIG / 2
            assert 0 < connection.held <= 65536
            assert writer.transport.get_write_buffer_size() > 0
            left = BIG + len(caller.data) - 1
            while left > BIG // 100:
                caller.data = b""
                left -= len(await caller.read(1 << 20))
                assert connection.held <= 65536

    asyncio.run(main())


@pytest.mark.parametrize(
    "plan",
    [
        [],
        [Stall(after_event=1)],
        [HalfOpen(after_event=1)],
        [SlowReader(rate=0)],
        [Latency(latency=500)],
        [Bandwidth(rate=1), Latency(latency=0.01, direction="upstream")],
    ],
    ids=describe,
)
def test_closing(bench: Callable[..., Any], plan: list[Any]) -> None:
    """Leaving the proxy closes every socket at once, whatever is held, and leaks nothing."""

    async def main() -> list[Connection]:
        async with bench(big if plan == [] else endless, plan) as it:
            await it.call()
            async with asyncio.timeout(5):
                await it.server.asked.wait()
            if plan and isinstance(plan[0], Stall | HalfOpen):
                await it.hit()
            begin = time.perf_counter()
            await it.proxy.__aexit__()
            assert time.perf_counter() - begin < 1
            await it.left()
            assert [each.over.is_set() for each in it.proxy.connections] == [True]
            with pytest.raises(ConnectionRefusedError):
                await it.call()
            return list(it.proxy.connections)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        (connection,) = asyncio.run(main())
        gc.collect()
    assert connection.server_end is not None
    assert connection.server_end.by == "proxy"


def test_closing_because_of_a_cancellation(bench: Callable[..., Any]) -> None:
    """A probe that is cancelled leaves no connection behind, one being made neither."""

    async def main() -> None:
        async with bench(endless) as it:
            with anyio.CancelScope() as scope:
                async with FaultProxy(f"{it.server.origin}/run") as proxy:
                    await proxy.script([Stall(after_event=1)])
                    sock = socket.create_connection(proxy.address)
                    sock.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    await (await proxy.connection(1)).hit.wait()
                    other = socket.create_connection(proxy.address)
                    await proxy.connection(2)
                    scope.cancel()
                    await anyio.sleep_forever()
            sock.close()
            other.close()
            assert [each.over.is_set() for each in proxy.connections] == [True, True]
            await it.left()
            await asyncio.sleep(0)
            assert not proxy._connecting

    asyncio.run(main())


def test_closing_while_it_connects() -> None:
    """Leaving the proxy while it reaches for the server ends that too."""

    async def main() -> None:
        async with FaultProxy("http://192.0.2.1:81/") as proxy:
            _, writer = await asyncio.open_connection(*proxy.address)
            await proxy.connection(1)
        assert proxy.connections[0].over.is_set()
        assert len(asyncio.all_tasks()) == 1
        writer.close()

    asyncio.run(main())
