"""What pytest makes of verdicts: words, exit codes, known failures, reports, preflight."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.jsonl import read_recordings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugin.conftest import Answers, Project, Relay

STATUS = "agentstream/http.py::test_status"
TYPE = "agentstream/http.py::test_content_type"
BUFFERING = "agentstream/http.py::test_no_proxy_buffering"
CRASH = "agentstream/terminal.py::test_on_crash"


def test_words(project: Project) -> None:
    """Verdicts that are neither green nor red are counted in their own words, and are not red."""
    project.file("agentstream.toml", "[tool.agentstream]\nbehind_proxy = true\n")

    result = project.run(
        f"--agentstream-url={project.url}",
        "--agentstream-dialect=native",
        "-v",
        CRASH,
        STATUS,
        BUFFERING,
    )
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            f"{STATUS} PASSED*",
            f"{BUFFERING} NOT APPLICABLE*",
            f"{CRASH} NOT TESTED*",
            "*not applicable: http.no-proxy-buffering",
            "*declared to be behind a proxy*",
            "*not tested: terminal.on-crash",
            "*no control for the scenario `crash`*",
            "*map it: *crash = *",
            "*1 passed, 1 not applicable, 1 not tested in *",
        ]
    )


def test_an_unproven_tier_can_be_required(project: Project) -> None:
    """`--agentstream-require` makes an untested MUST of that tier red, and says how to test it."""
    result = project.run(
        f"--agentstream-url={project.url}",
        "--agentstream-dialect=native",
        "--agentstream-require=resilient",
        CRASH,
    )

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["terminal.on-crash (MUST, *): not tested", "*To test*map it: *"])


def test_warnings(project: Project, faulty: str) -> None:
    """A SHOULD that is not met warns, and is red where the level says so."""
    result = project.judge(BUFFERING, url=faulty)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*warned*http.no-proxy-buffering: *", "*1 warned in *"])

    result = project.judge(BUFFERING, "--agentstream-level=should", url=faulty)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)


def test_a_finding(project: Project, faulty: str) -> None:
    """A failure is one finding with requirement, expectation, bytes and times, and no traceback."""
    result = project.judge(TYPE, url=faulty)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "http.content-type (MUST, core): failed",
            "  Requirement  *",
            "  Expected     the content type text/event-stream",
            "  Actual       the content type text/plain*",
            "  Breaks       *",
            "  Hint         *",
            "  Recording    run 1, exchange 1: POST /v1/runs*",
            "*! * s  < 200 OK*",
            "*(bytes 0-*",
            "*1 failed in *",
        ]
    )
    assert "Error" not in result.stdout.str()


@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        ("http.content-type", pytest.ExitCode.OK, "*1 passed, 1 xfailed in *"),
        ("http.status-200", pytest.ExitCode.TESTS_FAILED, "http.status-200 is met*remove it*"),
        ("http.content-typ", pytest.ExitCode.USAGE_ERROR, "*http.content-typ*http.content-type*"),
    ],
)
def test_known_failures(
    project: Project, faulty: str, known: str, code: pytest.ExitCode, said: str
) -> None:
    """A known failure is expected; one that is met, or that nobody knows, is an error."""
    project.file("known.toml", f'[known-failures]\n"{known}" = "since the beginning"\n')

    result = project.judge(STATUS, TYPE, "--agentstream-baseline=known.toml", url=faulty)

    assert result.ret == code
    (result.stderr if code is pytest.ExitCode.USAGE_ERROR else result.stdout).fnmatch_lines([said])
    if code is pytest.ExitCode.OK:
        summary = "  failed         http.content-type: known failure: since the beginning"
        result.stdout.fnmatch_lines([summary])


def test_a_known_failure_hides_nothing_else(project: Project) -> None:
    """A known failure that could not be tested is not tested, and no green."""
    project.file("known.toml", '[known-failures]\n"terminal.on-crash" = "since the beginning"\n')

    result = project.run(
        f"--agentstream-url={project.url}",
        "--agentstream-dialect=native",
        "--agentstream-baseline=known.toml",
        CRASH,
    )

    result.stdout.fnmatch_lines(["*= 1 not tested in *"])


def test_plan(project: Project, relay: Relay) -> None:
    """The plan names every probe, its class and its runs, and how many runs it comes to."""
    result = project.judge("--agentstream-plan", "agentstream/http.py", CRASH, url=relay.url)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["*(nothing was sent)", "*preflight *start *1 runs*", "*crash_run *start *1 runs*"]
    )
    result.stdout.fnmatch_lines(["runs that would be started: [1-9]*; at once: *"])
    assert relay.connections == 0


def test_as_many_runs_as_allowed(
    project: Project, relay: Relay, count_runs: Callable[[pytest.RunResult], int]
) -> None:
    """`--agentstream-max-runs` bounds what is started; the rest is not tested, and says so."""
    result = project.judge("agentstream/terminal.py", "--agentstream-max-runs=3", url=relay.url)

    assert count_runs(result) == relay.starts == 3
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*the limit of 3 runs is used up*", "*--agentstream-max-runs *"])


def test_reports(project: Project, faulty: str) -> None:
    """Verdicts go to a JSON file, recordings to a file that can be read again."""
    project.judge(
        STATUS,
        TYPE,
        BUFFERING,
        "--agentstream-report=verdicts.json",
        "--agentstream-recordings=runs.jsonl",
        "-p",
        "no:terminal",
        url=faulty,
    )

    verdicts = json.loads((project.pytester.path / "verdicts.json").read_text())
    found = {one["slug"]: one["verdict"] for one in verdicts["results"]}
    assert found["http.content-type"] == "failed"
    assert found["http.no-proxy-buffering"] == "warned"
    assert verdicts["session"]["runs"] == 1
    [run] = read_recordings(project.pytester.path / "runs.jsonl")
    assert run.scenario == "complete"
    assert run.first.body.startswith(b"event: turn")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--agentstream-report=no/such/folder.json"],
            "*report no/such/folder.json*no such folder*",
        ),
        (["--agentstream-level=may"], "*level*"),
        (["--agentstream-header=nonsense"], "*'nonsense'*expected 'Name: value'*"),
        (["--agentstream-dialect=nativ"], "*native*"),
        (["--agentstream-reference"], "*not both*"),
    ],
    ids=str,
)
def test_unusable_options(project: Project, arguments: list[str], said: str) -> None:
    """An option that cannot be used is a usage error before anything is sent."""
    result = project.judge(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in result.stderr.str()


PREFLIGHT = {
    "nobody": ("*nothing listens there*", "*--agentstream-url *"),
    "404": ("*it knows nothing at this path (404)", "*--agentstream-url *"),
    "401": ("*it wants credentials (401)", "*Authorization = *"),
    "html": ("*an HTML page, not a stream", "*--agentstream-url *"),
    "empty": ("*it answered 200 with an empty body", "*complete = *"),
    "silent": ("*said nothing for 0.* s", "*head = *"),
}


@pytest.mark.parametrize("kind", PREFLIGHT)
def test_a_failed_preflight(project: Project, answers: Answers, kind: str) -> None:
    """A server that starts no stream is one error with the setting to change; no case passes."""
    url = {
        "nobody": answers.nobody,
        "404": lambda: answers.always(404, body="no such thing"),
        "401": lambda: answers.always(401, "application/json", '{"detail": "who are you?"}'),
        "html": lambda: answers.always(200, "text/html", "<!doctype html><h1>Hello</h1>"),
        "empty": lambda: answers.always(200, "text/event-stream"),
        "silent": answers.never,
    }[kind]()
    project.file("agentstream.toml", "[tool.agentstream.timeouts]\nhead = 0.3\nfirst_event = 0.3\n")

    result = project.judge("agentstream/http.py", CRASH, url=url)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1)
    why, setting = PREFLIGHT[kind]
    result.stdout.fnmatch_lines(["*= ERRORS =*", why, "*Set *", setting])
    assert "def " not in result.stdout.str()
    result.stdout.fnmatch_lines(["runs started: *"])
