"""A session whose faults Toxiproxy injects: said, used, and nothing of it left behind."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.plugin.test_stopping import interrupt, wait_for
from tests.services import free_port, toxiproxy_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.plugin.conftest import Project
    from tests.services import Service

CUTS = "agentstream/resume_live.py"


@pytest.fixture(scope="module")
def toxiproxy() -> Iterator[Service]:
    """A Toxiproxy server."""
    with toxiproxy_server() as service:
        yield service


def proxies(service: Service) -> dict[str, object]:
    with urlopen(f"{service.url}/proxies", timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_faults_by_toxiproxy(project: Project, toxiproxy: Service) -> None:
    """The summary says how many connections went through which proxy; none is left afterwards."""
    report = "--agentstream-report=verdicts.json"
    result = project.judge(f"--agentstream-toxiproxy={toxiproxy.url}", CUTS, report)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            f"agentstream: Toxiproxy at {toxiproxy.url}",
            f"Toxiproxy at {toxiproxy.url}",
            "faults: * connections: *",
        ]
    )
    session = json.loads((project.pytester.path / "verdicts.json").read_text())["session"]
    assert sum(session["faults"].values()) > 0
    assert proxies(toxiproxy) == {}


def test_no_toxiproxy_there(project: Project) -> None:
    """That nobody answers there is one usage error, before anything is sent to the server."""
    url = f"http://127.0.0.1:{free_port()}"
    result = project.judge(f"--agentstream-toxiproxy={url}", CUTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: agentstream: *{url}*"])
    result.stdout.fnmatch_lines(["runs started: 0"])


def test_ctrl_c_leaves_no_proxy(project: Project, toxiproxy: Service) -> None:
    """After Ctrl-C the Toxiproxy server is as it was."""
    process = project.start(
        *(sys.executable, "-m", "pytest", "-pno:asyncio", "--agentstream-reference"),
        *(f"--agentstream-toxiproxy={toxiproxy.url}", "--agentstream-heartbeat=20"),
    )
    wait_for(process, "first events:")
    interrupt(process)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert proxies(toxiproxy) == {}


@pytest.mark.parametrize("server", ["bundled", "command"])
def test_ctrl_c_while_toxiproxy_hangs(project: Project, server: str) -> None:
    """What is waited for is said, nothing is blamed, and Ctrl-C ends that wait."""
    command = f"{sys.executable} -m reference_server --port {{port}}"
    options = {
        "bundled": ["--agentstream-reference"],
        "command": [f"--agentstream-command={command}", "--agentstream-url=/v1/runs"],
    }
    with toxiproxy_server() as hanging:
        hanging.process.send_signal(signal.SIGSTOP)
        try:
            process = project.start(
                *(sys.executable, "-m", "pytest", "-pno:asyncio", *options[server], CUTS),
                f"--agentstream-toxiproxy={hanging.url}",
            )
            wait_for(process, f"waits for Toxiproxy at {hanging.url} to answer, 5 s at most")
            rest, _ = interrupt(process)
        finally:
            hanging.process.send_signal(signal.SIGCONT)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "blocks its event loop" not in rest
    assert "{port}" not in rest
    assert "may remain" not in rest
