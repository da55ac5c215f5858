"""pytest-xdist: as many requests as without it, whatever the number of workers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugin.conftest import Project, Relay

OWN = """
from pytest_agentstream import MUST, expect, probe, requirement

@probe(scenarios=["tools"])
async def my_run(client):
    return await client.run("tools")

@requirement("mine.one", MUST, tier="core", text="One.", source="us")
def test_one(my_run):
    expect(len(my_run.events) > 1, expected="events", actual="none")

@requirement("mine.two", MUST, tier="core", text="Two.", source="us")
def test_two(my_run):
    expect(len(my_run.events) > 1, expected="events", actual="none")

def test_plain(): pass
def test_plainer(): pass
"""


@pytest.fixture
def spread(project: Project) -> Project:
    """A project in which pytest-xdist is on."""
    return dataclasses.replace(project, plugins=("xdist",))


@pytest.fixture(scope="session")
def alone(server: str) -> dict[str, int]:
    """What is started without workers, once it is known."""
    return {}


@pytest.mark.parametrize(
    "arguments",
    [("-n0",), ("-n2", "--dist=worksteal"), ("-n4", "--dist=loadfile")],
    ids=" ".join,
)
def test_as_many_requests(
    spread: Project,
    relay: Relay,
    alone: dict[str, int],
    count_runs: Callable[[pytest.RunResult], int],
    arguments: tuple[str, ...],
) -> None:
    """A suite starts the same runs with any number of workers, as the server counts them."""
    families = ("schema", "order")  # no times in these: in doubt, a probe runs once more
    result = spread.judge(
        *(f"agentstream/{name}.py" for name in families), *arguments, url=relay.url
    )

    assert result.ret == pytest.ExitCode.OK
    assert count_runs(result) == relay.starts
    assert relay.starts == alone.setdefault("starts", relay.starts)


def test_grouping_of_the_users_own(spread: Project) -> None:
    """Under loadfile and loadscope the user's tests stay together by file, as they asked."""
    body = (
        "import os\ndef test_{0}(): open('{1}.txt', 'a').write(os.environ['PYTEST_XDIST_WORKER'])\n"
    )
    for name in "ab":
        spread.file(
            f"tests/test_{name}.py", "".join(body.format(number, name) for number in range(4))
        )

    spread.judge("-n2", "--dist=loadfile", "tests", "agentstream/http.py::test_status")

    for name in "ab":
        workers = (spread.pytester.path / f"{name}.txt").read_text()
        assert len(set(workers.split("gw")) - {""}) == 1


def test_each_is_refused(spread: Project, relay: Relay) -> None:
    """`--dist each` would run every probe in every worker: a usage error, and nothing is sent."""
    result = spread.judge("-n2", "--dist=each", url=relay.url)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--dist each would run every probe in every worker*"])
    assert relay.connections == 0


def test_nothing_left(spread: Project) -> None:
    """Everything deselected is no green run under workers either."""
    spread.write(tests__test_user_py="def test_user(): pass\n")

    result = spread.judge("-n2", "agentstream", "tests", "-k", "test_user")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*everything was deselected. In force: -k 'test_user'*"])


def test_failing_preflight(spread: Project, relay: Relay) -> None:
    """A refused preflight is one error from one worker, and the controller's summary says why."""
    url = relay.url.replace("/v1/runs", "/nowhere")

    result = spread.judge("-n2", url=url)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*agentstream preflight: it knows nothing at this path (404)"])
    assert relay.connections == 1


def test_plan(spread: Project, relay: Relay) -> None:
    """The plan is printed once and sends nothing."""
    result = spread.judge("-n2", "--agentstream-plan", url=relay.url)

    assert result.ret == pytest.ExitCode.OK
    assert result.stdout.str().count("runs that would be started") == 1
    assert relay.connections == 0


def test_reports(spread: Project, faulty: str) -> None:
    """Verdicts, reasons and files come from the worker to the controller."""
    result = spread.judge(
        "-n2",
        "agentstream/http.py::test_content_type",
        "agentstream/http.py::test_no_proxy_buffering",
        "--agentstream-report=out.json",
        "--agentstream-recordings=out.jsonl",
        url=faulty,
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*runs started: 1", "*1 failed, 1 warned*"])
    assert '"http.content-type"' in (spread.pytester.path / "out.json").read_text()
    assert (spread.pytester.path / "out.jsonl").read_text().count("\n") >= 3


@pytest.mark.parametrize("where", ["option", "file"])
def test_own_cases(spread: Project, relay: Relay, where: str) -> None:
    """A user's own cases share one worker too, however the server was named."""
    spread.write(tests__test_own_py=OWN)
    if where == "file":
        spread.file(
            "agentstream.toml",
            f'[tool.agentstream]\nurl = "{relay.url}"\ndialect = "native"\n'
            "heartbeat = 0.2\ncontrol_header = true\n",
        )
        result = spread.run("-n2", "tests")
    else:
        result = spread.judge("-n2", "tests", url=relay.url)

    result.assert_outcomes(passed=4)
    assert relay.starts == 2
