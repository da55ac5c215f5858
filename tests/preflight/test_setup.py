"""A preflight that fails before the run itself: setup steps, and requests that can't be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]
    Serving = Callable[..., AbstractContextManager[RawServer]]
    Preflight = Callable[..., str]

STEP = {"request": "POST /threads", "capture": {"thread": "json:thread_id"}}


def answer(status: str, body: str = "", **headers: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.answer(status, body, **headers)

    return script


def test_a_refused_setup_step(serving: Serving, preflight: Preflight) -> None:
    """The refusal names the step, and asks for what the refusal asks for."""
    with serving(answer("401 Unauthorized", '{"detail": "who?"}')) as server:
        said = preflight(f"{server.origin}/chat", setup=[STEP])
        assert len(server.peers) == 1
    assert said.splitlines()[0] == (
        "agentstream preflight: the setup step `POST /threads` failed: it wants credentials (401)"
    )
    assert '        {"detail": "who?"}' in said
    assert "Authorization" in said


def test_a_setup_step_nobody_answers(serving: Serving, preflight: Preflight) -> None:
    """A setup step is bounded in time like everything else."""

    async def nothing(peer: Peer) -> None:
        await peer.left()

    with serving(nothing) as server:
        said = preflight(f"{server.origin}/chat", setup=[STEP], timeouts={"head": 0.2})
    assert "the setup step `POST /threads` failed: it accepted the request and said nothing" in said


@pytest.mark.parametrize("body", ["<html>", '{"id": "t1"}', '{"thread_id": null}'])
def test_an_answer_without_the_capture(serving: Serving, preflight: Preflight, body: str) -> None:
    """An answer that lacks what is to be captured is quoted."""
    with serving(answer("200 OK", body)) as server:
        said = preflight(f"{server.origin}/chat", setup=[STEP])
        assert len(server.peers) == 1
    assert "the setup step `POST /threads` failed" in said
    assert "thread_id" in said
    assert body in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scenarios": {"complete": {"path": "http://other.invalid/x"}}}, "is not on the origin"),
        ({"headers": {"X-Tenant": "a\r\nb"}}, "the request can't be sent as HTTP"),
        ({"scenarios": {"complete": {"method": "G T"}}}, "the request can't be sent as HTTP"),
    ],
)
def test_a_request_that_cannot_be_sent(
    serving: Serving, preflight: Preflight, options: dict[str, object], expected: str
) -> None:
    """What the settings ask for and no client may send is told, and nothing is sent."""
    with serving(answer("200 OK")) as server:
        said = preflight(f"{server.origin}/chat", **options)
        assert not any(peer.method for peer in server.peers)
    assert said.startswith("agentstream preflight: the first run could not be asked for\n  Why   ")
    assert expected in said
    assert "  Set   the url, headers, setup and scenarios in [tool.agentstream]" in said


def test_a_certificate_file_that_is_none(
    serving: Serving, preflight: Preflight, tmp_path: object
) -> None:
    """A ca_file without a certificate is told before anything is sent."""
    path = f"{tmp_path}/ca.pem"
    with open(path, "w") as file:
        file.write("no certificate")
    with serving(answer("200 OK")) as server:
        said = preflight(f"{server.origin}/chat", ca_file=path)
        assert not server.peers
    assert "expected certificates in PEM" in said


def test_the_limit_of_runs_is_told(serving: Serving, preflight: Preflight) -> None:
    """A limit that does not even allow detection and preflight says so, and how to raise it."""

    async def stream(peer: Peer) -> None:
        await peer.stream(agentstream_run="r", agentstream_protocol="1")
        await peer.chunk('event: done\ndata: {"result": "", "isError": false}\n\n')
        await peer.end()

    with serving(stream) as server:
        said = preflight(f"{server.origin}/chat", dialect=None, max_runs=1)
        assert len(server.peers) == 1
    assert "Why   the limit of 1 runs is used up" in said
    assert "Set   allow more: --agentstream-max-runs 11" in said
