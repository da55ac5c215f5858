"""The command `agentstream`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.cli import main
from pytest_agentstream.plugin import OPTIONS

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


def test_a_url_from_the_file(project: Project, server: str) -> None:
    """With a configuration file named, the URL may stand in there; the whole suite is meant."""
    project.write(agentstream_toml=f'[tool.agentstream]\nurl = "{server}"\n')
    named = project.agentstream("run", "--config", "agentstream.toml", "--plan")
    assert named.returncode == 0
    assert f"agentstream plan for {server} (nothing was sent)" in named.stdout
    assert "runs that would be started: " in named.stdout


@pytest.mark.parametrize("named", ["--command", "--agentstream-command", "--agentstream-command="])
def test_a_path_and_a_command(project: Project, named: str) -> None:
    """A path in place of the URL is that of the server which the command starts.

    The option may have its name in pytest, and the command may name URLs of its own.
    """
    server = f"{sys.executable} -m reference_server --port {{port}} --heartbeat 0.2"
    command = f"{server} --cors-origin https://app.example"
    given = (f"{named}{command}",) if named.endswith("=") else (named, command)
    done = project.agentstream("run", "/v1/runs", "--dialect", "native", *given, *TWO)
    assert done.returncode == 0, done.stdout
    assert "the server under test: process " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run"], "expected one URL such as http://127.0.0.1:8000/chat"),
        (["run", "localhost:8000/chat"], "perhaps http://localhost:8000/chat is meant"),
        (["run", "http://a/", "http://b/"], "found http://a/ http://b/"),
        (["run", "--reference", "http://a/"], "found http://a/"),
        (["dialects", "--all"], "unrecognized arguments: --all"),
        (["run", "http://a/", "--double=4011"], "--double takes no value, and found '4011'; a po"),
        (
            ["run", "http://a/", "--dialect"],
            "--dialect needs a value, NAME|FILE, and found nothing",
        ),
        (
            ["run", "/chat", "--command", "uvicorn", "app:app", "--port", "{port}"],
            "expected the whole command in quotes: --command 'uvicorn app:app --port {port}'",
        ),
    ],
    ids=str,
)
def test_usage(project: Project, arguments: list[str], said: str) -> None:
    """What cannot be understood is said in one sentence, with exit code 2."""
    result = project.agentstream(*arguments)

    assert result.returncode == 2
    assert said in result.stderr


def test_workers_without_xdist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where pytest-xdist is not installed, `-n` is an error that says what to do."""
    monkeypatch.setitem(sys.modules, "xdist", None)
    with pytest.raises(SystemExit) as ended:
        main(["run", "http://127.0.0.1:1/chat", "-n", "2"])
    assert ended.value.code == 2
    assert "-n and --dist need pytest-xdist, which is not installed here: pip install" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["requirements", "dialects", "double --port 0"])
def test_a_list_that_nobody_reads(command: str) -> None:
    """`… | head -1` ends quietly, and is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    program = str(Path(sys.executable).with_name("agentstream"))
    done = subprocess.run(
        [program, *command.split()], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_help(project: Project) -> None:
    """`run --help` names every option of the suite."""
    said = project.agentstream("run", "--help").stdout
    assert [f"--{name}" for name, _ in OPTIONS if f"  --{name} " not in said] == ["--url"]


def test_lists(project: Project) -> None:
    """`requirements` lists every requirement by tier, `dialects` every built-in dialect."""
    requirements = project.agentstream("requirements").stdout
    assert requirements.splitlines()[0] == "core"
    assert "terminal.on-crash" in requirements

    assert "native" in project.agentstream("dialects").stdout
