"""A user's project, judged by real pytest processes against real servers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.catalogue import families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE = (
    "--agentstream-dialect=native",
    "--agentstream-heartbeat=0.2",
    "--agentstream-control-header",
)
OTHER_PLUGINS = ("hypothesispytest", "randomly", "asyncio", "anyio", "timeout", "xdist")
START = b"POST /v1/runs HTTP/1.1"
PATIENCE = 60.0


@dataclass
class Project:
    """A folder with whatever a user has there, and pytest run in it.

    Plugins that are installed beside ours are off unless named in `plugins`: that starts faster.
    """

    pytester: pytest.Pytester
    url: str
    plugins: tuple[str, ...] = ()

    def write(self, **files: str) -> Project:
        """Write files; `tests__test_a_py="…"` is `tests/test_a.py`."""
        for name, text in files.items():
            self.file(re.sub(r"_(py|toml|ini)$", r".\1", name).replace("__", "/"), text)
        return self

    def file(self, name: str, text: str) -> Path:
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in the project."""
        off = [f"-pno:{name}" for name in OTHER_PLUGINS if name not in self.plugins]
        return self.pytester.runpytest_subprocess(*off, *arguments, timeout=PATIENCE)

    def judge(self, *arguments: str, url: str | None = None) -> pytest.RunResult:
        """Run pytest with the options that the reference server needs."""
        return self.run(f"--agentstream-url={url or self.url}", *NATIVE, *arguments)

    def collect(self, *arguments: str) -> list[str]:
        """The ids that pytest collects, without running any."""
        result = self.judge("--collect-only", "-q", *arguments)
        assert result.ret == pytest.ExitCode.OK, result.stdout.str() + result.stderr.str()
        return [line for line in result.outlines if "::" in line]

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a process in the project, in a process group of its own, its output unbuffered."""
        return subprocess.Popen(
            command,
            cwd=self.pytester.path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def agentstream(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command `agentstream` in the project."""
        command = Path(sys.executable).with_name("agentstream")
        return subprocess.run(
            [command, *arguments],
            cwd=self.pytester.path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@pytest.fixture
def project(pytester: pytest.Pytester, server: str) -> Project:
    """An empty project beside the healthy reference server."""
    return Project(pytester, server)


@contextmanager
def serving(*defects: str) -> Iterator[str]:
    """The URL of a reference server with these defects, while it runs."""
    command = [sys.executable, "-P", "-m", "reference_server", "--port=0", "--heartbeat=0.2"]
    command += [f"--defect={name}" for name in defects]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a reference server that does everything right."""
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def faulty() -> Iterator[str]:
    """The URL of one that breaks http.content-type (MUST) and http.no-proxy-buffering (SHOULD)."""
    with serving("proxy-buffering", "content-type-text-plain") as url:
        yield url


@pytest.fixture(scope="session")
def packaged() -> list[str]:
    """The id of every packaged case."""
    return [f"agentstream/{one.name}.py::{name}" for one in families() for name in one.cases]


def runs_started(result: pytest.RunResult) -> int:
    """The number in the summary."""
    found = re.search(r"^runs started: (\d+)", result.stdout.str(), re.MULTILINE)
    assert found, result.stdout.str()
    return int(found[1])


class Relay(ThreadingTCPServer):
    """Pass every connection on to a server; count connections and the runs they start."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Pump)
        host, _, port = url.split("/")[2].partition(":")
        self.upstream = (host, int(port))
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/runs"
        self.connections = 0
        self.starts = 0


class _Pump(BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        self.server.connections += 1
        with socket.create_connection(self.server.upstream) as upstream:
            back = threading.Thread(target=self._pass, args=(upstream, self.request), daemon=True)
            back.start()
            self._pass(self.request, upstream)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # either end may go first
            while data := source.recv(65536):
                self.server.starts += data.count(START)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay(server: str) -> Iterator[Relay]:
    """What counts on the server's side what a session sends."""
    with Relay(server) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@dataclass
class Answers:
    """Servers that answer everything in one way."""

    stack: ExitStack = field(default_factory=ExitStack)

    def always(self, status: int, media: str = "text/plain", body: str = "") -> str:
        """The URL of one that gives this answer to every POST."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", media)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        made = self.stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        self.stack.callback(thread.join)
        self.stack.callback(made.shutdown)
        return f"http://127.0.0.1:{made.server_address[1]}/chat"

    def never(self) -> str:
        """The URL of one that takes connections and says nothing."""
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/chat"

    def nobody(self) -> str:
        """A URL at which nothing listens."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return f"http://127.0.0.1:{listener.getsockname()[1]}/chat"


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Servers that answer everything in one way."""
    made = Answers()
    with made.stack:
        yield made


@pytest.fixture
def count_runs() -> Callable[[pytest.RunResult], int]:
    """Read the number of runs started out of a summary."""
    return runs_started
