"""Reference servers in processes of their own, which a test can kill and start again."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.reference_server.conftest import Client
from tests.services import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ANNOUNCEMENT = "reference_server listening on "
PATIENCE = 10.0
LEASE = 0.6
"""Seconds; a busy machine can keep a process from renewing a shorter one."""


@dataclass(slots=True)
class Server:
    """One command line on one port; `client` asks it."""

    process: subprocess.Popen[str]
    client: Client

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def server(log: str, *options: str, port: int | None = None) -> Iterator[Server]:
    """Start a server on this log; wait until it listens, kill it at the end."""
    port = port or free_port()
    command = [sys.executable, "-m", "reference_server", "--port", str(port), "--log", log]
    command += ["--heartbeat", "0.2", "--lease", str(LEASE), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        client = Client(f"http://127.0.0.1:{port}", "/v1/runs")
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(ANNOUNCEMENT), process.communicate()
            yield Server(process, client)
        finally:
            client.http.close()
            process.kill()
