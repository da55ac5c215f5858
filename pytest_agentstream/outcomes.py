"""What a verdict is to pytest: red or not, its word and letter, the properties of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.judging import CaseResult, below
from pytest_agentstream.requirements import Level, Tier
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_agentstream.settings import Settings

PROPERTY = "agentstream.result"

WORDS: Mapping[Verdict, tuple[str, str, tuple[str, Mapping[str, bool]]]] = {
    Verdict.WARNED: ("warned", "w", ("WARNED", {"yellow": True})),
    Verdict.NOT_TESTED: ("not tested", "t", ("NOT TESTED", {"yellow": True})),
    Verdict.NOT_APPLICABLE: ("not applicable", "-", ("NOT APPLICABLE", {"light": True})),
    Verdict.BLOCKED: ("blocked", "b", ("BLOCKED", {"yellow": True})),
}
"""How verdicts that are neither green nor red are counted, dotted and named by the terminal."""


def is_red(result: CaseResult, settings: Settings) -> bool:
    """Whether a verdict makes the run red, under the settings in force."""
    match result.verdict:
        case Verdict.FAILED | Verdict.CONTROL_BROKEN | Verdict.ERROR:
            return True
        case Verdict.WARNED:
            return settings.level == "should"
        case Verdict.NOT_TESTED:
            return result.level == Level.MUST and below(Tier(result.tier), settings.require)
    return False


def properties_of(result: CaseResult) -> list[tuple[str, str]]:
    """The properties of a report, as they stand in a JUnit file."""
    return [
        ("agentstream.requirement", result.slug),
        ("agentstream.level", result.level),
        ("agentstream.tier", result.tier),
        ("agentstream.verdict", str(result.verdict)),
        ("agentstream.control", result.control),
        (PROPERTY, result.to_json()),
    ]


NAMES = frozenset(
    {f"agentstream.{name}" for name in ("requirement", "level", "tier", "verdict", "control")}
    | {PROPERTY}
)


def result_of(report: pytest.TestReport) -> CaseResult | None:
    """The result that a report brings, also from another process; None where it is no case's."""
    for name, value in getattr(report, "user_properties", ()):
        if name == PROPERTY:
            return CaseResult.from_json(str(value))
    return None
