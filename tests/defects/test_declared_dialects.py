"""Requirements that only a user's own dialect has a mechanism for bite as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.verdicts import Verdict
from tests.defects.declared_dialects import PROOFS, judge
from tests.defects.subjects import without_mechanism

if TYPE_CHECKING:
    from pathlib import Path

FINE = {Verdict.MET, Verdict.NOT_APPLICABLE, Verdict.NOT_TESTED}


def test_every_requirement_without_a_built_in_mechanism_is_proven() -> None:
    """What applies in none of the built-in dialects is proven here, and nothing else is."""
    assert set(PROOFS) == without_mechanism()


@pytest.mark.parametrize("slug", PROOFS)
def test_a_run_that_keeps_to_the_dialect_is_met(slug: str, tmp_path: Path) -> None:
    """A body as the declared dialect wants it meets the requirement, and nothing is accused."""
    results = judge(PROOFS[slug], PROOFS[slug].right, tmp_path)

    assert results[slug].verdict is Verdict.MET
    assert {one for one, result in results.items() if result.verdict not in FINE} == set()


@pytest.mark.parametrize(
    ("slug", "body"), [(slug, body) for slug, proof in PROOFS.items() for body in proof.wrong]
)
def test_a_run_that_breaks_the_dialect_fails_that_alone(
    slug: str, body: str, tmp_path: Path
) -> None:
    """One mistake in the same body fails the requirement, and blocks only what presupposes it."""
    results = judge(PROOFS[slug], body, tmp_path)

    lost = {one for one, result in results.items() if result.verdict not in FINE}
    assert results[slug].verdict is Verdict.FAILED
    assert {one for one in lost if results[one].blocked_by != slug} == {slug}
