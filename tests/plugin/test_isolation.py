"""What users' projects do to packaged cases: nothing."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

TWO = ("agentstream/http.py::test_status", "agentstream/http.py::test_content_type")
FIXTURES = """
import pytest

@pytest.fixture(autouse=True)
def around(request):
    with open("around.txt", "a") as file:
        file.write(request.node.nodeid + "\\n")
    yield
    raise RuntimeError("an autouse fixture of the user")

@pytest.fixture(scope="session", autouse=True)
def around_all():
    raise RuntimeError("a session fixture of the user")

@pytest.fixture
def complete_run():
    raise RuntimeError("a fixture with a probe's name")

@pytest.fixture
def target():
    raise RuntimeError("a fixture with a resource's name")
"""


def with_plugins(project: Project, *plugins: str) -> Project:
    return dataclasses.replace(project, plugins=plugins)


def test_positional_arguments_in_addopts(project: Project) -> None:
    """`addopts = "tests -ra"` is no positional argument of the command line."""
    project.write(
        pytest_ini="[pytest]\naddopts = tests -ra\ntestpaths = tests\n",
        tests__test_user_py="def test_user(): pass\n",
    )

    assert not [one for one in project.collect() if one.startswith("tests")]
    assert project.collect(*TWO) == list(TWO)


def test_fixtures_of_the_user(project: Project) -> None:
    """Autouse fixtures do not run around packaged cases, and none replaces a probe or resource."""
    project.write(conftest_py=FIXTURES)

    project.judge(*TWO, "agentstream/http.py::test_no_proxy_buffering").assert_outcomes(passed=3)

    assert not (project.pytester.path / "around.txt").exists()


def test_a_broken_conftest(project: Project) -> None:
    """Pytest says what is wrong with a user's conftest; `agentstream run` does not even read it."""
    project.write(conftest_py="import no_such_module\n")
    project.file("pytest.ini", "[pytest]\naddopts = --no-such-option\n")

    assert project.judge(*TWO).ret == pytest.ExitCode.USAGE_ERROR
    result = project.agentstream(
        "run", project.url, "--dialect", "native", "--heartbeat=0.2", "--control-header", *TWO
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout


def test_timeouts_of_the_user(project: Project) -> None:
    """`timeout = 1` of pytest-timeout does not reach cases that wait longer for their probes."""
    project.write(pytest_ini="[pytest]\ntimeout = 1\n")

    result = with_plugins(project, "timeout").judge(
        "--agentstream-heartbeat=0.6", "agentstream/heartbeat.py::test_keeps_pace"
    )

    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    assert "Timeout" not in result.stdout.str()
    assert result.duration > 1


def test_marker_expressions_of_the_user(project: Project) -> None:
    """`addopts = "-m unit"` deselects everything: an error, which names the way out."""
    project.write(pytest_ini="[pytest]\naddopts = -m unit\nmarkers = unit\n")

    result = project.judge()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*-m 'unit'*agentstream run URL*"])


def test_a_folder_of_the_same_name(project: Project) -> None:
    """A folder `agentstream` of the user wins where it is named, and changes nothing elsewhere."""
    project.write(agentstream__test_user_py="def test_user(): pass\n", agentstream____init___py="")

    assert project.collect("agentstream") == ["agentstream/test_user.py::test_user"]
    assert project.collect(*TWO) == list(TWO)
    assert "agentstream/test_user.py::test_user" not in project.collect()


def test_hostile_collection_settings(project: Project) -> None:
    """Patterns for files, classes and functions that match nothing or everything are no matter."""
    project.write(
        pytest_ini="[pytest]\npython_files = *\npython_functions = *\npython_classes = *\n"
        "norecursedirs = *\ncollect_imported_tests = false\n",
        helpers_py="def anything(): raise RuntimeError\n",
    )

    project.judge(*TWO).assert_outcomes(passed=2)

    project.write(pytest_ini="[pytest]\npython_files = no_*\npython_functions = no_*\n")

    project.judge(*TWO).assert_outcomes(passed=2)


def test_an_environment_inside_of_the_project(project: Project) -> None:
    """A virtual environment in the project, the suite in it and a broken conftest.py beside it, is
    not walked.
    """
    packages = project.pytester.path / ".venv" / "lib" / "python3" / "site-packages"
    packages.mkdir(parents=True)
    for broken in (packages / "conftest.py", packages.parent / "conftest.py"):
        broken.write_text("import no_such_module\n")
    (project.pytester.path / ".venv" / "pyvenv.cfg").write_text("home = nowhere\n")
    for name in ("conformance_cases", "pytest_agentstream"):
        (packages / name).symlink_to(_home_of(name), target_is_directory=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(packages), prepend=":")
        result = project.judge("-rA", *TWO)

    result.assert_outcomes(passed=2)


def _home_of(package: str) -> str:
    return str(import_module(package).__path__[0])


def test_strict_everything(project: Project) -> None:
    """With warnings as errors, strict markers and strict configuration, the whole suite passes."""
    result = project.judge("-W", "error", "--strict-markers", "--strict-config", "-rf")

    assert result.ret == pytest.ExitCode.OK
    assert "warnings" not in result.outlines[-1]


@pytest.mark.parametrize("plugin", ["asyncio", "anyio"])
def test_other_plugins(project: Project, plugin: str) -> None:
    """Plugins that run or multiply tests find nothing of theirs in a case."""
    project.write(
        pytest_ini="[pytest]\nasyncio_mode = auto\n" if plugin == "asyncio" else "[pytest]\n"
    )
    project.write(
        conftest_py="import pytest\n@pytest.fixture(params=['asyncio', 'trio'])\n"
        "def anyio_backend(request): return request.param\n"
    )

    with_plugins(project, plugin).judge(*TWO).assert_outcomes(passed=2)


def test_every_plugin_at_once(project: Project) -> None:
    """With all of them together, in random order, the verdicts are the same."""
    every = with_plugins(project, "asyncio", "anyio", "randomly", "timeout", "hypothesispytest")

    result = every.judge(*TWO, "agentstream/http.py::test_no_proxy_buffering", "--timeout=5")

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["Using --randomly-seed=*"])


def test_modules_of_the_user_with_our_names(project: Project) -> None:
    """`agentstream run` imports nothing from the current folder, whatever it is called."""
    raises = "raise RuntimeError('a module of the user')\n"
    project.write(
        httpx_py=raises,
        jsonschema_py=raises,
        conformance_cases_py=raises,
        reference_server_py=raises,
    )

    result = project.agentstream(
        "run", project.url, "--dialect=native", "--heartbeat=0.2", "--control-header", TWO[0]
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_hooks_of_the_user(project: Project) -> None:
    """Hooks that look at every item meet one without fixtures, with a name, a path and markers."""
    project.write(
        conftest_py="def pytest_collection_modifyitems(items):\n"
        "    for item in items:\n"
        "        assert item.get_closest_marker('agentstream')\n"
        "        assert item.path.is_file() and item.nodeid and item.location\n"
    )

    project.judge(*TWO).assert_outcomes(passed=2)
