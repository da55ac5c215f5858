"""Which packaged cases a command line means, and that looking at them sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Relay

STATUS = "agentstream/http.py::test_status"
TYPE = "agentstream/http.py::test_content_type"
USER = "tests/test_user.py::test_user"
USERS_TEST = '"""\n>>> 1 + 1\n2\n"""\n\ndef test_user():\n    pass\n'


@pytest.fixture
def with_tests(project: Project) -> Project:
    """A project with a test of its own."""
    return project.write(tests__test_user_py=USERS_TEST)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("agentstream",),
        ("agentstream/", "agentstream/http.py", "--doctest-modules", "--rootdir=/"),
        ("--pyargs", "conformance_cases", "-p", "no:cacheprovider"),
        ("--import-mode=importlib",),
        ("--import-mode=append",),
    ],
    ids=" ".join,
)
def test_whole_suite(with_tests: Project, packaged: list[str], arguments: tuple[str, ...]) -> None:
    """Without a positional argument, or with the suite's own name, every packaged case is collected
    and nothing else.
    """
    assert with_tests.collect(*arguments) == packaged


def test_parts_of_the_suite(with_tests: Project, packaged: list[str]) -> None:
    """Files and single cases can be named, mixed with paths of the user, and narrowed further."""
    terminal = [one for one in packaged if one.startswith("agentstream/terminal.py")]

    assert with_tests.collect("agentstream/terminal.py") == terminal
    assert with_tests.collect("--pyargs", "conformance_cases.terminal") == terminal
    assert with_tests.collect(STATUS, TYPE, STATUS) == [STATUS, TYPE]
    assert with_tests.collect("tests", STATUS) == [USER, STATUS]
    narrow = ("-k", "test_status or content_type", "--deselect", TYPE)
    assert with_tests.collect("agentstream/http.py", *narrow) == [STATUS]


def test_a_users_own_path(with_tests: Project) -> None:
    """With only paths of the user, only those are collected, although a URL was given."""
    assert with_tests.collect("tests") == [USER]


def test_a_foreign_working_directory(with_tests: Project, packaged: list[str]) -> None:
    """The suite is the same from a folder inside of the project."""
    (with_tests.pytester.path / "deep" / "down").mkdir(parents=True)
    with_tests.pytester.chdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(with_tests.pytester.path / "deep" / "down")
        assert with_tests.collect() == packaged


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("agentstream/htp.py", "agentstream/http.py"),
        ("agentstream/http.py::test_statu", STATUS),
        ("agentstream/nothing_like_it.py", "agentstream/"),
    ],
)
def test_an_unknown_word(project: Project, word: str, nearest: str) -> None:
    """A word that means no packaged case is a usage error with the nearest one that does."""
    result = project.judge(word)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*no packaged case is called {word}; did you mean {nearest}*"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--collect-only",),
        ("--setup-plan",),
        ("--setup-only",),
        ("--agentstream-plan",),
        ("--fixtures",),
        ("--help",),
        ("-VV",),
    ],
    ids=" ".join,
)
def test_looking_sends_nothing(project: Project, relay: Relay, arguments: tuple[str, ...]) -> None:
    """Whatever only shows what there is does not open a single connection."""
    result = project.judge(*arguments, url=relay.url)

    assert result.ret == pytest.ExitCode.OK
    assert relay.connections == 0
    assert "INTERNALERROR" not in result.stderr.str()


def test_a_url_in_files_collects_nothing(with_tests: Project, relay: Relay) -> None:
    """A URL from a configuration file, or an option from addopts, leaves a plain run as it was."""
    with_tests.file("agentstream.toml", f'[tool.agentstream]\nurl = "{relay.url}"\n')
    assert with_tests.run("--collect-only", "-q").outlines[0] == USER

    with_tests.file("pytest.ini", f"[pytest]\naddopts = --agentstream-url={relay.url}\n")
    result = with_tests.run()

    result.assert_outcomes(passed=1)
    assert relay.connections == 0


def test_a_url_in_a_file_is_used(project: Project) -> None:
    """With the suite's name on the command line, the URL may come from a file."""
    project.file(
        "pyproject.toml",
        f'[tool.agentstream]\nurl = "{project.url}"\ndialect = "native"\ncontrol_header = true\n',
    )

    result = project.run(STATUS)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*settings: *pyproject.toml"])


def test_no_url_at_all(project: Project) -> None:
    """The suite's name without any server under test is a usage error that says how to give one."""
    result = project.run("agentstream")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no server under test: give --agentstream-url*"])


@pytest.mark.parametrize("arguments", [("-k", "nothing_like_it"), ("-m", "unit")], ids=" ".join)
def test_everything_deselected(project: Project, arguments: tuple[str, ...]) -> None:
    """A server was given and nothing judges it: a usage error that names what deselected all."""
    result = project.judge(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*everything was deselected*{arguments[0]} '{arguments[1]}'*"])


def test_first_failure_last_failures_and_steps(project: Project, faulty: str) -> None:
    """-x stops at a failing case; --lf, --sw and --nf know it again by its id."""
    first = project.judge("agentstream/http.py", "-x", url=faulty)
    first.assert_outcomes(passed=1, failed=1)

    last = project.judge("--lf", url=faulty)
    last.assert_outcomes(failed=1, deselected=len(project.collect()) - 1)

    project.judge("agentstream/http.py", "--sw", url=faulty).assert_outcomes(passed=1, failed=1)
    step = project.judge("agentstream/http.py", "--sw", url=faulty)
    step.assert_outcomes(failed=1, deselected=1)


def test_junit_properties(project: Project, faulty: str) -> None:
    """Every testcase in the JUnit file says requirement, level, tier, verdict and control."""
    project.judge("agentstream/http.py", "--junitxml=out.xml", url=faulty)

    cases = ElementTree.parse(project.pytester.path / "out.xml").findall(".//testcase")
    assert {case.get("classname") for case in cases} == {"agentstream.http"}
    verdicts = {}
    for case in cases:
        said = {one.get("name"): one.get("value") for one in case.findall("properties/property")}
        names = ("requirement", "level", "tier", "verdict", "control")
        assert all(f"agentstream.{name}" in said for name in names)
        verdicts[said["agentstream.requirement"]] = said["agentstream.verdict"]
    assert verdicts["http.status-200"] == "met"
    assert verdicts["http.content-type"] == "failed"
    assert verdicts["http.no-proxy-buffering"] == "warned"
