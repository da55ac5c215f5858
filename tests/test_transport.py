"""The transport over real sockets: ends told apart, waits named, nothing leaked, nothing lost."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.cookies import Jar
from pytest_agentstream.recorder import Recorder
from pytest_agentstream.recording import EndKind, Phase, Recording, Request
from pytest_agentstream.target import Timeouts
from pytest_agentstream.transport import HttpTransport, UnsendableRequest
from pytest_agentstream.watching import Watch, after_events, when

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pytest_agentstream.wire import Block
    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]

TLS = Path(__file__).parent / "tls"
EVENT = "id: 1\ndata: {}\n\n"


def exchange(
    raw_server: type[RawServer],
    *scripts: Script,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    transport: HttpTransport | None = None,
    timeouts: Timeouts | None = None,
    tls: ssl.SSLContext | None = None,
    reads: bool = True,
    **options: Any,
) -> tuple[Recording, Peer | None]:
    """Have one exchange with a server that plays `scripts`, and wait until it has seen the end."""

    async def main() -> tuple[Recording, Peer | None]:
        async with raw_server(scripts, tls, reads) as server:
            recording = await (transport or HttpTransport()).exchange(
                Request(method, f"{server.origin}/run?a=b", headers, body),
                timeouts=timeouts or Timeouts(),
                **options,
            )
            peer = server.peers[0] if server.peers else None
            if peer is not None:
                with anyio.fail_after(5):
                    await peer.gone.wait()
            return recording, peer

    return anyio.run(main)


async def complete(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)
    await peer.end()


async def with_length(peer: Peer) -> None:
    await peer.answer("404 Not Found", '{"no": 1}', content_type="application/json")


async def without_body(peer: Peer) -> None:
    await peer.head("204 No Content")


async def close_delimited(peer: Peer) -> None:
    await peer.head(content_type="text/event-stream")
    await peer.send(EVENT)


async def http_1_0(peer: Peer) -> None:
    await peer.send("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", EVENT)


async def cut_chunk(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)
    await peer.send("20\r\nid: 2\n")


async def cut_between_chunks(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)


async def cut_length(peer: Peer) -> None:
    await peer.head(content_type="text/event-stream", content_length="100")
    await peer.send(EVENT)


async def no_answer(peer: Peer) -> None:
    """Close at once."""


async def reset_later(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)
    await peer.reader_has_all()
    peer.reset()


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def no_http(peer: Peer) -> None:
    await peer.send("SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def bad_chunk(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)
    await peer.send("zz\r\n")


async def endless_head(peer: Peer) -> None:
    await peer.send("HTTP/1.1 200 OK\r\nX-Long: ", "a" * 200_000)
    await peer.left()


ENDS = {
    "chunked": (complete, EndKind.COMPLETE, "the last chunk", 1),
    "length": (with_length, EndKind.COMPLETE, "all of Content-Length", 0),
    "no body": (without_body, EndKind.COMPLETE, "no body", 0),
    "close-delimited": (close_delimited, EndKind.CLOSE_DELIMITED, "closed", 1),
    "HTTP/1.0": (http_1_0, EndKind.CLOSE_DELIMITED, "closed", 1),
    "cut in a chunk": (cut_chunk, EndKind.CUT, "incomplete chunked read", 1),
    "cut between chunks": (cut_between_chunks, EndKind.CUT, "incomplete chunked read", 1),
    "cut in a length": (cut_length, EndKind.CUT, "expected 100", 1),
    "cut before the head": (no_answer, EndKind.CUT, "without sending a response", 0),
    "reset": (reset_later, EndKind.RESET, "reset by peer", 1),
    "reset before the head": (reset_at_once, EndKind.RESET, "reset by peer", 0),
    "no HTTP": (no_http, EndKind.PROTOCOL, "illegal status line", 0),
    "bad chunk": (bad_chunk, EndKind.PROTOCOL, "illegal chunk header", 1),
    "endless head": (endless_head, EndKind.LIMIT, "the response head is longer", 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_are_told_apart(raw_server: type[RawServer], name: str) -> None:
    """Each way in which an exchange ends has its kind and its words, and keeps what was seen."""
    script, kind, words, events = ENDS[name]
    recording, _ = exchange(raw_server, script)
    assert recording.end.kind is kind
    assert words in recording.end.detail
    assert events == sum(block.event is not None for block in recording.blocks)
    assert recording.end.phase is None
    assert recording.ended_cleanly == (kind in {EndKind.COMPLETE, EndKind.CLOSE_DELIMITED})


def lone(url: str, transport: HttpTransport | None = None, **options: Any) -> Recording:
    """Have one exchange with whatever is at `url`."""

    async def main() -> Recording:
        return await (transport or HttpTransport()).exchange(
            Request("GET", url), timeouts=Timeouts(), **options
        )

    return anyio.run(main)


def test_nobody_listens() -> None:
    """A refused connection is REFUSED, with neither a head nor a connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    recording = lone(f"http://127.0.0.1:{port}/")
    assert recording.end.kind is EndKind.REFUSED
    assert "Connect call failed" in recording.end.detail
    assert (recording.head, recording.connected) == (None, None)


