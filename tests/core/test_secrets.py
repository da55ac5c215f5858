"""A server that sends back every secret it was sent: none of them is in any report."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.cases import case_of, requirement
from pytest_agentstream.jsonl import write_recordings
from pytest_agentstream.judging import CaseResult
from pytest_agentstream.preflight import PreflightFailed
from pytest_agentstream.probing import probe
from pytest_agentstream.requirements import MUST
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from pytest_agentstream.surroundings import SurroundingsError
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_agentstream.cases import Case
    from pytest_agentstream.observing import Observation
    from tests.conftest import Peer, RawServer

    Serving = Callable[..., AbstractContextManager[RawServer]]

SECRETS = {"TOKEN": "t0ken-of-the-environment", "KEY": "k3y/with=signs"}
CAPTURED, COOKIE = "thread-that-was-captured", "session-of-a-cookie"


@probe
async def echoed_run(preflight: Observation) -> Observation:
    """The preflight's run."""
    return preflight


def red_case() -> Case:
    @requirement("test.red", MUST, tier="core", text="It is red.", source="this test")
    def red(echoed_run: Observation) -> None:
        said = echoed_run.blocks[0].raw.decode()
        expect(
            False,
            expected=f"nothing of {said}",
            actual=said,
            at=(echoed_run.first, *echoed_run.events),
            hint=said,
            also=(said,),
        )

    case = case_of(red)
    assert case is not None
    return case


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_secrets_that_come_back(serving: Serving, tmp_path: Path) -> None:
    """Neither a finding, as text, JSON or property, nor a file of recordings has any of them."""

    async def thread(peer: Peer) -> None:
        cookie = f"sid={COOKIE}; Path=/"
        await peer.answer("201 Created", json.dumps({"thread": CAPTURED}), set_cookie=cookie)

    async def echo(peer: Peer) -> None:
        text = json.dumps([peer.target, peer.headers, peer.body.decode()])
        await peer.stream(x_echo=peer.headers["authorization"])
        await peer.chunk(f"data: {text}\n\ndata: {json.dumps({'text': CAPTURED})}\n\n")
        await peer.end()

    case = red_case()
    with serving(thread, echo) as server:
        session = Session(load(settings(server), directory=tmp_path), {})
        try:
            result = session.judge(case)
            write_recordings(tmp_path / "runs.jsonl", session.recorded())
        finally:
            session.close()
        sent = server.peers[-1]
    assert sent.headers["authorization"] == f"Bearer {SECRETS['TOKEN']}"
    assert COOKIE in sent.headers["cookie"]
    assert CAPTURED in sent.body.decode()
    shown = io.StringIO()
    shown.write("\n".join(result.lines()))
    shown.write(result.to_json())
    shown.write((tmp_path / "runs.jsonl").read_text())
    assert CaseResult.from_json(result.to_json()) == result
    assert result.verdict == "failed"
    assert "[redacted]" in result.actual
    for secret in (*SECRETS.values(), CAPTURED, COOKIE, "k3y%2Fwith"):
        assert secret not in shown.getvalue()


def settings(server: RawServer) -> dict[str, Any]:
    return {
        "url": f"{server.origin}/chat?key={{env:KEY}}",
        "dialect": "generic-data",
        "headers": {"Authorization": "Bearer {env:TOKEN}"},
        "setup": [{"request": "POST /threads", "capture": {"thread": "json:thread"}}],
        "scenarios": {"complete": {"json": {"thread": "{thread}"}}},
    }


def test_secrets_in_a_refusal(serving: Serving, tmp_path: Path) -> None:
    """A preflight that quotes the server's refusal does not quote the secrets in it."""

    async def refuse(peer: Peer) -> None:
        await peer.answer("401 Unauthorized", f"{peer.headers} {peer.target} {'x' * 200}")

    with serving(refuse) as server:
        options = settings(server) | {"setup": [], "scenarios": {}}
        session = Session(load(options, directory=tmp_path), {})
        try:
            session.begin([])
        except PreflightFailed as failure:
            said = str(failure)
        finally:
            session.close()
    assert "[redacted]" in said
    for secret in (*SECRETS.values(), "k3y%2Fwith"):
        assert secret not in said


def test_secrets_in_a_refused_setup_step(serving: Serving, tmp_path: Path) -> None:
    """Also what an earlier step captured, and a later one sent as a credential, is not quoted."""

    async def log_in(peer: Peer) -> None:
        await peer.answer("200 OK", json.dumps({"token": CAPTURED}))

    async def refuse(peer: Peer) -> None:
        await peer.answer("403 Forbidden", str(peer.headers))

    steps = [
        {"request": "POST /login", "capture": {"token": "json:token"}},
        {"request": "POST /threads", "headers": {"Authorization": "Bearer {token}"}},
    ]
    with serving(log_in, refuse) as server:
        options = {"url": f"{server.origin}/chat", "dialect": "generic-data", "setup": steps}
        session = Session(load(options, directory=tmp_path), {})
        try:
            session.begin([])
        except PreflightFailed as failure:
            said = str(failure)
        finally:
            session.close()
    assert "the setup step `POST /threads` failed: it refuses these credentials (403)" in said
    assert CAPTURED not in said


SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

for name in json.loads(sys.argv[2]):
    print(name, os.environ[name], flush=True)
if sys.argv[3:]:
    sys.exit(7)

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b'data: {"content": "hi"}\\n\\ndata: [DONE]\\n\\n')

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Says what its variables are; with a further argument it does nothing else."""

INHERITED, JSON, MADE = '{"id": "inherited-secret"}', '{"id": "written-secret"}', "made-for-{port}"


@pytest.mark.parametrize("more", [[], ["exits"]], ids=["serves", "exits"])
def test_secrets_with_braces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """A secret of a server's environment may have braces, or be made of a template."""
    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.setenv("SERVICE_KEY", INHERITED)
    names = ["SERVICE_KEY", "JSON_KEY", "MADE_KEY"]
    options = {
        "url": "/chat",
        "dialect": "generic-data",
        "command": [[sys.executable, "server.py", "{port}", json.dumps(names), *more]],
        "cwd": str(tmp_path),
        "env": {"JSON_KEY": JSON, "MADE_KEY": MADE},
    }
    case = red_case()
    session = Session(load(options, directory=tmp_path), {})
    try:
        session.begin([case])
        said = session.redact(session.surroundings.processes[0].log_tail())
    except SurroundingsError as failure:
        said = str(failure)
    finally:
        session.close()
    assert bool(more) is ("exited with code 7" in said)
    assert all(f"{name} [redacted]" in said for name in names)
    for part in ("inherited-secret", "written-secret", "made-for"):
        assert part not in said
