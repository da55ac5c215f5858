"""The same faults by the embedded proxy and by a real Toxiproxy: what each side of them sees."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.faults import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
    FaultProxy,
    FaultRoutes,
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
    Toxiproxy,
    ToxiproxyError,
    ToxiproxyFaults,
    UnsupportedFault,
    describe,
    why_embedded,
)
from pytest_agentstream.faults.toxiproxy_api import Api
from pytest_agentstream.recording import EndKind, Request
from pytest_agentstream.target import Timeouts
from pytest_agentstream.transport import HttpTransport
from tests.faults.conftest import PATIENCE, REQUEST, Caller
from tests.faults.streams import BODY, EVENTS, HEAD, STREAM, endless, three
from tests.services import Service, toxiproxy_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pytest_agentstream.faults import Faults
    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]
    Made = Callable[[str], Any]

TLS = Path(__file__).parent.parent / "tls"
EMBEDDED, TOXIPROXY, BOTH = "embedded", "toxiproxy", "both"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A Toxiproxy server of this module's own."""
    with toxiproxy_server() as service:
        yield service


@pytest.fixture
def toxiproxy(service: Service) -> Iterator[Toxiproxy]:
    """A session at it, which has to leave nothing."""
    with Toxiproxy(service.url) as opened:
        yield opened
        assert Api(service.url).proxies() == {}


@pytest.fixture(params=[EMBEDDED, TOXIPROXY, BOTH])
def made(request: pytest.FixtureRequest, toxiproxy: Toxiproxy) -> Made:
    """Each kind of faults before a target."""
    match request.param:
        case "embedded":
            return FaultProxy
        case "toxiproxy":
            return lambda target: ToxiproxyFaults(target, toxiproxy)
    return lambda target: FaultRoutes(target, toxiproxy)


async def call(faults: Faults, request: bytes = REQUEST) -> Caller:
    """Make the next connection, and send a request."""
    sock = socket.socket()
    sock.setblocking(False)
    caller = Caller(sock)
    try:
        await asyncio.get_running_loop().sock_connect(sock, faults.next_address())
    except BaseException:
        caller.leave()
        raise
    try:
        await caller.send(request)
    except ConnectionError:
        caller.end = "rst"
    return caller


async def get(faults: Faults) -> Caller:
    """Make the next connection, and read all that comes."""
    caller = await call(faults)
    try:
        await caller.read_all()
    finally:
        caller.leave()
    return caller


@dataclass(frozen=True)
class Seen:
    """What has to come: the bytes, how the client's side ends, and after how many seconds."""

    data: bytes
    end: str = "fin"
    least: float = 0.0


async def ticks(peer: Peer) -> None:
    """Send something every now and then for a while."""
    await peer.stream()
    for event in EVENTS:
        await peer.chunk(event)
        await asyncio.sleep(0.06)
    await peer.left()


MATRIX: list[tuple[list[Fault], Script, Seen]] = [
    ([], three, Seen(STREAM)),
    ([Latency(latency=0.1)], three, Seen(STREAM, least=0.1)),
    ([Latency(latency=0.1, jitter=0.05)], three, Seen(STREAM, least=0.05)),
    ([Latency(latency=0.1, direction="upstream")], three, Seen(STREAM, least=0.1)),
    ([Bandwidth(rate=1)], three, Seen(STREAM, least=len(STREAM) / 1000)),
    ([SlowClose(delay=0.1)], three, Seen(STREAM, least=0.1)),
    ([Timeout(timeout=0.1)], endless, Seen(b"", least=0.1)),
    ([Timeout(timeout=0.1)], ticks, Seen(b"", least=0.22)),
    ([Timeout(timeout=60.0)], three, Seen(b"")),
    ([Timeout(timeout=0.1, direction="upstream")], endless, Seen(b"", least=0.1)),
    ([ResetPeer()], endless, Seen(b"", "rst")),
    ([ResetPeer(timeout=0.1)], endless, Seen(b"", "rst", 0.1)),
    ([ResetPeer(timeout=0.1)], three, Seen(b"", "rst", 0.1)),
    ([ResetPeer(timeout=0.1, direction="upstream")], endless, Seen(b"", "rst", 0.1)),
    ([Slicer(average_size=5, delay=0.005)], three, Seen(STREAM, least=0.1)),
    ([Slicer(average_size=5, size_variation=3)], three, Seen(STREAM)),
    ([LimitData(bytes=0)], endless, Seen(b"")),
    ([LimitData(bytes=len(HEAD) + 4)], endless, Seen(STREAM[: len(HEAD) + 4])),
    ([LimitData(bytes=7, direction="upstream")], endless, Seen(b"")),
    ([Cut(after_bytes=9)], endless, Seen(STREAM[:9])),
    ([Latency(latency=0.1), LimitData(bytes=9)], endless, Seen(STREAM[:9], least=0.1)),
    ([LimitData(bytes=9), Latency(latency=0.1)], endless, Seen(STREAM[:9], least=0.1)),
    ([Latency(latency=0.1), Timeout(timeout=60.0)], three, Seen(b"", least=0.1)),
    ([Latency(latency=0.1), ResetPeer(timeout=0.1)], endless, Seen(b"", "rst", 0.2)),
    ([Slicer(average_size=9), Latency(latency=0.1), Bandwidth(rate=2)], three, Seen(STREAM)),
]


