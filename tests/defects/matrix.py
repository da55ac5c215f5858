"""`make defects`: every defect of the reference server against every case.

A defect must fail the requirement that it breaks and no other; the server without a defect, and
each harmless variation of it, must fail none. Exits 1 otherwise. Run it with `python -m
tests.defects.matrix`, with parts of names behind it for some rows only.
"""

from __future__ import annotations

import gc
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.judging import planned
from pytest_agentstream.probing import Consent
from pytest_agentstream.verdicts import Verdict
from tests.defects import declared_dialects, subjects
from tests.defects.sessions import session_with
from tests.defects.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.cases import Case
    from pytest_agentstream.judging import CaseResult

AT_ONCE = 7
"""Rows at a time: most of a row is waiting."""

LOADS_AT_ONCE = 2
"""Rows at a time that put load on their server: they need the processor, and it makes us late."""

LOAD = frozenset({Consent.LOAD, Consent.ATTACK})

OVER_HTTP2 = frozenset({"http.h2-no-connection-header"})
"""What needs a server of TLS and HTTP/2, which the reference server is not; see tests/h2."""

CAUGHT = frozenset({Verdict.FAILED, Verdict.WARNED, Verdict.CONTROL_BROKEN})
RED = CAUGHT | {Verdict.ERROR}

LIVE = frozenset(
    {"resume.no-gaps", "resume.no-duplicates", "resume.live-tail", "resume.two-readers"}
    | {"retry.duplicate-start", "ids.survive-reconnect"}
)
"""Requirements whose defects only show while a run lives: a late client comes when it is over."""


@dataclass(frozen=True, slots=True)
class Row:
    """What judging one subject showed; `broke` says why it could not be judged."""

    subject: Subject
    results: dict[str, CaseResult] = field(default_factory=dict)
    seconds: float = 0.0
    broke: str = ""

    @property
    def red(self) -> set[str]:
        return {slug for slug, result in self.results.items() if result.verdict in RED}

    @property
    def problem(self) -> str:
        """Why the row proves nothing or too much, or an empty string."""
        if self.broke:
            return f"BROKE: {self.broke}"
        found = self.results.get(self.subject.breaks)
        if found is not None and found.verdict not in CAUGHT:
            return f"SURVIVED: {found.slug} is {found.verdict} {found.reason}"
        if self.accused:
            details = "; ".join(f"{s} ({_why(self.results[s])})" for s in self.accused)
            return f"COLLATERAL: {details}"
        return ""

    @property
    def accused(self) -> list[str]:
        """The requirements that are red and should not be.

        A MUST is red behind a root that is a mere warning, and says so.
        """
        behind = f"{self.subject.breaks}, which this presupposes, is warned"
        follows = {slug for slug, found in self.results.items() if behind in found.also}
        return sorted(self.red - {self.subject.breaks} - follows)

    @property
    def is_in_doubt(self) -> bool:
        """Whether lateness, ours or the server's, may be all that keeps the row from its proof.

        Several servers and judges at once make each other late; what does not depend on time is
        not in doubt.
        """
        doubts = [self.results[slug] for slug in self.accused]
        found = self.results.get(self.subject.breaks)
        if found is not None and found.verdict not in CAUGHT:
            doubts.append(found)
        return bool(doubts) and all(
            "our own lag" in one.reason
            if one.verdict is Verdict.ERROR
            else one.timing or one.slug in LIVE
            for one in doubts
        )

    def line(self) -> str:
        blocked = sum(result.verdict is Verdict.BLOCKED for result in self.results.values())
        shown = f"{self.subject.name:<34} {self.subject.breaks or '-':<34} {blocked:>2} blocked"
        return f"{shown} {self.seconds:>5.1f} s  {self.problem or 'ok'}"


def _why(result: CaseResult) -> str:
    return f"{result.verdict}: {(result.actual or result.reason)[:90]}"


def puts_load(case: Case) -> bool:
    """Whether judging the case puts load on the server."""
    return any(probe.consent in LOAD for probe in planned([case], catalogue()))


def needs_load(subject: Subject) -> bool:
    """Whether cases that put load on the server are judged for a subject.

    They are where nothing may be accused, and where one of them should; other defects are found
    without, and load is dear.
    """
    return not subject.breaks or puts_load(catalogue()[subject.breaks])


