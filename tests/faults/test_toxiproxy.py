"""A Toxiproxy server as a session uses it: what it is checked for, and what it is left with."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.faults import Latency, Toxiproxy, ToxiproxyError
from pytest_agentstream.faults import toxiproxy_api as api
from pytest_agentstream.faults import toxiproxy_names as names
from tests.services import Service, free_port, toxiproxy_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.conftest import Peer, RawServer

    Serving = Callable[..., AbstractContextManager[RawServer]]

NOBODY = "127.0.0.1:9"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A Toxiproxy server of this module's own."""
    with toxiproxy_server() as service:
        yield service


def listed(url: str) -> set[str]:
    """The names of all proxies in it."""
    return set(api.Api(url).proxies())


def make(url: str, name: str) -> str:
    """Make a proxy of any name, as somebody else would."""
    api.Api(url).create(name, NOBODY)
    return name


# -- what is left behind -------------------------------------------------------------------------


def test_a_session_leaves_nothing(service: Service) -> None:
    """Every proxy of a session is there while it is open, and gone when it is closed."""
    with Toxiproxy(service.url) as toxiproxy:
        member = toxiproxy.make(NOBODY, [Latency(latency=0.1).toxic])
        assert listed(service.url) == {member.name}
        assert member.address[0] == "127.0.0.1"
        assert member.toxics[0]["attributes"] == {"latency": 100, "jitter": 0}
    assert listed(service.url) == set()
    toxiproxy.close()


def test_a_session_that_breaks_leaves_nothing(service: Service) -> None:
    """Proxies go when the block is left by an exception."""
    with suppress(KeyboardInterrupt), Toxiproxy(service.url) as toxiproxy:
        member = toxiproxy.make(NOBODY, [])
        assert listed(service.url) == {member.name}
        raise KeyboardInterrupt
    assert listed(service.url) == set()


def test_a_proxy_that_is_not_removed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One removal that is refused keeps no other from being removed, and is told of."""
    toxiproxy = Toxiproxy(service.url)
    toxiproxy.open()
    made = {toxiproxy.make(NOBODY, []).name for _ in range(4)}
    refused: list[str] = []
    delete = api.Api.delete

    def refuse_the_first(it: api.Api, name: str) -> None:
        if not refused:
            refused.append(name)
            raise api.Refused("Toxiproxy answered 500", 500)
        delete(it, name)

    monkeypatch.setattr(api.Api, "delete", refuse_the_first)
    toxiproxy.close()
    assert listed(service.url) == set(refused) < made
    [note] = toxiproxy.notes
    assert note == (
        f"proxies of this session may remain in Toxiproxy at {service.url}, and the next session "
        "on this machine removes them: Toxiproxy answered 500"
    )
    delete(api.Api(service.url), refused[0])


def test_one_that_hangs_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers no more keeps its proxies, and that is told once; one that is gone none."""
    with toxiproxy_server() as own:
        hanging, gone = Toxiproxy(own.url), Toxiproxy(own.url)
        for each in (hanging, gone):
            each.open()
            each.make(NOBODY, [])
            each.make(NOBODY, [])
        monkeypatch.setattr(api, "LIMIT", 0.5)
        own.process.send_signal(signal.SIGSTOP)
        hanging.close()
        own.kill()
        gone.close()
    [note] = hanging.notes
    assert note.endswith(f"Toxiproxy at {own.url} did not answer within 0.5 s")
    assert gone.notes == []


