"""The summary at the end of a run: tier by tier, with what would test what was not tested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_agentstream.evidence import cap, escape
from pytest_agentstream.reports.tiers import tier_states
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.cases import Case
    from pytest_agentstream.judging import CaseResult
    from pytest_agentstream.running import Facts
    from pytest_agentstream.session import Session

    class Terminal(Protocol):
        def section(self, title: str, sep: str = "=", **markup: bool) -> None: ...
        def write_line(self, line: str | bytes, **markup: bool) -> None: ...


COUNTED = (
    Verdict.MET,
    Verdict.FAILED,
    Verdict.CONTROL_BROKEN,
    Verdict.ERROR,
    Verdict.WARNED,
    Verdict.BLOCKED,
    Verdict.NOT_TESTED,
    Verdict.NOT_APPLICABLE,
)
DETAILED = (Verdict.FAILED, Verdict.CONTROL_BROKEN, Verdict.ERROR, Verdict.WARNED, Verdict.BLOCKED)
FIRST_EVENTS = 4


def preflight_line(session: Session) -> str:
    """`dialect native; first events: turn, thinking, token, …`."""
    seen = session.first
    if seen is None:
        return "no preflight"
    named = [event.type or event.sentinel or "(no type)" for event in seen.events[:FIRST_EVENTS]]
    more = f", … {len(seen.events)} in all" if len(seen.events) > FIRST_EVENTS else ""
    events = cap(escape(session.redact(", ".join(named))))
    return f"{session.dialect_label}; first events: {events}{more}"


def write_summary(
    terminal: Terminal,
    results: Mapping[str, CaseResult],
    facts: Facts,
    catalogue: Mapping[str, Case],
) -> None:
    """Write what was found, tier by tier, and what the session did to the server."""
    terminal.section("agentstream")
    if facts.preflight:
        terminal.write_line(facts.preflight)
        terminal.write_line(f"runs started: {facts.runs}")
        return
    if facts.url:
        terminal.write_line(f"{facts.url}  {facts.first_events}")
    slugs = {slug: case.requirement.tier for slug, case in catalogue.items()}
    for state in tier_states(results.values(), slugs, facts.no_mechanism):
        if not state.results:
            continue
        counts = [f"{state.count(v)} {v}" for v in COUNTED if state.count(v)]
        good = state.state == "reached"
        terminal.write_line("")
        terminal.write_line(f"{state.tier}: {state.state}", bold=True, green=good)
        terminal.write_line(f"  {', '.join(counts)}")
        for result in state.results:
            if result.verdict in DETAILED:
                red = result.verdict in DETAILED[:3]
                line = f"  {result.verdict:<11} {result.slug}: {_why(result)}"
                terminal.write_line(cap(line, 160), red=red, yellow=not red)
        for line in _untested(state.results):
            terminal.write_line(line)
    terminal.write_line("")
    if facts.gone:
        terminal.write_line(facts.gone, red=True, bold=True)
    throttled = f"; waited out {facts.throttled} answers 429 or 503" if facts.throttled else ""
    terminal.write_line(f"runs started: {facts.runs}{throttled}")


def _why(result: CaseResult) -> str:
    return result.actual or result.reason


def _untested(results: tuple[CaseResult, ...]) -> list[str]:
    """The untested and inapplicable, grouped by what would test them or why they do not apply."""
    lines: list[str] = []
    for verdict in (Verdict.NOT_TESTED, Verdict.NOT_APPLICABLE):
        groups: dict[tuple[str, str], list[str]] = {}
        for result in results:
            if result.verdict is verdict:
                groups.setdefault((result.reason, result.option), []).append(result.slug)
        for (reason, option), slugs in groups.items():
            lines.append(f"  {verdict}: {', '.join(slugs)}")
            lines.append(f"      {reason}")
            if option:
                lines.append(f"      -> {option}")
    return lines