@pytest.mark.parametrize(
    ("plan", "script", "expected"),
    MATRIX,
    ids=[f"{describe(tuple(plan))}; {script.__name__}" for plan, script, _ in MATRIX],
)
def test_the_same_meaning(
    made: Made, raw_server: type[RawServer], plan: list[Fault], script: Script, expected: Seen
) -> None:
    """A toxic does the same to a client whichever proxy injects it, and takes the same time."""

    async def main() -> None:
        async with raw_server((script,)) as server, made(f"{server.origin}/run") as faults:
            await faults.script(plan)
            begin = time.perf_counter()
            caller = await get(faults)
            seconds = time.perf_counter() - begin
            assert (caller.data, caller.end) == (expected.data, expected.end)
            assert seconds >= expected.least - 0.002  # Toxiproxy's clock is another
            for peer in server.peers:
                async with asyncio.timeout(PATIENCE):
                    await peer.gone.wait()

    asyncio.run(main())


def test_the_nth_plan(made: Made, raw_server: type[RawServer]) -> None:
    """The n-th connection gets the n-th plan, later ones nothing; a new script begins anew."""

    async def main() -> None:
        async with raw_server((endless,)) as server, made(f"{server.origin}/run") as faults:
            await faults.script(
                [LimitData(bytes=5)], [], [LimitData(bytes=9)], [LimitData(bytes=5)]
            )
            sizes = [len((await get(faults)).data)]
            untouched = await call(faults)
            await untouched.read_until(EVENTS[-1] + b"\r\n")
            sizes += [len((await get(faults)).data) for _ in range(2)]
            assert sizes == [5, 9, 5]
            later = await call(faults)
            await later.read_until(EVENTS[-1] + b"\r\n")
            await faults.script([LimitData(bytes=7)], repeat=True)
            assert [len((await get(faults)).data) for _ in range(3)] == [7, 7, 7]
            assert (untouched.end, later.end) == ("", "")  # a new script changes no connection
            for each in (untouched, later):
                each.leave()

    asyncio.run(main())


def test_connections_at_once(made: Made, raw_server: type[RawServer]) -> None:
    """Connections that stand at the same time each have their own plan and their own count."""

    async def main() -> None:
        async with raw_server((endless,)) as server, made(f"{server.origin}/run") as faults:
            limits = [LimitData(bytes=len(HEAD) + size) for size in (5, 10, 5, 20)]
            await faults.script(*([limit] for limit in limits))
            callers = [await call(faults) for _ in limits]
            for caller, limit in zip(callers, limits, strict=True):
                await caller.read_all()
                assert len(caller.data) == limit.bytes
                caller.leave()

    asyncio.run(main())


def test_lift(made: Made, raw_server: type[RawServer]) -> None:
    """Lifted, a timeout closes; another fault stays, and later connections have the timeout."""

    async def main() -> None:
        async with raw_server((endless,)) as server, made(f"{server.origin}/run") as faults:
            await faults.script([Timeout()], [], [Timeout()])
            held, other = await call(faults), await call(faults)
            await other.read_until(EVENTS[-1] + b"\r\n")
            await server.asked.wait()
            await faults.lift()
            await held.read_all()
            assert (held.data, held.end, other.end) == (b"", "fin", "")
            again = await call(faults)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await again.read_all()
            assert again.data == b""
            await faults.lift()
            await again.read_all()
            for each in (held, other, again):
                each.leave()

    asyncio.run(main())


