"""Start the bundled reference server as a process, and end it whatever happens."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryFile
from threading import Timer
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEARTBEAT = 0.2
RETRY = 0.1
TOKEN = "token-of-the-suite"
"""No secret: it only makes the reference server ask for credentials, so that this is judged too."""

ORIGIN = "https://app.example"

REFERENCE: Mapping[str, Any] = {
    "url": "http://127.0.0.1:0/v1/runs",
    "dialect": "native",
    "heartbeat": HEARTBEAT,
    "control_header": True,
    "cors_origin": ORIGIN,
    "headers": {"Authorization": f"Bearer {TOKEN}"},
}
"""The settings that go with the reference server; the port is known once it listens."""

ANNOUNCEMENT = "listening on "
START_LIMIT = 20.0
GRACE = 3.0


@contextmanager
def reference_server(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Run the reference server on a free port of 127.0.0.1 and yield its start endpoint.

    `arguments` are more of its command line. Raises pytest.UsageError where it is not installed or
    does not start, with what it said.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise pytest.UsageError(
            f"agentstream: the reference server needs {' and '.join(missing)}: "
            "pip install 'pytest-agentstream[reference]'"
        )
    command = [sys.executable, "-P", "-m", "reference_server", "--port", "0"]
    command += [
        "--heartbeat",
        str(HEARTBEAT),
        "--retry",
        str(RETRY),
        "--token",
        f"suite={TOKEN}",
        "--cors-origin",
        ORIGIN,
        *arguments,
    ]
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield _url_of(process, log)
        finally:
            end(process)


def _url_of(process: subprocess.Popen[str], log: IO[str]) -> str:
    """The URL in the line that says it listens."""
    watchdog = Timer(START_LIMIT, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline() if process.stdout else ""
    finally:
        watchdog.cancel()
    if ANNOUNCEMENT not in line:
        end(process)
        log.seek(0)
        said = (line + log.read()).strip()[-600:] or f"no word in {START_LIMIT:g} s"
        raise pytest.UsageError(f"agentstream: the reference server did not start: {said}")
    return line.partition(ANNOUNCEMENT)[2].strip()


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and kill it where it does not within the grace period."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
