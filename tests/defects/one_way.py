"""Which MUSTs can be broken in one way only, and why; every other one has two defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.requirements import MUST
from tests.defects import declared_dialects, subjects

if TYPE_CHECKING:
    from collections.abc import Mapping

ONE_WAY: dict[str, str] = {
    "http.status-200": (
        "whichever a wrong status is, it is wrong in the same way; where only resumed streams have "
        "one, resume.exact-suffix fails"
    ),
}
"""Slug -> why there is no second way that breaks this requirement and no other."""

OVER_HTTP2 = frozenset({"http.h2-no-connection-header"})
"""What needs a server of TLS and HTTP/2, which the reference server is not; tests/h2 has a proof
for each of the header fields."""

ENOUGH = 2


def proofs() -> dict[str, int]:
    """How many defects, or wrong bodies in a declared dialect, each MUST has."""
    broken = [subject.breaks for subject in subjects.wrong()]
    for slug, proof in declared_dialects.PROOFS.items():
        broken += [slug] * len(proof.wrong)
    return {
        slug: broken.count(slug)
        for slug, case in catalogue().items()
        if case.requirement.level is MUST and slug not in OVER_HTTP2
    }


def complaints(table: Mapping[str, str], counted: Mapping[str, int]) -> list[str]:
    """What a table lacks, and what it has and need not have, each as a sentence."""
    found = [
        f"{slug} has {count} of {ENOUGH} defects: write another in reference_server/defects, or "
        "say in tests/defects/one_way.py why it can be broken in one way only"
        for slug, count in counted.items()
        if count < ENOUGH and slug not in table
    ]
    for slug in table:
        if slug not in counted:
            found.append(f"{slug} is in tests/defects/one_way.py and is no MUST: remove it")
        elif counted[slug] >= ENOUGH:
            found.append(
                f"{slug} is in tests/defects/one_way.py and has {counted[slug]} defects: remove it"
            )
    return found