def test_cut_refuse_and_accept(made: Made, raw_server: type[RawServer]) -> None:
    """A cut ends every connection; who refuses can't be connected to until he accepts again."""

    async def main() -> None:
        async with raw_server((endless,)) as server, made(f"{server.origin}/run") as faults:
            caller = await call(faults)
            await caller.read_until(EVENTS[-1] + b"\r\n")
            await faults.cut()
            await caller.read_all()
            caller.leave()
            await faults.refuse()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await call(faults)
            await faults.script([LimitData(bytes=5)], repeat=True)
            with pytest.raises(ConnectionRefusedError):
                await call(faults)
            await faults.accept()
            assert (await get(faults)).data == HEAD[:5]

    asyncio.run(main())


def test_a_transport_that_asks_each_time(made: Made, raw_server: type[RawServer]) -> None:
    """Exchanges of one transport get one plan after the other, and keep URL and Host."""

    async def answer(peer: Peer) -> None:
        await peer.answer("200 OK", "yes")

    async def main() -> None:
        async with raw_server((answer,)) as server, made(f"{server.origin}/run") as faults:
            await faults.script([Cut(after_bytes=3)], [Latency(latency=0.05)])
            transport = HttpTransport(via=faults.next_address)
            url = f"{server.origin}/run"
            ends = []
            for _ in range(3):
                recording = await transport.exchange(Request("GET", url), timeouts=Timeouts())
                assert recording.request.url == url
                assert ("Host", url.split("/")[2]) in recording.request.headers
                ends.append(recording.end.kind)
            assert ends == [EndKind.CUT, EndKind.COMPLETE, EndKind.COMPLETE]
            async with transport.keeping_alive(url) as kept:
                assert (
                    await kept.exchange(Request("GET", url), timeouts=Timeouts())
                ).body == b"yes"

    asyncio.run(main())


def test_an_https_server(made: Any, raw_server: type[RawServer], toxiproxy: Toxiproxy) -> None:
    """Before an https server toxics count the bytes of HTTP, and TLS has the server's own name."""
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    context.sni_callback = lambda _, name, __: names.append(name)
    trusted = str(TLS / "cert.pem")

    async def main() -> None:
        async with raw_server((three,), context) as server:
            target = f"{server.origin}/run".replace("127.0.0.1", "localhost")
            proxy: Any = FaultProxy(target, ca_file=trusted)
            if made is not FaultProxy:
                proxy = type(made(target))(target, toxiproxy, ca_file=trusted)
            async with proxy as faults:
                await faults.script([LimitData(bytes=len(HEAD) + 3)], [])
                assert (await get(faults)).data == STREAM[: len(HEAD) + 3]
                assert (await get(faults)).data == STREAM

    asyncio.run(main())
    assert names == ["localhost", "localhost"]


def test_one_address(toxiproxy: Toxiproxy, raw_server: type[RawServer]) -> None:
    """A client that knows one URL only is served while all connections have one plan."""

    async def main() -> None:
        async with raw_server((three,)) as server:
            for kind in (ToxiproxyFaults, FaultRoutes):
                async with kind(f"{server.origin}/run?a=b", toxiproxy) as faults:
                    host, port = faults.address
                    assert faults.url == f"http://{host}:{port}/run?a=b"
                    plain = faults.address
                    await faults.script([LimitData(bytes=5)], repeat=True)
                    assert faults.address != plain
                    await faults.script([LimitData(bytes=5)], [])
                    with pytest.raises(UnsupportedFault, match="at one address"):
                        _ = faults.url
            async with FaultRoutes(f"{server.origin}/run", toxiproxy) as routes:
                await routes.script([Cut(after_event=1)], repeat=True)
                host, port = routes.address
                assert routes.url == f"http://{host}:{port}/run"
                await routes.script([Cut(after_event=1)])
                assert routes.address == (host, port)
                await routes.script([Cut(after_event=1)], [LimitData(bytes=5)])
                with pytest.raises(UnsupportedFault, match="both Toxiproxy and the embedded"):
                    _ = routes.address

    asyncio.run(main())


