"""Which changes of a verdict are flickers, and which are our own lag, admitted."""

from __future__ import annotations

import pytest

from pytest_agentstream.judging import CaseResult
from pytest_agentstream.verdicts import Verdict
from tests.steady.steady import Difference, differences

SLUG = "heartbeat.keeps-pace"
LAGGED = "in doubt twice, for our own lag: a gap of 0.4 s, and our own lag was 0.3 s"


def results(**verdicts: tuple[Verdict, str, str]) -> dict[str, CaseResult]:
    """Results by slug, from a verdict, its reason, and what blocked it."""
    return {
        slug: CaseResult(
            slug, "MUST", "live", verdict, "A sentence.", reason=reason, blocked_by=blocker
        )
        for slug, (verdict, reason, blocker) in verdicts.items()
    }


def test_the_same_verdicts_do_not_differ() -> None:
    """Another reason for the same verdict is no difference."""
    quiet = results(one=(Verdict.NOT_TESTED, "no sample", ""))
    busy = results(one=(Verdict.NOT_TESTED, "no sample of two", ""))

    assert differences(quiet, busy) == ()


def test_what_is_blocked_by_a_difference_is_left_out() -> None:
    """One cause is one difference, however many cases it blocks."""
    quiet = results(cause=(Verdict.MET, "", ""), rest=(Verdict.MET, "", ""))
    busy = results(
        cause=(Verdict.FAILED, "a gap", ""), rest=(Verdict.BLOCKED, "blocked by cause", "cause")
    )

    assert differences(quiet, busy) == (Difference("cause", "met", "failed", "a gap"),)
    assert differences(busy, quiet) == (Difference("cause", "failed", "met", "before: a gap"),)


@pytest.mark.parametrize(
    ("found", "why", "flickers"),
    [
        (Verdict.ERROR, LAGGED, False),
        (Verdict.ERROR, "the probe `silence_run` broke", True),
        (Verdict.FAILED, LAGGED, True),
        (Verdict.NOT_TESTED, "no sample", True),
    ],
)
def test_only_an_error_with_its_lag_is_no_flicker(found: Verdict, why: str, flickers: bool) -> None:
    """Any verdict but the quiet one is a flicker, unless it is `error` with the measured lag."""
    assert Difference(SLUG, "met", str(found), why).is_flicker is flickers
