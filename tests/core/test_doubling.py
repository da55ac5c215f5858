"""A server that does not use the LLM double: one control is broken, and the finding says how."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.ports import free_ports
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_agentstream.judging import CaseResult
    from tests.conftest import Peer, RawServer

    Serving = Callable[..., AbstractContextManager[RawServer]]
    Ask = Callable[[str], Awaitable[None]]

CUT, GARBAGE = "terminal.on-upstream-cut", "terminal.on-upstream-garbage"
SHORT = "terminal.on-upstream-short"


async def plain(peer: Peer) -> None:
    """Answer without asking anybody."""
    await peer.stream()
    await peer.chunk('data: {"content": "hello"}\n\ndata: [DONE]\n\n')
    await peer.end()


def asking(port: int, body: Callable[[str], Any]) -> Callable[[Peer], Awaitable[None]]:
    """Ask the double first, with a body made of what the client said, and answer all the same."""

    async def script(peer: Peer) -> None:
        text = json.dumps(body(json.loads(peer.body)["message"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: double\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        )
        await reader.read()
        writer.close()
        await plain(peer)

    return script


async def unable(peer: Peer) -> None:
    """Say that there is no LLM to ask, where one would be asked."""
    if b"[[agentstream" in peer.body and b"upstream" in peer.body:
        problem = json.dumps({"detail": "no SDK: pip install it"})
        await peer.answer("501 Not Implemented", problem, content_type="application/json")
        return
    await plain(peer)


def judged(
    serving: Serving, folder: Path, slugs: Iterable[str], script: Any, port: int
) -> list[CaseResult]:
    with serving(script) as server:
        options = {"url": f"{server.origin}/chat", "dialect": "generic-data", "double": port}
        session = Session(load(options, directory=folder, environment={}), catalogue())
        try:
            return [session.judge(catalogue()[slug]) for slug in slugs]
        finally:
            session.close()


@pytest.fixture
def port() -> int:
    [port] = free_ports(1)
    return port


def test_a_server_that_asks_another_llm(serving: Serving, tmp_path: Path, port: int) -> None:
    """One case is red for the double, with what to set; all others behind it are not tested."""
    complete, first, second = judged(
        serving, tmp_path, ("framing.complete-blocks", CUT, GARBAGE), plain, port
    )

    assert complete.verdict is Verdict.MET  # what else could be provoked is judged

    assert (first.verdict, first.actual) == (
        Verdict.CONTROL_BROKEN,
        "none at all: the server asks another LLM, or none",
    )
    base = f"http://127.0.0.1:{port}"
    assert first.option == (
        f"start the server with OPENAI_BASE_URL={base}/v1 or ANTHROPIC_BASE_URL={base}"
    )
    assert (second.verdict, second.option) == (Verdict.NOT_TESTED, first.option)
    assert second.reason == f"the control of `double` is broken, see {CUT}"


def test_a_server_that_keeps_the_words_to_itself(
    serving: Serving, tmp_path: Path, port: int
) -> None:
    """Calls without the script are told apart from none, since other things mend that."""
    script = asking(port, lambda said: {"model": "m", "messages": [], "stream": True})
    [found] = judged(serving, tmp_path, (CUT,), script, port)

    assert found.verdict is Verdict.CONTROL_BROKEN
    assert "calls, none of them with that script" in found.actual
    assert '"{prompt}"' in found.option


def test_a_server_whose_calls_do_not_stream(serving: Serving, tmp_path: Path, port: int) -> None:
    """A script that no call can play proves nothing about the server, and breaks nothing."""
    script = asking(
        port, lambda said: {"model": "m", "messages": [{"role": "user", "content": said}]}
    )
    [found] = judged(serving, tmp_path, (SHORT,), script, port)

    assert found.verdict is Verdict.NOT_TESTED
    assert "don't stream, or demand a form" in found.reason


def test_a_server_that_cannot_ask(serving: Serving, tmp_path: Path, port: int) -> None:
    """A 501 is the server's own word that it lacks something, which the reason repeats."""
    [found] = judged(serving, tmp_path, (CUT,), unable, port)

    assert found.verdict is Verdict.NOT_TESTED
    assert found.reason == ("the server answered 501 to `upstream-cut`: no SDK: pip install it")
