"""The preflight stops with what the server said, and the setting that would change it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]
    Serving = Callable[..., AbstractContextManager[RawServer]]
    Preflight = Callable[..., str]

TLS = Path(__file__).parents[1] / "tls"
URL = "  Set   the start endpoint of your server, for instance"
SHORT = {"head": 0.2, "first_event": 0.2}
SILENT = (
    "it accepted the request and said nothing for ",
    "it answered 200 and then sent no event for ",
)
BODY = "  Set   what your server wants to be sent, under the names that it uses, for instance:"
SCHEME = (
    "  Set   the start endpoint of your server, with https:// where it speaks TLS, for instance"
)


def answer(status: str, body: str = "", **headers: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.answer(status, body, **headers)

    return script


async def accept_and_say_nothing(peer: Peer) -> None:
    await peer.left()


async def close_at_once(peer: Peer) -> None:
    pass


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def not_http(peer: Peer) -> None:
    await peer.send("SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def head_then_nothing(peer: Peer) -> None:
    await peer.stream()
    await peer.left()


async def head_then_cut(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(": hello\n\n")


async def only_comments(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk(": hb\n\n: hb\n\n")
    await peer.end()


async def not_events(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk('{"text": "hello"}\n{"text": "there"}\n')
    await peer.end()


ROWS = [
    pytest.param(
        answer("401 Unauthorized", '{"detail": "no token"}', content_type="application/json"),
        [
            "it wants credentials (401)",
            "  Got   401 Unauthorized, application/json",
            '        {"detail": "no token"}',
            '        headers = { Authorization = "Bearer {env:AGENT_TOKEN}" }',
        ],
        id="401",
    ),
    pytest.param(answer("403 Forbidden", "no"), ["it refuses these credentials (403)"], id="403"),
    pytest.param(
        answer("404 Not Found", '{"detail": "Not Found"}', content_type="application/json"),
        ["it knows nothing at this path (404)", '        {"detail": "Not Found"}', URL],
        id="404",
    ),
    pytest.param(
        answer("405 Method Not Allowed", allow="GET"),
        ["it does not start runs with this method (405)", 'complete = { method = "GET"'],
        id="405",
    ),
    pytest.param(
        answer("422 Unprocessable Entity", '{"loc": ["body", "prompt"]}'),
        [
            "it does not accept this body (422)",
            '        {"loc": ["body", "prompt"]}',
            BODY,
            "        [tool.agentstream.scenarios]",
        ],
        id="422",
    ),
    pytest.param(
        answer("429 Too Many Requests", retry_after="60"),
        ["it is asked too much already (429)", "        --agentstream-concurrency 1"],
        id="429",
    ),
    pytest.param(answer("503 Service Unavailable"), ["it takes no runs now (503)"], id="503"),
    pytest.param(
        answer("500 Internal Server Error", "Traceback\n\n\x1b[31mboom\x1b[0m \u202e"),
        [
            "it failed (500)",
            "        Traceback",
            "        \\x1b[31mboom\\x1b[0m \\u202e",
            "own log",
        ],
        id="500",
    ),
    pytest.param(
        answer("200 OK", "<!doctype html>\n<title>App</title>", content_type="text/html"),
        ["it answered 200 with an HTML page, not a stream", "        <title>App</title>", URL],
        id="html",
    ),
    pytest.param(
        answer("200 OK", '{"answer": "hi"}', content_type="application/json"),
        [
            "it answered 200 with application/json, not a stream",
            '        {"answer": "hi"}',
            '        complete = { json = { message = "Hello", stream = true } }',
        ],
        id="json",
    ),
    pytest.param(answer("200 OK"), ["it answered 200 with an empty body", BODY], id="empty"),
    pytest.param(answer("204 No Content"), ["it answered 204 with an empty body"], id="204"),
    pytest.param(
        only_comments,
        ["it answered 200 with an event stream of comments, and no event", BODY],
        id="only comments",
    ),
    pytest.param(
        not_events,
        ["it answered 200 (text/event-stream), and nothing in its body is an event"],
        id="not events",
    ),
    pytest.param(
        accept_and_say_nothing,
        ["it accepted the request and said nothing for ", "        head = 120"],
        id="says nothing",
    ),
    pytest.param(
        head_then_nothing,
        ["it answered 200 and then sent no event for ", "        first_event = 120"],
        id="says only the head",
    ),
    pytest.param(
        head_then_cut,
        ["it answered 200 and broke off before the first event", "own log"],
        id="cut before the first event",
    ),
    pytest.param(
        close_at_once, ["it closed the connection without an answer", SCHEME], id="closes"
    ),
    pytest.param(
        reset_at_once, ["it closed the connection without an answer", SCHEME], id="resets"
    ),
    pytest.param(not_http, ["what it answered is not HTTP", SCHEME], id="not HTTP"),
    pytest.param(
        answer("302 Found", location="/login"),
        [
            "it redirects to /login (302), where the suite does not follow",
            "        --agentstream-url http://127.0.0.1:",
        ],
        id="redirect of a POST",
    ),
    pytest.param(
        answer("307 Temporary Redirect", location="http://elsewhere.invalid/chat"),
        [
            "it redirects to http://elsewhere.invalid/chat (307), where the suite does not follow",
            "        --agentstream-url http://elsewhere.invalid/chat",
        ],
        id="redirect to another origin",
    ),
]


@pytest.mark.parametrize(("script", "expected"), ROWS)
def test_a_server_that_starts_no_stream(
    serving: Serving, preflight: Preflight, script: Script, expected: list[str]
) -> None:
    """The run stops after one request, with the server's words and the setting, paste-ready."""
    with serving(script) as server:
        url = f"{server.origin}/chat"
        said = preflight(url, timeouts=SHORT if expected[0] in SILENT else {})
        assert len(server.peers) == 1
    first, *rest = expected
    lines = said.splitlines()
    assert lines[0].startswith(f"agentstream preflight: {first}")
    assert lines[1].startswith("  Sent  run 1, exchange 1: POST /chat")
    assert lines[2] == f"  To    {url}"
    for text in rest:
        assert text in said


