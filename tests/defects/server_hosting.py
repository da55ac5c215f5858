"""The other end of `server_host.py`: one host a process, which starts servers for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING

from pytest_agentstream.reference import HEARTBEAT, ORIGIN, RETRY, TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANNOUNCEMENT = "listening on "
START_LIMIT = 20.0
SCRIPT = Path(__file__).with_name("server_host.py")
ROOT = SCRIPT.parents[2]
ARGUMENTS = (
    "--port=0",
    f"--heartbeat={HEARTBEAT}",
    f"--retry={RETRY}",
    f"--token=suite={TOKEN}",
    f"--cors-origin={ORIGIN}",
)
"""What `reference.reference_server` gives the server as well."""


class NotStarted(Exception):
    """A server did not come to listen; the text is what it said."""


class Host:
    """A process with the reference server imported; it ends with the process that asked for it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def server(self, arguments: Sequence[str]) -> Iterator[str]:
        """Run a server of its own process and port and yield its URL; raises `NotStarted`."""
        line = self._ask([*ARGUMENTS, *arguments])
        if ANNOUNCEMENT not in line:
            raise NotStarted(line.strip() or f"no word in {START_LIMIT:g} s")
        try:
            yield line.partition(ANNOUNCEMENT)[2].strip()
        finally:
            self._ask(None)

    def close(self) -> None:
        """End the host, and with it its server."""
        with self._process:
            self._process.kill()

    def _ask(self, request: list[str] | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watchdog = Timer(START_LIMIT, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline()
        finally:
            watchdog.cancel()


_hosts: list[Host] = []


def host() -> Host:
    """This process's own host, and another one where that has died."""
    if not _hosts or not _hosts[-1].is_alive:
        _hosts.append(Host())
    return _hosts[-1]