# a fault that Toxiproxy has not -> what it can't do
CANNOT: dict[tuple[Fault, ...], str] = {
    (Cut(after_event=3),): "Toxiproxy cannot cut after an event",
    (Cut(after_event=0, into_next=4),): "Toxiproxy cannot cut after an event",
    (Cut(after_body=3),): "Toxiproxy cannot cut at a byte of the body",
    (Cut(after_bytes=3, how="rst"),): "Toxiproxy cannot reset at a byte",
    (Stall(after_bytes=3),): "Toxiproxy cannot stall without dropping data",
    (HalfOpen(),): "Toxiproxy cannot leave the server half open",
    (Corrupt(within=3),): "Toxiproxy cannot corrupt bytes",
    (SlowReader(rate=3),): "Toxiproxy cannot read slowly with a small window",
    (IdleCut(seconds=3),): "Toxiproxy cannot cut idle connections",
    (Refuse(),): "Toxiproxy cannot refuse single connections",
    (Latency(latency=0.1), Cut(after_event=1)): "Toxiproxy cannot cut after an event",
    (Timeout(timeout=0.0004),): (
        "Toxiproxy cannot take a timeout of 0.0004 s: it counts whole milliseconds"
    ),
    (Latency(latency=0.1, jitter=0.0015),): (
        "Toxiproxy cannot take a jitter of 0.0015 s: it counts whole milliseconds"
    ),
    (Slicer(average_size=3, delay=0.0000004),): (
        "Toxiproxy cannot take a delay of 4e-07 s: it counts whole microseconds"
    ),
    (ResetPeer(timeout=0.1), LimitData(bytes=3)): (
        "Toxiproxy cannot end a connection by a FIN where it may reset it"
    ),
}


@pytest.mark.parametrize("plan", CANNOT, ids=lambda plan: describe(plan))
def test_what_toxiproxy_can_not_do(
    toxiproxy: Toxiproxy, raw_server: type[RawServer], plan: tuple[Fault, ...]
) -> None:
    """Toxiproxy alone refuses the plan, and says why; beside the embedded one, that takes it."""
    assert why_embedded(plan) == CANNOT[plan]

    async def main() -> None:
        async with raw_server((endless,)) as server:
            async with ToxiproxyFaults(f"{server.origin}/run", toxiproxy) as faults:
                with pytest.raises(UnsupportedFault) as raised:
                    await faults.script([], plan)
                assert str(raised.value) == CANNOT[plan]
                with pytest.raises(UnsupportedFault, match="cannot reset connections at any"):
                    await faults.cut("rst")
            async with FaultRoutes(f"{server.origin}/run", toxiproxy) as routes:
                await routes.script([], plan, [LimitData(bytes=5)])
                words = f"{describe(plan)} (embedded proxy: {CANNOT[plan]})"
                assert f"connection 2: {words}" in routes.describe()

    asyncio.run(main())


def test_what_the_embedded_proxy_does_alone(
    toxiproxy: Toxiproxy, raw_server: type[RawServer]
) -> None:
    """Toxiproxy is not asked for a script of which it would inject nothing."""
    reason = "embedded proxy: Toxiproxy cannot cut after an event"

    async def main() -> None:
        async with (
            raw_server((three,)) as server,
            FaultRoutes(f"{server.origin}/run", toxiproxy) as routes,
        ):
            await routes.script([Cut(after_event=1)], [])
            got = [(await get(routes)).data for _ in range(2)]
            assert got == [STREAM[: STREAM.index(EVENTS[0]) + len(EVENTS[0])], STREAM]
            assert routes.chosen == {reason: 1, "embedded proxy": 1}
            assert Api(toxiproxy.url).proxies() == {}
            await routes.script([LimitData(bytes=9)])
            assert len(Api(toxiproxy.url).proxies()) == 2
        assert Api(toxiproxy.url).proxies() == {}

    asyncio.run(main())