@pytest.mark.parametrize(("script", "expected"), ROWS)
def test_it_is_the_same_before_a_dialect_is_detected(
    serving: Serving, preflight: Preflight, script: Script, expected: list[str]
) -> None:
    """Without a dialect the first answer is refused for the same reasons, after one request."""
    with serving(script) as server:
        timeouts = SHORT if expected[0] in SILENT else {}
        said = preflight(f"{server.origin}/chat", dialect=None, timeouts=timeouts)
        assert len(server.peers) == 1
    assert said.startswith(f"agentstream preflight: {expected[0]}")


def test_nothing_listens(preflight: Preflight, unused_tcp_port: int) -> None:
    """A refused connection asks for the URL."""
    said = preflight(f"http://127.0.0.1:{unused_tcp_port}/chat")
    assert "preflight: nothing listens there (the connection was refused)" in said
    assert URL in said


def test_the_name_does_not_resolve(preflight: Preflight) -> None:
    """A DNS failure says so; `.invalid` never resolves (RFC 6761 6.4)."""
    said = preflight("http://agent.invalid/chat")
    assert "preflight: the host name does not resolve" in said
    assert URL in said


def test_a_certificate_that_nobody_trusts(serving: Serving, preflight: Preflight) -> None:
    """A TLS failure quotes the reason and asks for the certificate authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    with serving(accept_and_say_nothing, tls=context, reads=False) as server:
        said = preflight(f"{server.origin}/chat")
    assert "preflight: no TLS connection could be made" in said
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert 'ca_file = "staging-ca.pem"' in said


def test_https_at_a_server_without_tls(serving: Serving, preflight: Preflight) -> None:
    """https:// at a plain server is a TLS failure that offers http://."""

    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(plain, reads=False) as server:
        said = preflight(server.origin.replace("http:", "https:") + "/chat")
    assert "preflight: no TLS connection could be made" in said
    assert "http:// instead of https://" in said


def test_a_long_answer_is_quoted_in_part(serving: Serving, preflight: Preflight) -> None:
    """However long the server's answer, a few short lines of it are shown."""
    with serving(answer("500 Oops", ("x" * 5000 + "\n") * 100)) as server:
        said = preflight(f"{server.origin}/chat")
    assert len(said) < 1500


def test_a_server_that_streams_passes(serving: Serving, preflight: Preflight) -> None:
    """One event is enough to begin: whether it is a good one is for the cases to say."""

    async def one_event(peer: Peer) -> None:
        await peer.stream()
        await peer.chunk("data: 1\n\n")
        await peer.end()

    with serving(one_event) as server:
        assert preflight(f"{server.origin}/chat", dialect="generic-data") == ""
