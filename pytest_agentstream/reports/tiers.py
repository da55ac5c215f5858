"""How far a server got: tiers build on each other, and none is reached by what was not judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.requirements import Level, Tier
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_agentstream.judging import CaseResult

SPOILT = frozenset({Verdict.FAILED, Verdict.CONTROL_BROKEN, Verdict.ERROR, Verdict.BLOCKED})


PILLARS: Mapping[Tier, str] = {
    Tier.LIVE: "heartbeat.present",
    Tier.RESUMABLE: "resume.exact-suffix",
}
"""What a tier rests on: without it the tier is not reached, whatever its level in the dialect."""


@dataclass(frozen=True, slots=True)
class TierState:
    """One tier: its results, and in one phrase whether it is reached."""

    tier: Tier
    results: tuple[CaseResult, ...]
    state: str

    def count(self, verdict: Verdict) -> int:
        return sum(1 for result in self.results if result.verdict is verdict)


def tier_states(
    results: Iterable[CaseResult],
    slugs: Mapping[str, Tier],
    no_mechanism: Mapping[str, str],
) -> list[TierState]:
    """The state of each tier that has requirements.

    `slugs` are all requirements with their tiers, judged or not; `no_mechanism` says for tiers
    which mechanism the dialect lacks.
    """
    by_slug = {result.slug: result for result in results}
    states: list[TierState] = []
    below = ""
    for tier in Tier:
        wanted = [slug for slug, of in slugs.items() if of is tier]
        own = [result for result in by_slug.values() if result.tier == tier]
        if not wanted and not own:
            continue
        state = _state(own, [slug for slug in wanted if slug not in by_slug])
        pillar = PILLARS.get(tier)
        if state == "reached" and pillar in by_slug and by_slug[pillar].verdict is not Verdict.MET:
            state = f"not reached: {pillar} is {by_slug[pillar].verdict}"
        if tier in no_mechanism:
            state = f"cannot be reached in this dialect: {no_mechanism[tier]}"
        elif state == "reached" and below:
            state = f"met; {below}"
        if state != "reached" and not below:
            how = state.partition(":")[0] if own else "not judged"
            below = f"{tier}, which it builds on, is {how}"
        states.append(TierState(tier, tuple(own), state))
    return states


def _state(own: list[CaseResult], unjudged: list[str]) -> str:
    must = [result for result in own if result.level == Level.MUST]
    if any(result.verdict in SPOILT for result in must):
        return "not reached"
    untested = [result for result in must if result.verdict is Verdict.NOT_TESTED]
    if untested:
        reasons = dict.fromkeys(result.reason or result.slug for result in untested)
        more = f" (and {len(reasons) - 1} more below)" if len(reasons) > 1 else ""
        return f"unproven: {next(iter(reasons))}{more}"
    if unjudged:
        are = "requirement was" if len(unjudged) == 1 else "requirements were"
        return f"unproven: {len(unjudged)} {are} not selected"
    if not any(result.verdict is Verdict.MET for result in must):
        return "unproven: no MUST of it applies here"
    return "reached"
