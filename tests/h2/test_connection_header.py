"""What a server says over HTTP/2 is judged there, and only where it speaks HTTP/2."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio
import pytest

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.recording import EndKind, Request
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from pytest_agentstream.target import Timeouts
from pytest_agentstream.transport import HttpTransport
from pytest_agentstream.verdicts import Verdict
from tests.h2.both_server import CA_FILE, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_agentstream.judging import CaseResult
    from tests.conftest import Peer, RawServer
    from tests.h2.both_server import BothServer

    Answering = Callable[..., AbstractContextManager[BothServer]]
    Judging = Callable[..., CaseResult]

SLUG = "http.h2-no-connection-header"
RUN = 'data: {"text": "word"}\n\ndata: [DONE]\n\n'


@pytest.fixture
def judged(tmp_path: Path) -> Judging:
    """The result of the one case at a URL, and how many runs were started for it."""

    def judge(url: str, *, runs: int, **options: object) -> CaseResult:
        options = {"url": url, "dialect": "generic-data", **options}
        session = Session(load(options, directory=tmp_path, environment={}), catalogue())
        try:
            result = session.judge(catalogue()[SLUG])
            assert session.ledger.started == runs
            return result
        finally:
            session.close()

    return judge


def test_an_answer_without_it_is_met(answering: Answering, judged: Judging) -> None:
    """A run over HTTP/2 without connection-specific header fields meets the requirement."""
    with answering(Answer()) as server:
        result = judged(server.url, runs=2, ca_file=CA_FILE)

    assert result.verdict is Verdict.MET, result
    assert server.asked == ["HTTP/1.1", "HTTP/2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked")],
)
def test_an_answer_with_it_fails(
    name: str, value: str, answering: Answering, judged: Judging
) -> None:
    """One such field makes the answer malformed, and is shown."""
    with answering(Answer(headers=((name, value),))) as server:
        result = judged(server.url, runs=2, ca_file=CA_FILE)

    assert result.verdict is Verdict.FAILED, result
    assert "without connection-specific header fields" in result.expected
    assert result.actual == f"{name}: {value}"
    assert any(line.startswith("    ! ") and "< 200" in line for line in result.wire), result.wire
    assert server.asked == ["HTTP/1.1", "HTTP/2"]


@pytest.mark.parametrize("trouble", ["reset", "farewell", "bad frame"])
def test_other_protocol_errors_are_not_taken_for_it(
    trouble: Literal["reset", "farewell", "bad frame"], answering: Answering, judged: Judging
) -> None:
    """An answer that breaks HTTP/2 in another way leaves the requirement not tested."""
    with answering(Answer(trouble=trouble)) as server:
        result = judged(server.url, runs=2, ca_file=CA_FILE)

    assert result.verdict is Verdict.NOT_TESTED, result
    assert "no response head (protocol: " in result.reason


@pytest.mark.parametrize("trouble", ["reset", "farewell", "bad frame"])
@pytest.mark.parametrize("instead", [True, False])
def test_trouble_is_recorded(
    trouble: Literal["reset", "farewell", "bad frame"], instead: bool, answering: Answering
) -> None:
    """What breaks HTTP/2 ends the recording as PROTOCOL, and what came before it is kept."""
    with answering(Answer(trouble=trouble, instead=instead)) as server:
        transport = HttpTransport(ca_file=CA_FILE, http2=True)
        request = Request("POST", server.url, body=b"{}")
        recording = anyio.run(partial(transport.exchange, request, timeouts=Timeouts()))

    assert recording.end.kind is EndKind.PROTOCOL
    assert recording.end.detail
    assert (recording.head is None) is instead


def test_a_server_of_http1_only(answering: Answering, judged: Judging) -> None:
    """Where the handshake does not choose HTTP/2, the requirement does not apply; no run starts."""
    with answering(Answer(), "http/1.1") as server:
        result = judged(server.url, runs=1, ca_file=CA_FILE)

    assert (result.verdict, result.reason) == (
        Verdict.NOT_APPLICABLE,
        "the server does not speak HTTP/2",
    )
    assert server.asked == ["HTTP/1.1"]


def test_plain_http(
    serving: Callable[..., AbstractContextManager[RawServer]], judged: Judging
) -> None:
    """HTTP/2 is negotiated over TLS, so it does not apply to plain http."""

    async def run(peer: Peer) -> None:
        await peer.stream(connection="close")
        await peer.chunk(RUN)
        await peer.end()

    with serving(run) as server:
        result = judged(server.origin, runs=1)

    assert result.verdict is Verdict.NOT_APPLICABLE, result
    assert "plain http" in result.reason


def test_without_the_package_h2(
    answering: Answering, judged: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that speaks HTTP/2 is not tested without the package, and it is said how to be."""
    monkeypatch.setitem(sys.modules, "h2", None)
    with answering(Answer()) as server:
        result = judged(server.url, runs=1, ca_file=CA_FILE)

    assert result.verdict is Verdict.NOT_TESTED, result
    assert "pytest-agentstream[h2]" in f"{result.reason} {result.option}"
    assert server.asked == ["HTTP/1.1"]


def test_the_plan_of_a_plain_target(tmp_path: Path) -> None:
    """The plan for a plain http target has no run over HTTP/2."""
    options = {"url": "http://127.0.0.1:9/run", "dialect": "generic-data"}
    session = Session(load(options, directory=tmp_path, environment={}), catalogue())
    try:
        assert [one.name for one in session.plan([catalogue()[SLUG]])] == ["preflight"]
    finally:
        session.close()
