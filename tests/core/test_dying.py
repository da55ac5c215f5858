"""A server that ends under what it is asked to bear: one finding, whichever probe is at it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.conftest import Opened

SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    runs = 0
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))["message"]
        Handler.runs += 1
        if Handler.runs > int(sys.argv[2]):
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(5):
            self.wfile.write(b'data: {"choices":[{"delta":{"content":"hi"}}]}\\n\\n')
            time.sleep(0.2 if message == "pauses" else 0.0)
        self.wfile.write(b"data: [DONE]\\n\\n")
    def log_message(self, *_):
        pass

ThreadingHTTPServer.request_queue_size = 200
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize("bears", ["40", "102"], ids=["the first of them", "between two"])
def test_a_server_that_ends_in_a_storm(session: Opened, tmp_path: Path, bears: str) -> None:
    """A process that ends in a storm of streams is found to have ended, and its code is named."""
    (tmp_path / "server.py").write_text(SERVER)
    options = {
        "command": [sys.executable, str(tmp_path / "server.py"), "{port}", bears],
        "scenarios": {
            "complete": {"json": {"message": "complete"}},
            "pauses": {"json": {"message": "pauses"}, "pause": 0.2},
        },
    }
    case = catalogue()["disconnect.no-zombies"]
    with session("/chat", **options) as opened:
        opened.catalogue = dict(catalogue())
        opened.begin([case])
        found = opened.judge(case)

    assert (found.verdict, found.actual) == (
        Verdict.FAILED,
        "the server under test exited with code 3 during the probe `aborted_storms`",
    )
