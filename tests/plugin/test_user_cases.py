"""Users' own tests, cases and probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project, Relay

HEAD = "from pytest_agentstream import MUST, NotTested, expect, probe, requirement\n"
CASES = """
import asyncio, time

def case(slug, **more):
    return requirement(slug, MUST, tier="core", text="A sentence.", source="us", **more)

@probe(scenarios=["tools"])
async def good(client):
    return await client.run("tools")

@probe(timeout=0.3)
async def endless():
    await asyncio.sleep(3600)

@probe(timeout=0.3)
async def blocking():
    time.sleep(0.6)

@probe
async def leaving():
    raise SystemExit("a probe of the user")

@probe
async def late():
    raise TimeoutError("of the user's own")

@probe
async def grouped():
    async def untested():
        raise NotTested("nobody declared it")
    async with asyncio.TaskGroup() as group:
        group.create_task(untested())

@case("mine.good")
def test_good(good):
    expect(good.terminals, expected="a terminal", actual="none")

@case("mine.bad", presupposes=["mine.good"])
def test_bad(good):
    expect(len(good.terminals) > 1, expected="two terminals", actual="one", at=good.first)

@case("mine.after-bad", presupposes=["mine.bad"])
def test_after_bad(good): ...

@case("mine.endless")
def test_endless(endless): ...

@case("mine.blocking")
def test_blocking(blocking): ...

@case("mine.leaving")
def test_leaving(leaving): ...

@case("mine.late")
def test_late(late): ...

@case("mine.grouped")
def test_grouped(grouped): ...

@case("mine.broken")
def test_broken(good):
    raise KeyError("a case of the user")

def test_plain(): ...
"""


def test_probes_that_break(project: Project) -> None:
    """A probe that hangs, blocks, exits or breaks is an error of the cases that need it, and of no
    other, packaged or the user's own.
    """
    project.file("tests/test_own.py", HEAD + CASES)

    result = project.judge("-rA", "tests", "agentstream/http.py::test_status")

    said = result.stdout.str()
    for slug, why in {
        "mine.endless": "the probe `endless` did not end in 0.3 s",
        "mine.blocking": "the probe `blocking` took 0.6 s, of 0.3 s at most",
        "mine.leaving": "the probe `leaving` broke: SystemExit('a probe of the user')",
        "mine.late": "the probe `late` broke: TimeoutError(",
        "mine.broken": "broke: KeyError('a case of the user')",
    }.items():
        assert f"{slug} (MUST, core): error" in said
        assert why in said
    for name, outcome in {
        "tests/test_own.py::test_good[agentstream]": "PASSED",
        "tests/test_own.py::test_plain": "PASSED",
        "agentstream/http.py::test_status": "PASSED",
        "tests/test_own.py::test_bad[agentstream]": "FAILED",
    }.items():
        assert f"{outcome} {name}" in said
    assert "mine.bad (MUST, core): failed" in said
    assert "blocked by mine.bad: mine.after-bad" in said
    assert "not tested: mine.grouped" in said
    result.stdout.fnmatch_lines(["*6 failed, 3 passed, *1 blocked* in *"])


def test_a_probe_that_never_lets_go(project: Project) -> None:
    """A probe that holds the event loop for good is abandoned; the session ends and says why."""
    project.file(
        "tests/test_own.py",
        HEAD
        + "import time\n"
        + "@probe(timeout=0.5)\nasync def stuck():\n    time.sleep(600)\n"
        + '@requirement("mine.stuck", MUST, tier="core", text="A.", source="us")\n'
        + "def test_stuck(stuck): ...\n",
    )

    result = project.judge("tests")

    assert result.duration < 10
    result.stdout.fnmatch_lines(["mine.stuck (MUST, core): error", "*was held for * by `stuck`*"])
    result.assert_outcomes(failed=1)


def test_probes_from_a_conftest(project: Project, relay: Relay) -> None:
    """Probes from other modules and packaged ones serve a user's case; each runs once."""
    project.write(
        shared_py=HEAD + '@probe(scenarios=["tools"])\nasync def shared_run(client):\n'
        '    return await client.run("tools")\n',
        conftest_py="from shared import shared_run\n",
        test_own_py=HEAD
        + "from shared import shared_run\n"
        + '@requirement("mine.one", MUST, tier="core", text="A.", source="us")\n'
        + "def test_one(shared_run, complete_run):\n"
        + "    expect(complete_run.events, expected='events', actual='none')\n"
        + '@requirement("mine.two", MUST, tier="core", text="A.", source="us")\n'
        + "def test_two(shared_run, target, dialect): ...\n",
    )

    project.judge("test_own.py", url=relay.url).assert_outcomes(passed=2)

    assert relay.starts == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def test_one(complet_run): ...", "*'complet_run'*did you mean 'complete_run'*"),
        ("def test_one(): ...\nagain = test_one\n" * 2, "*mine.one is the slug of two cases*"),
    ],
)
def test_cases_that_cannot_be(project: Project, body: str, said: str) -> None:
    """An unknown probe or a slug given twice is an error of that file, when it is collected."""
    decorated = body.replace(
        "def ", '@requirement("mine.one", MUST, tier="core", text="A.", source="us")\ndef '
    )
    first, *rest = decorated.split("again = test_one\n")
    text = first + "".join(one.replace("test_one", "test_other") for one in rest)
    project.write(test_own_py=HEAD + text, test_user_py="def test_user(): ...\n")

    result = project.judge("test_own.py", "test_user.py")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting test_own.py*", said, "*1 error*"])


def test_without_any_server(project: Project) -> None:
    """A user's case or fixture without a server under test fails with the way to name one."""
    project.write(
        test_own_py=HEAD
        + '@requirement("mine.one", MUST, tier="core", text="A.", source="us")\n'
        + "def test_one(complete_run): ...\n"
        + "def test_two(agentstream_client): ...\n"
        + "def test_plain(): ...\n",
    )

    result = project.run("-k", "not one")

    result.assert_outcomes(passed=1, errors=1, deselected=1)
    result.stdout.fnmatch_lines(["*no server under test: give --agentstream-url*"])
    result = project.run("-k", "one")
    assert result.ret in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR}
    assert (
        "no server under test: give --agentstream-url" in result.stdout.str() + result.stderr.str()
    )


FIXTURES = """
from conformance_cases.probes import crash_run

def test_target(agentstream_target):
    assert agentstream_target.dialect == "native"

def test_client(agentstream_client):
    seen = agentstream_client.run("crash")
    assert seen.terminals
    cursor = seen.identified[0][1]
    assert agentstream_client.resume(seen, str(cursor)).blocks
    assert agentstream_client.request("GET", "/nowhere").status == 404

def test_result(agentstream_client):
    assert agentstream_client.result(crash_run) is agentstream_client.result(crash_run)
"""


def test_fixtures(project: Project, relay: Relay) -> None:
    """Plain tests get the target and a client without `async`, and share the results of probes."""
    project.write(test_own_py=FIXTURES)

    result = project.judge("test_own.py", "agentstream/terminal.py::test_on_crash", url=relay.url)

    result.assert_outcomes(passed=4)


LAZY = """
class Lazy:
    def __getattr__(self, name):
        raise RuntimeError("outside of its context")

request = Lazy()
test_lazy = 1

def test_user(): ...
"""


def test_objects_that_dislike_questions(project: Project) -> None:
    """Lazy objects in a user's module are not asked for any attribute."""
    project.write(test_own_py=LAZY)

    project.judge("test_own.py").assert_outcomes(passed=1)
