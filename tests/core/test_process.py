"""The bundled reference server as a process: started, ended, and its complaints passed on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_agentstream.process import end, reference_server


def test_a_server_that_does_not_start() -> None:
    """What the server said before it went is in the error."""
    with (
        pytest.raises(
            pytest.UsageError, match=r"reference server did not start: .*--no-such-option"
        ),
        reference_server(["--no-such-option"]),
    ):
        pass


def test_a_process_that_does_not_want_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores the request to end is killed after the grace period."""
    monkeypatch.setattr("pytest_agentstream.process.GRACE", 0.1)
    ignore = (
        "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", ignore], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    end(process)
    assert process.returncode == -9


def test_a_process_that_has_ended() -> None:
    """To end what has ended is no error."""
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, text=True)
    process.wait()
    end(process)
    assert process.returncode == 0
