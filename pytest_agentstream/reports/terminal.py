"""The summary at the end of a run: tier by tier, with what would test what was not tested."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Protocol

from pytest_agentstream.evidence import cap, fit
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
RED = frozenset({Verdict.FAILED, Verdict.CONTROL_BROKEN, Verdict.ERROR})
WIDTH = 100
FIRST_EVENTS = 4


def preflight_line(session: Session) -> str:
    """`dialect native; first events: turn, thinking, token, …`."""
    seen = session.first
    if seen is None:
        return "no preflight"
    named = [event.type or event.sentinel or "(no type)" for event in seen.events[:FIRST_EVENTS]]
    more = f", … {len(seen.events)} in all" if len(seen.events) > FIRST_EVENTS else ""
    events = fit(", ".join(named), session.redact, WIDTH // 2)
    return f"{session.dialect_label}; first events: {events}{more}"


def write_summary(
    terminal: Terminal,
    results: Mapping[str, CaseResult],
    facts: Facts,
    catalogue: Mapping[str, Case],
    known: Mapping[str, str] | None = None,
) -> None:
    """Write what was found, tier by tier, and what the session did to the server.

    `known` are the reasons of known failures, by slug.
    """
    terminal.section("agentstream")
    if facts.preflight:
        terminal.write_line(facts.preflight.partition("\n")[0])
        terminal.write_line(f"runs started: {facts.runs}")
        return
    if facts.url:
        terminal.write_line(facts.url)
        terminal.write_line(facts.first_events)
    slugs = {slug: case.requirement.tier for slug, case in catalogue.items()}
    for state in tier_states(results.values(), slugs, facts.no_mechanism):
        if not state.results:
            continue
        counts = [f"{state.count(v)} {v}" for v in COUNTED if state.count(v)]
        good = state.state == "reached"
        terminal.write_line("")
        title = _wrapped(f"{state.tier}: {state.state}", "  ")
        for line in title:
            terminal.write_line(line, bold=True, green=good)
        terminal.write_line(f"  {', '.join(counts)}")
        for result in state.results:
            if result.verdict in {Verdict.FAILED, Verdict.WARNED} and result.slug in (known or {}):
                terminal.write_line(_detail(result, f"known failure: {(known or {})[result.slug]}"))
            elif result.verdict in RED:
                terminal.write_line(_detail(result), red=True)
            elif result.verdict is Verdict.WARNED:
                terminal.write_line(_detail(result), yellow=True)
        for line in [*_blocked(state.results), *_unjudged(state.results)]:
            terminal.write_line(line)
    terminal.write_line("")
    if facts.gone:
        for sentence in facts.gone.splitlines():
            terminal.write_line(f"red, whatever the verdicts: {sentence}", red=True, bold=True)
        for line in facts.last_words:
            terminal.write_line(f"    {line}")
    for sentence in facts.unkept:
        terminal.write_line(sentence, red=True, bold=True)
    for line in facts.around:
        terminal.write_line(line)
    for control, scenarios in facts.controls.items():
        for line in _wrapped(f"control {control}: {', '.join(scenarios)}", " " * 4):
            terminal.write_line(line)
    for label, count in facts.faults.items():
        terminal.write_line(f"faults: {count} connections: {label}")
    for note in facts.notes:
        terminal.write_line(note, yellow=True)
    throttled = f"; waited out {facts.throttled} answers 429 or 503" if facts.throttled else ""
    told = facts.url or not results  # a worker that was interrupted may not have told anything
    started = facts.runs if told else "not known, what asked for them was interrupted"
    terminal.write_line(f"runs started: {started}{throttled}")
    for scenario, status in facts.refused.items():
        terminal.write_line(
            f"control broken: the server refused `{scenario}` (status {status}); mend its mapping",
            red=True,
            bold=True,
        )
    if facts.repeats:
        terminal.write_line(
            f"requests that resumed by repeating the start request: {facts.repeats}; "
            "a server without a log runs the agent again for each"
        )


def _detail(result: CaseResult, why: str = "") -> str:
    why = why or result.actual or result.reason
    return cap(f"  {result.verdict:<14} {result.slug}: {why}", WIDTH)


def _blocked(results: tuple[CaseResult, ...]) -> list[str]:
    """The blocked, grouped by the one that blocks them."""
    groups: dict[str, list[str]] = {}
    for result in results:
        if result.verdict is Verdict.BLOCKED:
            groups.setdefault(result.blocked_by, []).append(result.slug)
    return [
        line
        for root, slugs in groups.items()
        for line in _wrapped(f"  blocked by {root}: {', '.join(slugs)}", " " * 6)
    ]


def _unjudged(results: tuple[CaseResult, ...]) -> list[str]:
    """The untested and inapplicable, grouped by what would test them or why they do not apply.

    What is to be copied stays on one line, however long.
    """
    lines: list[str] = []
    for verdict in (Verdict.NOT_TESTED, Verdict.NOT_APPLICABLE):
        groups: dict[tuple[str, str], list[str]] = {}
        for result in results:
            if result.verdict is verdict:
                groups.setdefault((result.reason, result.option), []).append(result.slug)
        for (reason, option), slugs in groups.items():
            lines += _wrapped(f"  {verdict}: {', '.join(slugs)}", " " * 6)
            lines += _wrapped(f"      {reason}", " " * 6)
            if option:
                lines.append(f"      -> {option}")
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    """A text in lines of at most WIDTH characters; words, slugs among them, are not broken."""
    return wrap(
        text,
        WIDTH,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