def test_no_thread_can_be_started(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the interpreter ends already, as at the exit, proxies are removed all the same."""
    toxiproxy = Toxiproxy(service.url)
    toxiproxy.open()
    toxiproxy.make(NOBODY, [])

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        toxiproxy.close()
    assert listed(service.url) == set()


def test_a_proxy_that_is_made_too_late(service: Service) -> None:
    """One that a thread makes while the session is being closed does not stay."""
    toxiproxy = Toxiproxy(service.url)
    toxiproxy.open()
    toxiproxy.close()
    toxiproxy.make(NOBODY, [])
    assert listed(service.url) == set()


def test_sessions_at_one_server(service: Service) -> None:
    """Each session removes its own proxies and nobody else's."""
    foreign = make(service.url, "redis_master")
    with Toxiproxy(service.url) as one, Toxiproxy(service.url) as other:
        kept, removed = one.make(NOBODY, []), other.make(NOBODY, [])
        assert kept.name != removed.name
        other.close()
        assert listed(service.url) == {foreign, kept.name}
    assert listed(service.url) == {foreign}
    api.Api(service.url).delete(foreign)


def test_sessions_at_several_servers(service: Service) -> None:
    """Sessions at different servers, in threads, each talk to their own."""
    rounds = 10
    with (
        toxiproxy_server() as further,
        Toxiproxy(service.url) as one,
        Toxiproxy(further.url) as two,
    ):
        workers = [
            threading.Thread(target=lambda it=it: [it.make(NOBODY, []) for _ in range(rounds)])
            for it in (one, two)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        here, there = listed(service.url), listed(further.url)
        assert (len(here), len(there)) == (rounds, rounds)
        assert not here & there


def test_the_package_is_left_as_it_is(service: Service) -> None:
    """Host and port of toxiproxy-python itself, which somebody else may use, don't change."""
    consumer = import_module("toxiproxy.api").APIConsumer
    before = (consumer.host, consumer.port)
    with Toxiproxy(service.url):
        assert (consumer.host, consumer.port) == before


CHILD = """
import os, signal, sys
from pytest_agentstream.faults import Toxiproxy
toxiproxy = Toxiproxy(sys.argv[1])
toxiproxy.open()
print(toxiproxy.make("127.0.0.1:9", []).name, flush=True)
if sys.argv[2] == "fork" and os.fork() == 0:
    sys.exit()
sys.stdin.readline()
"""


@contextmanager
def child(url: str, how: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with an open session, and the name of its proxy."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("end", ["exit", "interrupt"])
def test_a_process_that_ends_without_closing(service: Service, end: str) -> None:
    """A process that ends, also by Ctrl-C, takes its proxies with it."""
    with child(service.url) as (process, name):
        assert listed(service.url) == {name}
        if end == "exit":
            process.communicate("go\n")
        else:
            process.send_signal(signal.SIGINT)
            process.wait()
        assert listed(service.url) == set()


def test_a_process_that_is_killed(service: Service) -> None:
    """What a killed process left is removed by the next session, and not while it lives."""
    with child(service.url) as (process, name):
        with Toxiproxy(service.url):
            assert name in listed(service.url)
        process.kill()
        process.wait()
        assert listed(service.url) == {name}
        with Toxiproxy(service.url):
            assert listed(service.url) == set()


def test_a_forked_child(service: Service) -> None:
    """A child that was forked and ends doesn't remove its parent's proxies."""
    with child(service.url, "fork") as (process, name):
        assert process.poll() is None
        assert listed(service.url) == {name}


def dead_pid() -> int:
    """A PID that nobody has."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_who_is_stale() -> None:
    """Only what a dead process of this very machine made may be removed."""
    here, dead = names.machine(), dead_pid()
    elsewhere = "0" * 8
    assert names.is_stale(f"agentstream-{here}-{dead}-0123abcd-1")
    assert not names.is_stale(f"agentstream-{here}-{os.getpid()}-0123abcd-1")
    assert not names.is_stale(f"agentstream-{here}-1-0123abcd-1")
    assert not names.is_stale(f"agentstream-{here}-9999999999-0123abcd-1")
    assert not names.is_stale(f"agentstream-{elsewhere}-{dead}-0123abcd-1")
    assert not names.is_stale(f"agentstream-{dead}-1")
    assert not names.is_stale("redis_master")
    assert not names.is_stale(f"{names.session_prefix()}1")


def test_stale_proxies_are_swept(service: Service) -> None:
    """Opening removes what is stale and leaves alone what is not."""
    here, dead = names.machine(), dead_pid()
    stale = make(service.url, f"agentstream-{here}-{dead}-0123abcd-1")
    kept = {make(service.url, f"agentstream-{'0' * 8}-{dead}-0123abcd-1")}
    assert stale in listed(service.url)
    with Toxiproxy(service.url):
        assert listed(service.url) == kept
    for name in kept:
        api.Api(service.url).delete(name)


# -- what is no Toxiproxy, or none that can be used ----------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8474", "https://127.0.0.1:8474", "http://", "http://127.0.0.1:8474/proxies",
        "http://127.0.0.1:port", "http://127.0.0.1:99999", "http://user:word@127.0.0.1:8474",
        "http://[::1", "http://127.0.0.1:8474?a=b", "http://127.0.0.1:84 74",
    ],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    """A URL that can't be Toxiproxy's is refused at once, with one that could be."""
    with pytest.raises(ToxiproxyError, match=r"expected .* such as http://127\.0\.0\.1:8474"):
        Toxiproxy(url)


def test_a_toxiproxy_elsewhere() -> None:
    """One on another machine is refused: its proxies listen on that one's loopback."""
    with pytest.raises(ToxiproxyError, match="a Toxiproxy on this machine"):
        Toxiproxy("http://192.0.2.1:8474")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:8474"),
        ("http://localhost:1/", "http://localhost:1"),
        ("http://[::1]:8474", "http://[::1]:8474"),
    ],
)
def test_urls_that_are_some(url: str, place: str) -> None:
    """The port is 8474 where none is given; names and IPv6 addresses of loopback are taken."""
    assert Toxiproxy(url).url == place


def test_nobody_listens() -> None:
    """Where nobody listens, one sentence says where and why."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ToxiproxyError) as raised:
        Toxiproxy(url).open()
    assert str(raised.value) == f"Toxiproxy at {url} can't be reached: Connection refused"


def answering(*bodies: bytes | str, status: str = "200 OK", **headers: str) -> Any:
    """A script for each answer, in order."""

    def script(body: bytes | str) -> Any:
        async def answer(peer: Peer) -> None:
            raw = body.encode() if isinstance(body, str) else body
            await peer.head(status, content_length=str(len(raw)), **headers)
            await peer.send(raw)

        return answer

    return [script(body) for body in bodies]


NO_TOXIPROXY: dict[str, tuple[Any, str]] = {
    "a page": (answering("<html>Hello</html>"), "found <html>Hello</html>"),
    "nothing": (answering(""), "found nothing"),
    "JSON": (answering('{"service": "chat"}'), "expected a version"),
    "404": (answering("Not here", status="404 Not Found"), "it answered 404 to GET /version"),
    "500": (answering("oh", status="500 Oh"), "it answered 500 to GET /version"),
    "redirect": (
        answering("", status="302 Found", location="http://127.0.0.1:9/"),
        "it answered 302 to GET /version",
    ),
    "escapes": (answering("\x1b[31m" + "x" * 9999), r"found \[31mx{,300}…$"),
    "no proxies": (answering('{"version": "2.12.0"}', "[]"), "expected a JSON object of /proxies"),
    "odd proxies": (answering('{"version": "2.12.0"}', '{"a": 1}'), "lists no proxies"),
}


@pytest.mark.parametrize("name", NO_TOXIPROXY)
def test_no_toxiproxy(serving: Serving, name: str) -> None:
    """What answers otherwise than Toxiproxy is said not to be it, with what was found."""
    scripts, words = NO_TOXIPROXY[name]
    with serving(*scripts) as server:
        url = server.origin
        with pytest.raises(ToxiproxyError, match=words) as raised:
            Toxiproxy(url).open()
    assert f"{url} is not Toxiproxy" in str(raised.value)
    assert str(raised.value).isprintable()


async def no_http(peer: Peer) -> None:
    await peer.send("220 mail.example ESMTP\r\n")


async def flood(peer: Peer) -> None:
    await peer.stream()
    while True:
        await peer.chunk("data: token\n\n" * 5000)


async def drip(peer: Peer) -> None:
    await peer.head(content_length="1000000")
    while True:
        await peer.send("x")
        await asyncio.sleep(0.05)


async def silent(peer: Peer) -> None:
    await peer.left()


async def leave(peer: Peer) -> None:
    """Go without a word."""


async def shut(peer: Peer) -> None:
    peer.reset()


BROKEN: dict[str, tuple[Any, str]] = {
    "no HTTP": (no_http, "is not Toxiproxy: it answers no HTTP"),
    "a flood": (flood, "is not Toxiproxy: its answer does not end"),
    "a drip": (drip, "did not answer within 0.5 s"),
    "silence": (silent, "did not answer within 0.5 s"),
    "no answer": (leave, "can't be reached"),
    "a reset": (shut, "can't be reached: Connection reset by peer"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_never_answers(serving: Serving, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever listens there, opening ends, with one sentence and no thread that goes on."""
    monkeypatch.setattr(api, "LIMIT", 0.5)
    script, words = BROKEN[name]
    with serving(script) as server, pytest.raises(ToxiproxyError, match=words):
        Toxiproxy(server.origin).open()
    for thread in threading.enumerate():
        if thread.name == "agentstream-toxiproxy":
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("body", ["2.1.4", '{"version": "2.1.4"}', '{"version": 2.1.4}\n'])
def test_too_old(serving: Serving, body: str) -> None:
    """One that is too old is named with its version and the one that is expected."""
    with serving(*answering(body)) as server:
        url = server.origin
        with pytest.raises(ToxiproxyError) as raised:
            Toxiproxy(url).open()
    assert str(raised.value) == (
        f"Toxiproxy at {url} is too old: expected 2.4.0 or later, found 2.1.4"
    )


@contextmanager
def playing(serving: Serving, **instead: tuple[str, str]) -> Iterator[str]:
    """A server that answers as Toxiproxy does, but for some answers; its proxy is itself."""
    place: list[str] = []

    async def answer(peer: Peer) -> None:
        body = await_body(peer)
        status, text = instead.get(body, ("200 OK", "{}"))
        if body not in instead and peer.target == "/version":
            text = '{"version": "git"}'
        if body not in instead and (peer.method, peer.target) == ("POST", "/proxies"):
            status, text = "201 Created", f'{{"listen": "{place[0]}"}}'
        await peer.answer(status, text)

    def await_body(peer: Peer) -> str:
        kind = next((name for name in instead if f'"type": "{name}"'.encode() in peer.body), "")
        return kind or ("create" if (peer.method, peer.target) == ("POST", "/proxies") else "")

    with serving(answer) as server:
        place.append(server.origin.removeprefix("http://"))
        yield server.origin


def test_one_that_hides_its_age(serving: Serving) -> None:
    """One built from source has no number: it is too old if it knows not every toxic."""
    refusal = ("400 Bad Request", '{"error":"invalid toxic type","status":400}')
    with (
        playing(serving, reset_peer=refusal) as url,
        pytest.raises(ToxiproxyError, match=r"is too old: .*, found git") as it,
    ):
        Toxiproxy(url).open()
    assert "no usable reset_peer" in str(it.value)
    assert "invalid toxic type" in str(it.value)
    with playing(serving) as url, Toxiproxy(url) as toxiproxy:
        assert (toxiproxy.version, toxiproxy.label) == ("git", "Toxiproxy")


def test_one_in_a_network_of_its_own(serving: Serving) -> None:
    """One whose proxies can't be reached from here, as in a container, is refused."""
    elsewhere = ("201 Created", f'{{"listen": "127.0.0.1:{free_port()}"}}')
    with (
        playing(serving, create=elsewhere) as url,
        pytest.raises(ToxiproxyError, match="not in a container of its own network"),
    ):
        Toxiproxy(url).open()


def test_one_that_can_make_no_proxy(serving: Serving) -> None:
    """What Toxiproxy says when it can't listen is passed on."""
    refusal = ("500 Internal Server Error", '{"error":"listen tcp: bind: too many","status":500}')
    with (
        playing(serving, create=refusal) as url,
        pytest.raises(ToxiproxyError, match="answered 500 to POST /proxies: listen tcp: bind"),
    ):
        Toxiproxy(url).open()


def test_a_toxic_that_is_refused(service: Service) -> None:
    """A toxic that Toxiproxy refuses is named with its own words, and does not stop the session."""
    with Toxiproxy(service.url) as toxiproxy:
        with pytest.raises(ToxiproxyError, match=r"answered 400 to POST .*: invalid toxic type"):
            toxiproxy.make(NOBODY, [{"type": "gremlin"}])
        assert toxiproxy.gone == ""
        toxiproxy.make(NOBODY, [])
    assert listed(service.url) == set()


def test_proxies_of_the_environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toxiproxy is talked to directly, whatever proxies and credentials the environment names."""
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody)
    with Toxiproxy(service.url) as toxiproxy:
        assert toxiproxy.version


def test_the_package_is_missing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without toxiproxy-python the error says what to install."""
    monkeypatch.setitem(sys.modules, "toxiproxy.api", None)
    with pytest.raises(ToxiproxyError, match=r"pip install 'pytest-agentstream\[toxiproxy\]'"):
        Toxiproxy(service.url).open()