def test_a_name_that_does_not_resolve() -> None:
    """A name that does not resolve is DNS."""
    assert lone("http://nothing.invalid/").end.kind is EndKind.DNS


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def test_untrusted_certificate(raw_server: type[RawServer]) -> None:
    """A certificate that nothing vouches for is TLS, with OpenSSL's words."""
    recording, _ = exchange(raw_server, complete, tls=server_tls())
    assert recording.end.kind is EndKind.TLS
    assert "certificate verify failed" in recording.end.detail


def test_ca_file(raw_server: type[RawServer]) -> None:
    """A certificate that `ca_file` vouches for is trusted."""
    transport = HttpTransport(ca_file=str(TLS / "cert.pem"))
    recording, _ = exchange(raw_server, complete, tls=server_tls(), transport=transport)
    assert recording.end.kind is EndKind.COMPLETE


def test_ca_file_that_is_none() -> None:
    """A `ca_file` that can't be read is an error that names it."""
    with pytest.raises(ValueError, match=r"ca_file.*nowhere\.pem"):
        HttpTransport(ca_file="nowhere.pem")


def test_plain_http_where_tls_is_expected(raw_server: type[RawServer]) -> None:
    """A server that answers a TLS handshake in plain HTTP is TLS."""

    async def main() -> Recording:
        async def plain(peer: Peer) -> None:
            await peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")

        async with raw_server((plain,), None, False) as server:
            url = server.origin.replace("http:", "https:")
            return await HttpTransport().exchange(Request("GET", url), timeouts=Timeouts())

    assert anyio.run(main).end.kind is EndKind.TLS


async def silent(peer: Peer) -> None:
    await peer.left()


async def head_only(peer: Peer) -> None:
    await peer.stream()
    await peer.left()


async def heartbeats_only(peer: Peer) -> None:
    await peer.stream()
    while not peer.reader.at_eof():
        await peer.chunk(": hb\n\n")
        await asyncio.sleep(0.01)


