"""The whole suite as a user starts it, against a server that means harm, and what that took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Peer

CONFIGURATION = """
[tool.agentstream]
dialect = "native"
heartbeat = 0.2
control_header = true
timeouts = { connect = 1, head = 1, first_event = 1, silence = 1, end = %g }
"""
HANGS = 60.0
"""Seconds after which a run that should have ended long ago is killed."""

MEASURING = (
    "import os, subprocess, sys; process = subprocess.Popen(sys.argv[2:]); "
    "_, status, used = os.wait4(process.pid, 0); "
    "open(sys.argv[1], 'w').write(str(used.ru_maxrss)); "
    "sys.exit(os.waitstatus_to_exitcode(status))"
)
"""A process's peak memory begins with that of the one that started it: so a small one does."""

MAIN = "import sys; from pytest_agentstream.cli import main; sys.exit(main())"
KILOBYTE = 1024 if sys.platform.startswith("linux") else 1


@dataclass(frozen=True)
class Outcome:
    """A run of the suite: exit code, all it printed, seconds, and bytes of memory at its peak."""

    code: int
    said: str
    seconds: float
    memory: int

    @property
    def preflight(self) -> str:
        """What the preflight says, from its first line on."""
        return self.said[self.said.find("agentstream preflight:") :]


@pytest.fixture
def judge(serving: Any, tmp_path: Path) -> Callable[..., Outcome]:
    """Run the suite against a server of raw sockets: `judge(script, …)`."""

    def run(
        *scripts: Callable[[Peer], Any], end: float = 10.0, more: str = "", cases: str = ""
    ) -> Outcome:
        (tmp_path / "agentstream.toml").write_text(CONFIGURATION % end + more)
        with serving(*scripts) as server:
            return _run([f"{server.origin}/v1/runs", *cases.split()], tmp_path)

    return run


def _run(arguments: list[str], directory: Path) -> Outcome:
    peak = directory / "peak.txt"
    command = [sys.executable, "-c", MEASURING, str(peak)]
    command += [sys.executable, "-c", MAIN, "run", *arguments]
    log, began = directory / "log.txt", time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XDG_CACHE_HOME": str(directory)},
            start_new_session=True,
        )
        watchdog = Timer(HANGS, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        try:
            code = process.wait()
        finally:
            watchdog.cancel()
    seconds = time.monotonic() - began
    said = log.read_text(errors="replace")
    memory = int(peak.read_text()) * KILOBYTE if peak.exists() else 0
    assert memory, f"killed after {seconds:.0f} s: {said[-2000:]}"
    return Outcome(code, said, seconds, memory)
