"""Real services beside the tests: a Toxiproxy server and a Redis server, each a process of its own.

Where the executable is missing, the test that asks says so and is skipped; with
AGENTSTREAM_REQUIRE_SERVICES=1 it fails.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

REQUIRED = "AGENTSTREAM_REQUIRE_SERVICES"

TOXIPROXY, REDIS = "toxiproxy-server", "redis-server"

INSTALL: Mapping[str, str] = {
    TOXIPROXY: (
        "go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0, then name the executable "
        f"{TOXIPROXY}"
    ),
    REDIS: "install the package redis-server",
}
"""How a stranger comes by each executable."""

PATIENCE = 10.0
GRACE = 3.0
ATTEMPTS = 5


class Service:
    """A running service: `url` is where it listens, `process` can be signalled."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.process = process

    def kill(self) -> None:
        """End it at once, as by a crash."""
        self.process.kill()
        self.process.wait()


def executable(name: str) -> str:
    """The path of a service's executable; skips the test, or fails it, where there is none."""
    places = [os.environ.get("GOBIN"), str(Path.home() / "go" / "bin")]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(filter(None, places)))
    if found is not None:
        return found
    missing = f"{name} is not installed, so this is NOT TESTED: {INSTALL[name]}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{missing} ({REQUIRED}=1)", pytrace=False)
    pytest.skip(missing)


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def toxiproxy_server(port: int | None = None) -> Iterator[Service]:
    """Run a Toxiproxy server on a free port, or the given one; its `url` is that of its API."""
    path = executable(TOXIPROXY)

    def command(at: int) -> Sequence[str]:
        return [path, "-host", "127.0.0.1", "-port", str(at)]

    with _running(command, port, "http://127.0.0.1:{port}") as service:
        yield service


@contextmanager
def redis_server(port: int | None = None, *options: str) -> Iterator[Service]:
    """Run a Redis server that keeps nothing on disk; `options` are more of its command line."""
    path = executable(REDIS)
    with TemporaryDirectory() as folder:

        def command(at: int) -> Sequence[str]:
            quiet = ["--save", "", "--appendonly", "no", "--dir", folder]
            return [path, "--bind", "127.0.0.1", "--port", str(at), *quiet, *options]

        with _running(command, port, "redis://127.0.0.1:{port}/0") as service:
            yield service


@contextmanager
def _running(
    command: Callable[[int], Sequence[str]], port: int | None, url: str
) -> Iterator[Service]:
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        process, at = _started(command, port, log)
        try:
            yield Service(url.format(port=at), process)
        finally:
            process.terminate()
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(
    command: Callable[[int], Sequence[str]], port: int | None, log: IO[bytes]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start it until it listens: somebody else may take a free port before it does."""
    for _ in range(ATTEMPTS):
        at = port or free_port()
        words = command(at)
        process = subprocess.Popen(words, stdout=log, stderr=log)
        if _listens(process, at):
            return process, at
        process.kill()
        process.wait()
    log.seek(0)
    said = log.read().decode(errors="replace").strip()[-600:]
    pytest.fail(f"{' '.join(words)} did not listen within {PATIENCE:g} s: {said}", pytrace=False)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
                return process.poll() is None
        except OSError:
            time.sleep(0.02)
    return False
