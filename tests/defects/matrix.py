"""`make defects`: every defect of the reference server against every case.

A defect must fail the requirement that it breaks and no other; the server without a defect, and
each harmless variation of it, must fail none. Exits 1 otherwise. Run it with `python -m
tests.defects.matrix`, with parts of names behind it for some rows only.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.judging import planned
from pytest_agentstream.probing import Consent
from pytest_agentstream.verdicts import Verdict
from reference_server.serving import collect_seldom
from tests.defects import declared_dialects, one_way, subjects
from tests.defects.managed import ends_process, is_shown
from tests.defects.sessions import session_with
from tests.defects.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from pytest_agentstream.cases import Case
    from pytest_agentstream.judging import CaseResult

LIGHT_AT_ONCE = 5
"""Rows at a time: most of a row is waiting."""

HEAVY_AT_ONCE = 2
"""Rows beside them that put load on their server, or start it anew."""

LOAD = frozenset({Consent.LOAD, Consent.ATTACK})

LOADED = frozenset(
    f"variation {name}" for name in ("sliced", "several-events-a-chunk", "closes-early")
)
"""Variations that change what a server does with very many events, or with a run beside others."""

DRIFT = "resume.many-cuts"
ABOUT_DRIFT = ("ids.", "resume.", "retry.", "disconnect.", "durable.")
"""Twenty connections are half of a row's events: they are judged where a defect is about coming
back, and where nothing may accuse."""

CAUGHT = frozenset({Verdict.FAILED, Verdict.WARNED, Verdict.CONTROL_BROKEN})
RED = CAUGHT | {Verdict.ERROR}


@dataclass(frozen=True, slots=True)
class Row:
    """What judging one subject showed; `broke` says why it could not be judged."""

    subject: Subject
    results: dict[str, CaseResult] = field(default_factory=dict)
    seconds: float = 0.0
    broke: str = ""

    @property
    def red(self) -> set[str]:
        return {
            slug
            for slug, result in self.results.items()
            if result.verdict in RED and not is_own_lag(result.verdict, result.reason)
        }

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

    def line(self) -> str:
        blocked = sum(result.verdict is Verdict.BLOCKED for result in self.results.values())
        shown = f"{self.subject.name:<34} {self.subject.breaks or '-':<34} {blocked:>2} blocked"
        return f"{shown} {self.seconds:>5.1f} s  {self.problem or 'ok'}"


def is_own_lag(verdict: str, why: str) -> bool:
    """Whether the judge says that it was too late itself to tell: that accuses nobody."""
    return verdict == Verdict.ERROR and "lag" in why


def _why(result: CaseResult) -> str:
    expected = f"expected {result.expected[:90]}, found " if result.expected else ""
    return f"{result.verdict}: {expected}{(result.actual or result.reason)[:90]}"


@cache
def puts_load(case: Case) -> bool:
    """Whether judging the case puts load on the server, or has it alone for several runs."""
    probes = planned([case], catalogue())
    return any(one.consent in LOAD or (one.exclusive and one.runs > 1) for one in probes)


def needs_load(subject: Subject) -> bool:
    """Whether cases that put load on the server are judged for a subject.

    They are where one of them should accuse, and where none may: other defects are found without,
    and most variations change nothing that load could show.
    """
    if not subject.breaks:
        return subject.is_plain or subject.name in LOADED
    return puts_load(catalogue()[subject.breaks])


def is_judged(case: Case, subject: Subject) -> bool:
    """Whether a case is judged for a subject: all are, but for some that are dear."""
    if subject.processes:
        dear = puts_load(case) or ends_process(case)
        return not dear or case.slug == subject.breaks or is_shown(case, subject)
    if case.slug == DRIFT and subject.breaks and not subject.breaks.startswith(ABOUT_DRIFT):
        return False
    return needs_load(subject) or not puts_load(case)


def judge(subject: Subject, directory: Path) -> Row:
    """Start the server as the subject says and judge its cases; raises nothing."""
    began = time.monotonic()
    cases = [case for case in catalogue().values() if is_judged(case, subject)]
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
    broken = (("broken", body, slug) for body in proof.wrong)
    for name, body, breaks in (("kept", proof.right, ""), *broken):
        began = time.monotonic()
        results = declared_dialects.judge(proof, body, directory)
        subject = Subject(f"declared dialect, {name}", (), "declared", breaks)
        rows.append(Row(subject, results, time.monotonic() - began))
    return rows


def judge_all(chosen: Sequence[Subject]) -> list[Row]:
    """Judge subjects, several at a time, and print a line for each."""
    rows: list[Row] = []
    going: set[Future[Row]] = set()
    with TemporaryDirectory() as folder, ExitStack() as stack:

        def lane(width: int) -> ProcessPoolExecutor:
            return stack.enter_context(ProcessPoolExecutor(width, initializer=collect_seldom))

        heavy, light = lane(HEAVY_AT_ONCE), lane(LIGHT_AT_ONCE)
        for subject in in_order(chosen):
            pool = heavy if is_heavy(subject) else light
            going.add(pool.submit(judge, subject, Path(folder)))
        while going:
            done, going = wait(going, return_when=FIRST_COMPLETED)
            rows += [one.result() for one in done]
            print("\n".join(row.line() for row in rows[-len(done) :]), flush=True)
    return [_once_more(row) if row.problem else row for row in rows]


def is_heavy(subject: Subject) -> bool:
    """Whether a row needs the processor more than it waits."""
    return needs_load(subject) or subject.processes > 0


def in_order(chosen: Sequence[Subject]) -> list[Subject]:
    """Return the subjects in the order of judging.

    Those that put load on their server are spread evenly among those that start it anew.
    """
    kinds: defaultdict[bool, list[Subject]] = defaultdict(list)
    for one in chosen:
        kinds[one.processes > 0].append(one)
    places = [(n / len(kind), one) for kind in kinds.values() for n, one in enumerate(kind)]
    return [one for _, one in sorted(places, key=itemgetter(0))]


def _once_more(row: Row) -> Row:
    """Judge a subject again with nothing beside it: whether it was the crowd that spoilt the proof.

    A dozen servers and judges at once make each other late, and clients run out of time; what is
    wrong with a row by itself is wrong alone as well. `make steady` judges one server in a crowd.
    """
    with TemporaryDirectory() as folder:
        alone = judge(row.subject, Path(folder))
    print(f"{alone.line()} (once more, alone)", flush=True)
    return alone


def verdict_on(rows: Sequence[Row]) -> int:
    """Print which rows prove what they should; return 0 where all do."""
    killed = sum(bool(row.subject.breaks) and not row.problem for row in rows)
    problems = sorted(row.subject.name for row in rows if row.problem)
    print(f"\n{killed} defects killed, each by its own case; {len(rows) - killed} other rows")
    print(f"problems: {', '.join(problems) or 'none'}")
    return 1 if problems else 0


def account() -> int:
    """Print what is proven, how well, and where; return 1 where a requirement is not."""
    elsewhere = subjects.without_mechanism() & set(declared_dialects.PROOFS)
    proven = {one.breaks for one in subjects.wrong()} | elsewhere | one_way.OVER_HTTP2
    unproven = [slug for slug in catalogue() if slug not in proven]
    print(f"requirements without a defect: {', '.join(unproven) or 'none'}")
    print(f"proven in a declared dialect: {', '.join(sorted(elsewhere)) or 'none'}")
    print(f"proven over HTTP/2, in tests/h2: {', '.join(sorted(one_way.OVER_HTTP2))}")
    without = subjects.without_case()
    print(f"defects without a case ({len(without)}): {', '.join(without) or 'none'}")
    print(f"MUST requirements that break in one way only ({len(one_way.ONE_WAY)}):")
    for slug, why in one_way.ONE_WAY.items():
        print(f"    {slug}: {why}")
    wrong = one_way.complaints(one_way.ONE_WAY, one_way.proofs())
    for complaint in wrong:
        print(f"wrong: {complaint}")
    return 1 if unproven or wrong else 0


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
