"""The command `agentstream`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

STATUS = "agentstream/http.py::test_status"
TWO = (STATUS, "agentstream/http.py::test_content_type")


def test_run(project: Project) -> None:
    """`run URL` says which pytest command it is, and takes our options without their prefix, before
    or behind the URL, with or without an equals sign, and pytest's own.
    """
    result = project.agentstream(
        "run", "--dialect", "native", project.url, "--heartbeat=0.2", "--control-header",
        "--header", "X-Tenant: http://tenant", "-k", "status", *TWO, "-q",
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr
    first, *_ = result.stdout.splitlines()
    assert first.startswith("agentstream: PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 ")
    assert " -m pytest " in first
    assert "--noconftest" in first
    assert "1 passed, 1 deselected" in result.stdout


def test_the_command_it_prints(project: Project) -> None:
    """The printed command, typed into a shell, does the same."""
    shown = project.agentstream("run", project.url, "--dialect=native", STATUS).stdout
    command = shown.splitlines()[0].removeprefix("agentstream: ")

    result = project.pytester.run("sh", "-c", command)

    assert result.ret == 0
    result.assert_outcomes(passed=1)


def test_run_apart_from_the_project(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of the project takes part but its [tool.agentstream] table: no settings, conftest,
    plugins or environment of pytest; and nothing is written into it.
    """
    project.write(
        conftest_py="raise RuntimeError\n",
        pytest_ini="[pytest]\naddopts = -m unit --no-such-option\n",
        agentstream_toml='[tool.agentstream]\ndialect = "native"\nheartbeat = 0.2\n',
    )
    before = sorted(project.pytester.path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PYTEST_ADDOPTS", "--no-such-option")
        patch.setenv("PYTEST_PLUGINS", "no_such_plugin")
        result = project.agentstream("run", project.url, *TWO)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout
    assert sorted(project.pytester.path.iterdir()) == before


def test_workers(project: Project) -> None:
    """`run -n 2` starts what `run` starts."""
    words = ("--dialect=native", "--heartbeat=0.2", "--control-header", "agentstream/order.py")

    one = project.agentstream("run", project.url, *words).stdout
    two = project.agentstream("run", project.url, *words, "-n", "2").stdout

    started = [line for line in one.splitlines() if line.startswith("runs started")]
    assert started
    assert started == [line for line in two.splitlines() if line.startswith("runs started")]


def test_reference(project: Project) -> None:
    """`run --reference` judges the bundled server, and ends it."""
    result = project.agentstream("run", "--reference", STATUS)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "the bundled reference server" in result.stdout


def test_exit_codes(project: Project, faulty: str) -> None:
    """A finding is 1, an unusable option 4, as pytest has them."""
    assert project.agentstream("run", faulty, "--dialect=native", *TWO).returncode == 1
    assert project.agentstream("run", faulty, "--dialect=nativ", *TWO).returncode == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run"], "expected one URL such as http://127.0.0.1:8000/chat"),
        (["run", "localhost:8000"], "found localhost:8000"),
        (["run", "http://a/", "http://b/"], "found http://a/ http://b/"),
        (["run", "--reference", "http://a/"], "found http://a/"),
        (["dialects", "--all"], "unrecognized arguments: --all"),
    ],
    ids=str,
)
def test_usage(project: Project, arguments: list[str], said: str) -> None:
    """What cannot be understood is said in one sentence, with exit code 2."""
    result = project.agentstream(*arguments)

    assert result.returncode == 2
    assert said in result.stderr


def test_lists(project: Project) -> None:
    """`requirements` lists every requirement by tier, `dialects` every built-in dialect."""
    requirements = project.agentstream("requirements").stdout
    assert requirements.splitlines()[0] == "core"
    assert "terminal.on-crash" in requirements

    assert "native" in project.agentstream("dialects").stdout