async def event_then_silence(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(EVENT)
    await peer.left()


async def events_for_ever(peer: Peer) -> None:
    await peer.stream()
    while not peer.reader.at_eof():
        await peer.chunk(EVENT)
        await asyncio.sleep(0.01)


async def page_then_silence(peer: Peer) -> None:
    await peer.head(content_type="text/html", content_length="100")
    await peer.send("<html>")
    await peer.left()


WAITS = {
    "head": (silent, {"head": 0.1}, Phase.HEAD, "no response head within 0.1 s"),
    "first event": (head_only, {"first_event": 0.1}, Phase.FIRST_EVENT, "no event within 0.1 s"),
    "heartbeats": (heartbeats_only, {"first_event": 0.1}, Phase.FIRST_EVENT, "no event within"),
    "silence": (event_then_silence, {"silence": 0.1}, Phase.SILENCE, "not a byte for 0.1 s"),
    "end": (events_for_ever, {"end": 0.2, "silence": 0.15}, Phase.END, "not over within 0.2 s"),
    "no stream": (
        page_then_silence,
        {"first_event": 0.05, "silence": 0.1},
        Phase.SILENCE,
        "not a byte for 0.1 s",
    ),
}


@pytest.mark.parametrize("name", WAITS)
def test_timeouts_name_their_phase(raw_server: type[RawServer], name: str) -> None:
    """A wait that is over ends the exchange, names its phase, keeps what came, and hangs up."""
    script, timeouts, phase, words = WAITS[name]
    recording, peer = exchange(raw_server, script, timeouts=Timeouts(**timeouts))
    assert (recording.end.kind, recording.end.phase) == (EndKind.TIMEOUT, phase)
    assert words in recording.end.detail
    assert (recording.head is None) == (phase is Phase.HEAD)
    assert (recording.body == b"") == (name in {"head", "first event"})
    assert peer is not None
    assert peer.gone.is_set()


def test_connect_timeout_covers_the_tls_handshake(raw_server: type[RawServer]) -> None:
    """A server that never answers the TLS handshake ends in the phase `connect`, and is left."""

    async def main() -> Recording:
        async with raw_server((silent,), None, False) as server:
            url = server.origin.replace("http:", "https:")
            recording = await HttpTransport().exchange(
                Request("GET", url), timeouts=Timeouts(connect=0.1)
            )
            with anyio.fail_after(5):
                await server.peers[0].gone.wait()
            return recording

    recording = anyio.run(main)
    assert (recording.end.kind, recording.end.phase) == (EndKind.TIMEOUT, Phase.CONNECT)
    assert recording.connected is None


def test_late_event_loop_loses_nothing() -> None:
    """Bytes that came in time, while our own event loop was late, are kept."""
    listener = socket.create_server(("127.0.0.1", 0))

    async def main() -> Recording:
        loop = asyncio.get_running_loop()
        peer: socket.socket

        async def accept() -> None:
            nonlocal peer
            peer, _ = await loop.sock_accept(listener)
            await loop.sock_recv(peer, 65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            peer.sendall(EVENT.encode())

        def on_block(block: Block) -> None:
            if block.index == 0:
                peer.sendall(EVENT.encode())
                peer.shutdown(socket.SHUT_WR)
                time.sleep(0.15)  # the event loop is blocked beyond the wait

        listener.setblocking(False)
        accepting = loop.create_task(accept())
        recording = await HttpTransport().exchange(
            Request("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/"),
            timeouts=Timeouts(silence=0.05),
            on_block=on_block,
        )
        await accepting
        peer.close()
        return recording

    with listener:
        recording = anyio.run(main)
    assert len(recording.blocks) == 2
    assert recording.end.kind is EndKind.CLOSE_DELIMITED


def test_body_limit(raw_server: type[RawServer]) -> None:
    """Of a body over the limit exactly the limit is kept, and the end is LIMIT."""
    recording, _ = exchange(raw_server, events_for_ever, recorder=Recorder(max_body=40))
    assert recording.end.kind is EndKind.LIMIT
    assert len(recording.body) == 40


def test_stop_after_events(raw_server: type[RawServer]) -> None:
    """A caller stops an exchange at an event; the end says why, and the server sees it."""
    recording, peer = exchange(raw_server, events_for_ever, on_block=after_events(3))
    assert recording.end.kind is EndKind.STOPPED
    assert recording.end.detail == "3 events were seen"
    assert len(recording.blocks) == 3
    assert peer is not None
    assert peer.gone.is_set()


def test_watch_sees_a_stream_left_open(raw_server: type[RawServer]) -> None:
    """A watch ends a stream that stays open with STOPPED, and keeps what came meanwhile."""
    watch = when(lambda block: block.index == 0, "watched", 0.1)
    recording, _ = exchange(raw_server, heartbeats_only, on_block=watch)
    assert (recording.end.kind, recording.end.detail) == (EndKind.STOPPED, "watched")
    assert len(recording.blocks) > 1


@pytest.mark.parametrize("watches", [(0.1, 60.0), (60.0, 0.1)], ids=["first", "second"])
def test_the_shorter_watch_counts(
    raw_server: type[RawServer], watches: tuple[float, float]
) -> None:
    """Of two watches the one that ends first stops the exchange."""

    async def two_events(peer: Peer) -> None:
        await peer.stream()
        await peer.chunk(EVENT * 2)
        await peer.left()

    recording, _ = exchange(
        raw_server,
        two_events,
        timeouts=Timeouts(silence=5),
        on_block=lambda block: Watch(watches[block.index], f"{watches[block.index]:g} s"),
    )
    assert (recording.end.kind, recording.end.detail) == (EndKind.STOPPED, "0.1 s")


def test_watch_sees_the_end(raw_server: type[RawServer]) -> None:
    """A stream that ends within the watch ends as it would have."""
    recording, _ = exchange(raw_server, complete, on_block=lambda _: Watch(5, "watched"))
    assert recording.end.kind is EndKind.COMPLETE


def test_error_in_a_callback_is_raised(raw_server: type[RawServer]) -> None:
    """An error in the caller's callback is raised as it is, not taken for the server's."""

    def broken(block: Block) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        exchange(raw_server, complete, on_block=broken)


def test_cancellation_keeps_what_was_seen(raw_server: type[RawServer]) -> None:
    """A cancelled exchange closes its socket at once and leaves its recording with the recorder."""

    async def main() -> Recording:
        recorder = Recorder()
        async with raw_server((event_then_silence,)) as server:
            seen = anyio.Event()
            async with anyio.create_task_group() as group:

                async def run() -> None:
                    await HttpTransport().exchange(
                        Request("GET", server.origin),
                        timeouts=Timeouts(),
                        recorder=recorder,
                        on_block=lambda _: seen.set(),
                    )

                group.start_soon(run)
                await seen.wait()
                group.cancel_scope.cancel()
            with anyio.fail_after(5):
                await server.peers[0].gone.wait()
        return recorder.recording

    recording = anyio.run(main)
    assert (recording.end.kind, recording.end.detail) == (EndKind.STOPPED, "cancelled")
    assert len(recording.blocks) == 1


@pytest.mark.parametrize("script", [silent, head_only], ids=["before the head", "behind it"])
def test_cancelling_a_task_leaks_nothing(raw_server: type[RawServer], script: Script) -> None:
    """A plain asyncio cancellation, in whatever phase, closes the socket too."""

    async def main() -> None:
        async with raw_server((script,)) as server:
            task = asyncio.ensure_future(
                HttpTransport().exchange(Request("GET", server.origin), timeouts=Timeouts())
            )
            with anyio.fail_after(5):
                await server.asked.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await server.peers[0].gone.wait()

    anyio.run(main)


def test_identity_is_asked_for(raw_server: type[RawServer]) -> None:
    """Without another wish the request says `Accept-Encoding: identity`, as the recording shows."""
    recording, peer = exchange(raw_server, complete)
    assert peer is not None
    assert peer.headers["accept-encoding"] == "identity"
    assert ("Accept-Encoding", "identity") in recording.request.headers


def test_gzip_on_purpose(raw_server: type[RawServer]) -> None:
    """A gzipped stream is kept as sent, and decoded as each part of it arrives."""
    packed = gzip.compress(EVENT.encode() * 2)

    async def script(peer: Peer) -> None:
        await peer.stream(content_encoding="gzip")
        await peer.chunk(packed[:10])
        await peer.chunk(packed[10:])
        await peer.end()

    headers = (("accept-encoding", "gzip"),)
    recording, peer = exchange(raw_server, script, headers=headers)
    assert peer is not None
    assert peer.headers["accept-encoding"] == "gzip"
    assert b"".join(chunk.data for chunk in recording.chunks) == packed
    assert recording.body == EVENT.encode() * 2
    assert [block.at for block in recording.blocks] == [recording.content[0].at] * 2


def test_no_redirect_is_followed(raw_server: type[RawServer]) -> None:
    """A redirect is an answer like any other."""

    async def script(peer: Peer) -> None:
        await peer.answer("302 Found", location="/elsewhere")

    recording, _ = exchange(raw_server, script)
    assert recording.status == 302


def test_what_was_sent_is_what_is_recorded(raw_server: type[RawServer]) -> None:
    """The recorded request has the method, URL, headers and body that the server got."""
    recording, peer = exchange(raw_server, with_length, method="POST", body=b"{}")
    assert peer is not None
    assert (peer.method, peer.target, peer.body) == ("POST", "/run?a=b", b"{}")
    assert {name.lower(): value for name, value in recording.request.headers} == peer.headers
    assert recording.request.body == b"{}"


def test_head_is_kept_as_sent(raw_server: type[RawServer]) -> None:
    """The head keeps case, order and repetition of headers; times follow each other."""

    async def script(peer: Peer) -> None:
        await peer.send("HTTP/1.1 299 So So\r\nX-b: 1\r\nX-A: 2\r\nx-B: 3\r\n")
        await peer.send("Content-Length: 2\r\n\r\nok")

    recording, _ = exchange(raw_server, script)
    head = recording.head
    assert head is not None
    assert (head.status, head.reason, head.version) == (299, "So So", "HTTP/1.1")
    assert [name for name, _ in head.headers] == ["X-b", "X-A", "x-B", "Content-Length"]
    assert recording.connected is not None
    assert 0 < recording.connected < head.at <= recording.chunks[0].at <= recording.end.at


def test_cookies_of_a_run(raw_server: type[RawServer]) -> None:
    """Cookies that a server sets are sent to it again from the same jar, and from no other."""

    async def script(peer: Peer) -> None:
        await peer.answer("200 OK", peer.headers.get("cookie", "none"), set_cookie="a=1; Path=/")

    async def main() -> list[bytes]:
        async with raw_server((script,)) as server:
            jar, transport = Jar(), HttpTransport()
            first, second = [
                await transport.exchange(
                    Request("GET", server.origin), timeouts=Timeouts(), jar=jar
                )
                for _ in range(2)
            ]
            third = await transport.exchange(
                Request("GET", server.origin), timeouts=Timeouts(), jar=Jar()
            )
            fourth = await transport.exchange(
                Request("GET", server.origin), timeouts=Timeouts(), jar=Jar.of([first])
            )
            return [each.body for each in (first, second, third, fourth)]

    assert anyio.run(main) == [b"none", b"a=1", b"none", b"a=1"]


def test_each_exchange_has_its_own_connection(raw_server: type[RawServer]) -> None:
    """Two exchanges use two connections; kept alive on purpose they share one, which shows."""

    async def script(peer: Peer) -> None:
        await with_length(peer)
        if await peer.read_request():
            await with_length(peer)
            await peer.left()

    async def main() -> None:
        async with raw_server((script,)) as server:
            transport = HttpTransport()
            request = Request("GET", server.origin)
            for _ in range(2):
                assert (await transport.exchange(request, timeouts=Timeouts())).connected
            assert len(server.peers) == 2
            async with transport.keeping_alive(server.origin) as kept:
                first = await kept.exchange(request, timeouts=Timeouts())
                second = await kept.exchange(request, timeouts=Timeouts())
            assert len(server.peers) == 3
            assert first.connected is not None
            assert second.connected is None
            with anyio.fail_after(5):
                await server.peers[2].gone.wait()

    anyio.run(main)


def test_proxies_of_the_environment(
    raw_server: type[RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names is used only with `trust_env`."""

    async def main(trust_env: bool) -> str:
        async with raw_server((with_length,)) as proxy, raw_server((complete,)) as server:
            monkeypatch.setenv("http_proxy", proxy.origin)
            monkeypatch.delenv("no_proxy", raising=False)
            recording = await HttpTransport(trust_env=trust_env).exchange(
                Request("GET", server.origin), timeouts=Timeouts()
            )
            return "proxy" if recording.status == 404 else "server"

    assert anyio.run(main, False) == "server"
    assert anyio.run(main, True) == "proxy"


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "ftp://127.0.0.1/"),
        Request("GET", "/relative"),
        Request("GET", "http://127.0.0.1:99999/"),
        Request("GET", "http://127.0.0.1:1/", (("Last-Event-ID", "a\nb"),)),
        Request("G T", "http://127.0.0.1:1/"),
    ],
    ids=["scheme", "relative", "port", "header", "method"],
)
def test_unsendable_requests(raw_server: type[RawServer], request_: Request) -> None:
    """A request that HTTP can't carry is our own error, told at once."""

    async def main() -> None:
        async with raw_server((complete,)) as server:
            url = request_.url.replace("http://127.0.0.1:1", server.origin)
            await HttpTransport().exchange(
                Request(request_.method, url, request_.headers), timeouts=Timeouts()
            )

    with pytest.raises(UnsendableRequest):
        anyio.run(main)


def test_lag_is_recorded(raw_server: type[RawServer]) -> None:
    """The lag of the event loop since the request was begun stands in the recording."""
    asked: list[float] = []

    def lag_since(start: float) -> float:
        asked.append(start)
        return 0.25

    before = time.perf_counter()
    recording, _ = exchange(raw_server, complete, recorder=Recorder(lag_since=lag_since))
    assert recording.lag == 0.25
    assert len(asked) == 1
    assert before <= asked[0] <= time.perf_counter()