def judge(subject: Subject, directory: Path) -> Row:
    """Start the server as the subject says and judge its cases; raises nothing."""
    began = time.monotonic()
    loaded = needs_load(subject)
    cases = [case for case in catalogue().values() if loaded or not puts_load(case)]
    try:
        results = _judge(subject, cases, directory)
    except Exception as error:  # one row of many: the others go on, this one is a problem
        return Row(subject, broke=f"{error!r}"[:300])
    return Row(subject, results, time.monotonic() - began)


def _judge(subject: Subject, cases: Sequence[Case], directory: Path) -> dict[str, CaseResult]:
    with session_with(subject, directory) as session:
        session.begin(cases)
        return {case.slug: session.judge(case) for case in cases}


def declared(slug: str, directory: Path) -> list[Row]:
    """Judge what only a declared dialect has: the run that keeps to it, and the one that does not.

    Nothing but what presupposes the requirement may change.
    """
    proof, rows = declared_dialects.PROOFS[slug], []
    for name, body, breaks in (("kept", proof.right, ""), ("broken", proof.wrong, slug)):
        began = time.monotonic()
        results = declared_dialects.judge(proof, body, directory)
        subject = Subject(f"declared dialect, {name}", (), "declared", breaks)
        rows.append(Row(subject, results, time.monotonic() - began))
    return rows


def judge_all(chosen: Sequence[Subject]) -> list[Row]:
    """Judge subjects, several at a time, and print a line for each."""
    rows = []
    light = [one for one in chosen if not needs_load(one)]
    heavy = [one for one in chosen if needs_load(one)]
    for some, at_once in ((light, AT_ONCE), (heavy, LOADS_AT_ONCE)):
        with (
            TemporaryDirectory() as folder,
            ProcessPoolExecutor(at_once, initializer=gc.freeze) as pool,
        ):
            for row in pool.map(partial(judge, directory=Path(folder)), some):
                print(row.line(), flush=True)
                rows.append(row)
    return [_once_more(row) if row.is_in_doubt else row for row in rows]


def _once_more(row: Row) -> Row:
    """Judge a subject again with nothing beside it: what was in doubt was so for lateness."""
    with TemporaryDirectory() as folder:
        alone = judge(row.subject, Path(folder))
    print(f"{alone.line()} (once more, alone)", flush=True)
    return alone


def verdict_on(rows: Sequence[Row]) -> int:
    """Print which rows prove what they should; return 0 where all do."""
    killed = sum(bool(row.subject.breaks) and not row.problem for row in rows)
    problems = [row.subject.name for row in rows if row.problem]
    print(f"\n{killed} defects killed, each by its own case; {len(rows) - killed} other rows")
    print(f"problems: {', '.join(problems) or 'none'}")
    return 1 if problems else 0


def account() -> int:
    """Print what is proven, how well, and where; return 1 where a requirement is not."""
    elsewhere = subjects.without_mechanism() & set(declared_dialects.PROOFS)
    proven = {one.breaks for one in subjects.wrong()} | elsewhere | OVER_HTTP2
    unproven = [slug for slug in catalogue() if slug not in proven]
    print(f"requirements without a defect: {', '.join(unproven) or 'none'}")
    print(f"proven in a declared dialect: {', '.join(sorted(elsewhere)) or 'none'}")
    print(f"proven over HTTP/2, in tests/h2: {', '.join(sorted(OVER_HTTP2))}")
    once = subjects.proven_once()
    print(f"MUST requirements with one defect only ({len(once)}): {', '.join(once) or 'none'}")
    without = subjects.without_case()
    print(f"defects without a case ({len(without)}): {', '.join(without) or 'none'}")
    return 1 if unproven else 0


def main(names: Sequence[str]) -> int:
    """Print the matrix; return 0 where every defect bites, alone, and nothing good is accused."""
    every = [*subjects.good(), *subjects.wrong()]
    chosen = [s for s in every if not names or any(name in s.name for name in names)]
    if not chosen:
        print(f"no row is named like {' or '.join(names)}; `--list-defects` names the defects")
        return 2
    began = time.monotonic()
    rows = judge_all(chosen)
    if not names:
        with TemporaryDirectory() as folder:
            for slug in declared_dialects.PROOFS:
                for row in declared(slug, Path(folder)):
                    print(row.line())
                    rows.append(row)
    result = verdict_on(rows)
    if not names:
        result |= account()
    print(f"{len(rows)} rows in {time.monotonic() - began:.0f} s")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
