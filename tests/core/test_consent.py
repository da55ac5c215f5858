"""Consent: what may be sent where, and the plan that says so before anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.cases import Case, case_of, requirement
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.judging import planned
from pytest_agentstream.probing import Consent, closure, probe
from pytest_agentstream.reports.plan import plan_lines
from pytest_agentstream.requirements import MUST
from pytest_agentstream.scripts import UPSTREAM
from pytest_agentstream.target import Target
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from pytest_agentstream.driving import Driver
    from tests.core.conftest import Opened

ELSEWHERE = "http://10.255.255.1/chat"  # nothing is ever sent there


@probe(scenarios=["complete", "tools"])
async def ordinary(client: Driver) -> None:
    """Two ordinary runs."""


@probe(consent="fuzz", scenarios=["complete"], runs=5)
async def fuzzing(client: Driver) -> None:
    """Runs with odd input."""


@probe(consent="attack", scenarios=["complete"])
async def attacking(client: Driver) -> None:
    """A run that does harm."""


@probe(scenarios=["silence"])
async def uncontrolled(client: Driver) -> None:
    """A run that nothing asks for."""


def looking() -> Case:
    @requirement("t.all", MUST, tier="core", text="It is so.", source="this test")
    def look(ordinary: None, fuzzing: None, attacking: None, uncontrolled: None) -> None:
        pass

    case = case_of(look)
    assert case is not None
    return case


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.7.6:80", "localhost", "LOCALHOST:8000", "localhost.", "[::1]", "[::1]:80"],
)
def test_this_machine(host: str) -> None:
    """Addresses of 127.0.0.0/8, ::1 and localhost are this machine, with a port or without."""
    assert Target(url=f"http://{host}/chat").is_loopback


@pytest.mark.parametrize(
    "host",
    [
        "127.evil.com",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "localhost@evil.com",
        "evil.com:127",
        "10.0.0.1",
        "[::2]",
        "[2001:db8::127.0.0.1]",
        "0.0.0.0",
        "",
    ],
)
def test_other_machines(host: str) -> None:
    """A name that merely looks like this machine is another one."""
    assert not Target(url=f"http://{host}/chat").is_loopback


def test_the_plan_counts_runs(session: Opened) -> None:
    """On this machine every probe with a control is planned, with its runs and bound."""
    tools = {"tools": {"json": {"message": "tools"}, "seconds": 2}}
    with session("http://127.0.0.1:9/chat", scenarios=tools) as opened:
        plan = opened.plan([looking()])
        lines = plan_lines(plan, opened.target)
    assert [(line.name, str(line.consent), line.runs, line.left_out) for line in plan] == [
        ("preflight", "start", 1, ""),
        ("ordinary", "start", 2, ""),
        ("fuzzing", "fuzz", 5, ""),
        ("attacking", "attack", 1, ""),
    ]
    assert lines[0] == "agentstream plan for http://127.0.0.1:9/chat (nothing was sent)"
    assert lines[-1].startswith("runs that would be started: 9; at once: up to 16; the longest")


def test_detection_is_a_run_of_its_own(session: Opened) -> None:
    """Without a dialect the plan has the run that tells it."""
    with session("http://127.0.0.1:9/chat", dialect=None) as opened:
        assert [line.name for line in opened.plan([])] == ["detection", "preflight"]


def test_beyond_loopback_only_ordinary_runs(session: Opened) -> None:
    """On any other address odd input and harm are left out, and the plan says why."""
    tools = {"tools": {"json": {"message": "tools"}}}
    with session(ELSEWHERE, scenarios=tools) as opened:
        plan = {line.name: line for line in opened.plan([looking()])}
        assert plan["ordinary"].runs == 2
        assert plan["fuzzing"].runs == 0
        assert plan["fuzzing"].left_out == (
            "probes of the class `fuzz` need consent beyond loopback"
        )
        with pytest.raises(NotTested) as caught:
            opened.permit(attacking)
    assert str(caught.value) == (
        "probes of the class `attack` need consent beyond loopback; "
        "allow it: --agentstream-allow attack"
    )


def test_what_is_allowed_runs(session: Opened) -> None:
    """A class that was allowed is planned and permitted, and no other."""
    with session(ELSEWHERE, allow=["fuzz"]) as opened:
        plan = {line.name: line for line in opened.plan([looking()])}
        assert (plan["fuzzing"].runs, plan["attacking"].runs) == (5, 0)
        opened.permit(fuzzing)
        opened.permit(ordinary)


STANDS_AROUND = frozenset({"double", "process", "replicas"})
ADDED_SINCE = {"gone_inside": 2, "survivor_run": 2, "half_open": 1, "crash_left": 1}
"""Rows that came behind the promise of 25 runs, each with runs of its own (docs/design.md)."""


def test_the_packaged_suite_starts_few_runs() -> None:
    """Without double, process and load it starts 25 runs at the most, and what came since."""
    probes = {
        one.name: one.runs
        for one in planned(catalogue().values(), catalogue())
        if one.consent is Consent.START
        and not STANDS_AROUND & {name for each in closure([one]) for name in each.parameters}
        and not any(name.startswith(UPSTREAM) for name in one.scenarios)
    }
    assert sum(probes.values()) - sum(ADDED_SINCE.values()) <= 25
    assert ADDED_SINCE.items() <= probes.items()
