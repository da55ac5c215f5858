"""Stopping early: promptly, and with nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.plugin.conftest import Answers, Project

AT_MOST = 10.0
"""Seconds from Ctrl-C to the end of the process: a fraction of what waits, however busy we are."""

LONG = "--agentstream-heartbeat=20"
"""An interval whose silences take minutes."""

PRESENT = "agentstream/heartbeat.py::test_present"


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the process's output until a line has the text."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"{text!r} is not in {''.join(seen)}")


def children_of(pid: int) -> list[int]:
    """Every process that any thread of a process has started."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in listed for child in each.read_text().split()]


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def interrupt(process: subprocess.Popen[str], *, group: bool = False) -> tuple[str, float]:
    """Send SIGINT to the process or its group; return the rest of its output, and the seconds."""
    began = time.monotonic()
    if group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    return rest, time.monotonic() - began


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_ctrl_c_in_a_long_silence(project: Project, group: bool) -> None:
    """Ctrl-C while a probe waits ends the session at once, the bundled server with it."""
    process = project.start(
        sys.executable, "-m", "pytest", "-pno:asyncio", "--agentstream-reference", LONG, PRESENT
    )
    wait_for(process, "first events:")
    children = children_of(process.pid)

    rest, took = interrupt(process, group=group)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert took < AT_MOST
    assert "KeyboardInterrupt" in rest
    assert "Traceback" not in rest
    assert children
    assert not any(map(lives, children))


def test_ctrl_c_in_the_preflight(project: Project, answers: Answers) -> None:
    """Ctrl-C while the first run is waited for ends the session just as soon."""
    url = answers.never()
    process = project.start(
        sys.executable, "-m", "pytest", "-pno:asyncio", f"--agentstream-url={url}", PRESENT
    )
    wait_for(process, "collected ")

    _, took = interrupt(process)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert took < AT_MOST


def test_ctrl_c_reaches_agentstream_run(project: Project) -> None:
    """The command becomes the pytest process: signals to it are signals to pytest."""
    command = str(Path(sys.executable).with_name("agentstream"))
    process = project.start(command, "run", "--reference", "--heartbeat", "20", PRESENT)
    wait_for(process, "first events:")
    children = children_of(process.pid)

    _, took = interrupt(process)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert took < AT_MOST
    assert children
    assert not any(map(lives, children))


def test_ctrl_c_with_a_blocking_probe(project: Project) -> None:
    """A probe that blocks the event loop can be abandoned, and holds nothing up."""
    project.write(
        test_own_py="import time\nfrom pytest_agentstream import MUST, probe, requirement\n"
        "@probe\nasync def stuck():\n    print('stuck now', flush=True)\n    time.sleep(600)\n"
        '@requirement("mine.stuck", MUST, tier="core", text="A.", source="us")\n'
        "def test_stuck(stuck): ...\n",
    )
    process = project.start(
        sys.executable, "-m", "pytest", "-s", f"--agentstream-url={project.url}", "test_own.py"
    )
    wait_for(process, "stuck now")

    _, took = interrupt(process)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert took < AT_MOST


def test_a_failure_with_a_long_probe_pending(project: Project, faulty: str) -> None:
    """-x ends the session at the first failure, and does not wait for what is still under way."""
    result = project.judge(
        "-x", LONG, "agentstream/http.py::test_content_type", PRESENT, url=faulty
    )

    result.assert_outcomes(failed=1)
    assert result.duration < 10
