"""While it is off, the plugin costs next to nothing and changes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

REPORTER = """
import sys

OURS = ("pytest_agentstream", "conformance_cases", "reference_server")
THIRD = ("anyio", "httpx", "httpx_sse", "jsonschema", "pydantic", "pydantic_core", "starlette")

def pytest_unconfigure(config):
    heads = OURS + THIRD
    found = sorted(name for name in sys.modules if name.partition(".")[0] in heads)
    print("imported:", *found, file=sys.stderr)
"""
ALLOWED = "imported: pytest_agentstream pytest_agentstream.plugin"


@pytest.fixture
def watched(project: Project) -> Project:
    """A project that says at the end what was imported."""
    project.file("reporter.py", REPORTER)
    return project


@pytest.mark.parametrize("arguments", [(), ("tests",), ("--collect-only",), ("-n1",)], ids=" ".join)
def test_nothing_is_imported(watched: Project, arguments: tuple[str, ...]) -> None:
    """A plain run with the plugin installed imports two modules of ours and no third-party one."""
    watched.plugins = ("xdist",) if "-n1" in arguments else ()
    watched.write(
        tests__test_user_py="import sys\ndef test_user():\n"
        "    assert not {'pydantic', 'httpx', 'anyio', 'jsonschema'} & set(sys.modules)\n"
    )

    result = watched.run("-p", "reporter", *arguments)

    assert result.ret == pytest.ExitCode.OK
    result.stderr.fnmatch_lines([ALLOWED])


LOADED = "import sys, pytest; pytest.main(sys.argv[1:]); print(); print(*sys.modules, sep='\\n')"


def test_an_ordinary_run_imports_nothing(project: Project) -> None:
    """A run that does not mean the suite imports the plugin, and nothing else of or for it."""
    result = project.pytester.run(sys.executable, "-P", "-c", LOADED, "-pno:anyio", "-q")

    imported = set(result.outlines)
    ours = {name for name in imported if name.partition(".")[0] == "pytest_agentstream"}
    assert ours == {"pytest_agentstream", "pytest_agentstream.plugin"}
    assert not imported & {"anyio", "httpx", "httpx_sse", "jsonschema", "pydantic"}


def test_nothing_is_collected(project: Project) -> None:
    """A plain run collects the user's tests, and an empty project stays empty."""
    assert project.run().ret == pytest.ExitCode.NO_TESTS_COLLECTED

    project.write(tests__test_user_py="def test_user(): pass\n")

    project.run().assert_outcomes(passed=1)


def test_the_folder_agentstream_switches_nothing_on(watched: Project) -> None:
    """A folder of the user called `agentstream` is a folder."""
    watched.write(agentstream__test_user_py="def test_user(): pass\n")

    result = watched.run("-p", "reporter", "agentstream")

    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines([ALLOWED])
