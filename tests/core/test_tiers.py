"""Tiers: reached only by what was judged, and by all of it."""

from __future__ import annotations

import pytest

from pytest_agentstream.judging import CaseResult
from pytest_agentstream.reports.tiers import tier_states
from pytest_agentstream.requirements import Tier
from pytest_agentstream.verdicts import Verdict


def result(
    tier: str, verdict: Verdict, level: str = "MUST", slug: str = "", reason: str = ""
) -> CaseResult:
    return CaseResult(slug or f"{tier}.a", level, tier, verdict, "It is so.", reason=reason)


def states(
    *results: CaseResult, others: tuple[str, ...] = (), lacking: dict[str, str] | None = None
) -> dict[str, str]:
    """The state of each tier; `others` are slugs that were not judged."""
    slugs = {one.slug: Tier(one.tier) for one in results}
    slugs |= {slug: Tier(slug.partition(".")[0]) for slug in others}
    return {str(s.tier): s.state for s in tier_states(results, slugs, lacking or {})}


def test_all_met_is_reached() -> None:
    """A tier is reached where every MUST is met, whatever became of a SHOULD."""
    assert states(
        result("core", Verdict.MET),
        result("core", Verdict.WARNED, "SHOULD", "core.b"),
        result("core", Verdict.NOT_TESTED, "SHOULD", "core.c"),
        result("core", Verdict.NOT_APPLICABLE, slug="core.d"),
    ) == {"core": "reached"}


@pytest.mark.parametrize(
    "verdict", [Verdict.FAILED, Verdict.CONTROL_BROKEN, Verdict.ERROR, Verdict.BLOCKED]
)
def test_one_bad_must_is_enough(verdict: Verdict) -> None:
    """A tier with a MUST that failed, is blocked, in error or on a broken control isn't reached."""
    found = states(result("core", Verdict.MET), result("core", verdict, slug="core.b"))
    assert found == {"core": "not reached"}


def test_untested_is_unproven() -> None:
    """An untested MUST leaves its tier unproven, with the reason, and how many more there are."""
    first = result("live", Verdict.NOT_TESTED, slug="live.b", reason="needs a `silence` of 52 s")
    same = result("live", Verdict.NOT_TESTED, slug="live.c", reason="needs a `silence` of 52 s")
    other = result("live", Verdict.NOT_TESTED, slug="live.d", reason="no control for `echo`")
    assert states(first, same) == {"live": "unproven: needs a `silence` of 52 s"}
    assert states(first, same, other)["live"].endswith("52 s (and 1 more below)")


def test_what_was_not_selected_is_unproven() -> None:
    """A partial selection reaches nothing, and says how much was left out."""
    met = result("core", Verdict.MET)
    assert states(met, others=("core.b",)) == {"core": "unproven: 1 requirement was not selected"}
    assert states(met, others=("core.b", "core.c"))["core"].startswith("unproven: 2 requirements")


def test_nothing_is_reached_by_vacuity() -> None:
    """A tier none of whose MUSTs applies is not reached."""
    found = states(
        result("live", Verdict.NOT_APPLICABLE), result("live", Verdict.MET, "SHOULD", "live.b")
    )
    assert found == {"live": "unproven: no MUST of it applies here"}


def test_a_mechanism_that_the_dialect_lacks() -> None:
    """A tier whose mechanism the dialect lacks cannot be reached in it, and it says why."""
    found = states(
        result("resumable", Verdict.NOT_APPLICABLE), lacking={"resumable": "no way to resume"}
    )
    assert found == {"resumable": "cannot be reached in this dialect: no way to resume"}


@pytest.mark.parametrize(
    ("verdict", "how"), [(Verdict.FAILED, "not reached"), (Verdict.NOT_TESTED, "unproven")]
)
def test_tiers_build_on_each_other(verdict: Verdict, how: str) -> None:
    """A tier above one that is not reached is met at best, and names the lowest that is missing."""
    found = states(
        result("core", Verdict.MET),
        result("live", verdict),
        result("resilient", Verdict.MET),
        result("resumable", Verdict.MET),
    )
    assert found["core"] == "reached"
    assert found["resilient"] == f"met; live, which it builds on, is {how}"
    assert found["resumable"] == found["resilient"]


def test_a_tier_nobody_judged() -> None:
    """Where the tier below was left out altogether, the one above is met at best."""
    found = states(result("live", Verdict.MET), others=("core.a",))
    assert found["live"] == "met; core, which it builds on, is not judged"