def test_the_embedded_proxy_cannot_listen(
    toxiproxy: Toxiproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one of the two can't be entered nothing of the other is left."""

    def full(_: FaultProxy) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        monkeypatch.setattr(FaultProxy, "_listen", full)
        with pytest.raises(OSError, match="Too many open files"):
            async with FaultRoutes("http://127.0.0.1:9/run", toxiproxy):
                pass
        assert Api(toxiproxy.url).proxies() == {}

    asyncio.run(main())


def test_both_in_one_script(toxiproxy: Toxiproxy, raw_server: type[RawServer]) -> None:
    """One script may use both proxies; which one it was is described and counted, with why."""
    reason = "embedded proxy: Toxiproxy cannot cut after an event"

    async def main() -> None:
        async with (
            raw_server((three,)) as server,
            FaultRoutes(f"{server.origin}/run", toxiproxy, seed=7) as routes,
        ):
            cut = [Cut(after_event=1)]
            await routes.script(cut, cut, [LimitData(bytes=9)], [], cut)
            assert routes.describe() == (
                f"connections 1 to 2: a FIN after event 1 ({reason}) | "
                "connection 3: a FIN after 9 bytes of the connection (Toxiproxy) | "
                "connection 4: nothing injected (Toxiproxy) | "
                f"connection 5: a FIN after event 1 ({reason}) | seed 7"
            )
            got = [(await get(routes)).data for _ in range(6)]
            first = STREAM[: STREAM.index(EVENTS[0]) + len(EVENTS[0])]
            assert got == [first, first, STREAM[:9], STREAM, first, STREAM]
            assert routes.chosen == {reason: 3, "Toxiproxy": 3}
            await routes.script([LimitData(bytes=9)], cut, repeat=True)
            assert routes.describe().endswith(f"({reason}), and later ones | seed 7")
            got = [(await get(routes)).data for _ in range(3)]
            assert got == [STREAM[:9], first, first]

    asyncio.run(main())


def test_describe(toxiproxy: Toxiproxy, raw_server: type[RawServer]) -> None:
    """Where chance plays a part, it is said to be Toxiproxy's own."""

    async def main() -> None:
        async with ToxiproxyFaults("http://127.0.0.1:9/run", toxiproxy) as faults:
            assert faults.describe() == "Toxiproxy"
            await faults.script([Latency(latency=0.1, jitter=0.05)], repeat=True)
            assert faults.describe() == (
                "connection 1: a delay of 0.1 s ± 0.05 s (chance is Toxiproxy's own, not "
                "repeatable), and later ones | Toxiproxy"
            )

    asyncio.run(main())


@pytest.mark.parametrize("meddling", ["reset", "deleted", "disabled"])
def test_somebody_else_meddles(service: Service, meddling: str) -> None:
    """Proxies that were changed by somebody else prove nothing, which is said at the end."""
    words = {"reset": "was changed", "deleted": "is not there any more", "disabled": "was changed"}

    async def main(toxiproxy: Toxiproxy) -> None:
        async with ToxiproxyFaults("http://127.0.0.1:9/run", toxiproxy) as faults:
            await faults.script([Latency(latency=0.1)], repeat=True)
            api = Api(service.url)
            for name in api.proxies():
                match meddling:
                    case "reset":
                        for toxic in api.proxies()[name]["toxics"]:
                            api.remove(name, toxic["name"])
                    case "deleted":
                        api.delete(name)
                    case "disabled":
                        api.enable(name, False)

    with Toxiproxy(service.url) as toxiproxy:
        with pytest.raises(ToxiproxyError, match=words[meddling]):
            asyncio.run(main(toxiproxy))
        assert words[meddling] in toxiproxy.gone
        with pytest.raises(ToxiproxyError, match=words[meddling]):
            asyncio.run(main(toxiproxy))
    assert Api(service.url).proxies() == {}


def test_toxiproxy_goes(raw_server: type[RawServer]) -> None:
    """Killed, Toxiproxy cuts what goes through it, and leaving says so, over any other error."""

    async def main(own: Service, toxiproxy: Toxiproxy) -> None:
        async with (
            raw_server((endless,)) as server,
            ToxiproxyFaults(f"{server.origin}/run", toxiproxy) as faults,
        ):
            caller = await call(faults)
            await caller.read_until(EVENTS[-1] + b"\r\n")
            own.kill()
            await caller.read_all()
            caller.leave()
            raise ValueError("of the body")

    with toxiproxy_server() as own:
        toxiproxy = Toxiproxy(own.url)
        toxiproxy.open()
        with pytest.raises(ToxiproxyError, match="can't be reached: Connection refused"):
            asyncio.run(main(own, toxiproxy))
        assert "can't be reached" in toxiproxy.gone
        toxiproxy.close()


def test_a_body_that_fails(made: Made) -> None:
    """While the proxy is there, an error of the body is that error, and nothing is left."""

    async def main() -> None:
        async with made("http://127.0.0.1:9/run"):
            raise ValueError("of the body")

    with pytest.raises(ValueError, match="of the body"):
        asyncio.run(main())


def test_a_body_that_is_cancelled(made: Made, raw_server: type[RawServer]) -> None:
    """Cancelled, every proxy is removed as well."""

    async def main() -> None:
        async with (
            raw_server((endless,)) as server,
            asyncio.timeout(0.1),
            made(f"{server.origin}/run") as faults,
        ):
            await faults.script([LimitData(bytes=len(HEAD + BODY) * 2)])
            await get(faults)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
