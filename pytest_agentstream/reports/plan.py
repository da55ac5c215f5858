"""What a session would do to the server under test, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.session import PlannedProbe
    from pytest_agentstream.settings import Settings


def plan_lines(plan: Sequence[PlannedProbe], target: Settings) -> list[str]:
    """The plan as a table: probe, class, scenarios, runs, the longest it may take in seconds."""
    width = max(len(line.name) for line in plan)
    rows = [
        f"  {line.name:<{width}}  {line.consent:<6}  {line.runs:>2} runs  "
        f"at most {line.seconds:g} s  {', '.join(line.scenarios)}"
        + (f"  [left out: {line.left_out}]" if line.left_out else "")
        for line in plan
    ]
    total = sum(line.runs for line in plan)
    allowed = f" of at most {target.max_runs}" if target.max_runs else ""
    longest = max(line.seconds for line in plan)
    return [
        f"agentstream plan for {target.url} (nothing was sent)",
        *rows,
        (
            f"runs that would be started: {total}{allowed}; at once: up to {target.concurrency}; "
            f"the longest probe ends after at most {longest:g} s"
        ),
    ]
