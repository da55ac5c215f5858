"""The bundled reference server as the server under test: its settings, and how it is started."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.ports import free_ports
from pytest_agentstream.process import ManagedProcess, ProcessError
from pytest_agentstream.target import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEARTBEAT = 0.2
RETRY = 0.1
TOKEN = "token-of-the-suite"
"""No secret: it only makes the reference server ask for credentials, so that this is judged too."""

ORIGIN = "https://app.example"
GRACE = 1.0
LEASE = 2.0
REPLICAS = 2
PATH = "/v1/runs"

REFERENCE: Mapping[str, Any] = {
    "dialect": "native",
    "heartbeat": HEARTBEAT,
    "control_header": True,
    "cors_origin": ORIGIN,
    "headers": {"Authorization": f"Bearer {TOKEN}"},
}
"""The settings that go with the reference server, wherever it runs."""


def check_installed() -> None:
    """Raise pytest.UsageError where what the reference server needs is not installed."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise pytest.UsageError(
            f"agentstream: the reference server needs {' and '.join(missing)}: "
            "pip install 'pytest-agentstream[reference]'"
        )


def reference_settings() -> dict[str, Any]:
    """The settings of a session that starts the reference server itself."""
    return {
        **REFERENCE,
        "url": f"http://127.0.0.1:{PORT}{PATH}",
        "command": reference_commands(Path()),
        "double": True,
        "grace": GRACE,
        "lease": LEASE,
    }


def reference_commands(folder: Path) -> tuple[tuple[str, ...], ...]:
    """What starts the reference server and a second replica, on one log in `folder`."""
    arguments = ("--log", f"sqlite:{folder / 'events.sqlite'}", "--upstream", "openai")
    return (reference_command(arguments),) * REPLICAS


def reference_command(arguments: Sequence[str] = ()) -> tuple[str, ...]:
    """The words that start it on `{port}`; `arguments` are more of its command line."""
    return (
        *(sys.executable, "-P", "-m", "reference_server", "--port", PORT),
        *("--heartbeat", f"{HEARTBEAT:g}", "--retry", f"{RETRY:g}"),
        *("--grace", f"{GRACE:g}", "--lease", f"{LEASE:g}"),
        *("--token", f"suite={TOKEN}", "--cors-origin", ORIGIN),
        *arguments,
    )


@contextmanager
def reference_server(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Run the reference server on a free port of 127.0.0.1 and yield its start endpoint.

    `arguments` are more of its command line. Raises pytest.UsageError where it is not installed or
    does not start, with what it said.
    """
    check_installed()
    [port] = free_ports(1)
    command = [word.replace(PORT, str(port)) for word in reference_command(arguments)]
    url = f"http://127.0.0.1:{port}{PATH}"
    process = ManagedProcess(command, url, grace=2 * GRACE, name="the reference server")
    try:
        anyio.run(process.start)
        yield url
    except ProcessError as error:
        raise pytest.UsageError(f"agentstream: {error}") from None
    finally:
        process.close()
