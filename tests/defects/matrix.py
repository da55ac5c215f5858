"""`make defects`: every defect of the reference server against every case.

A defect must fail the requirement that it breaks and no other; the server without a defect, and
each harmless variation of it, must fail none. Exits 1 otherwise.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.process import HEARTBEAT, REFERENCE, reference_server
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from pytest_agentstream.verdicts import Verdict
from reference_server.defects import DEFECTS
from reference_server.variations import VARIATIONS

if TYPE_CHECKING:
    from pytest_agentstream.judging import CaseResult

AT_ONCE = 3
RED = frozenset({Verdict.FAILED, Verdict.WARNED, Verdict.CONTROL_BROKEN, Verdict.ERROR})
DIALECTS = ("native", "agent-event-stream", "generic-typed", "generic-data")
WITH_HEARTBEAT = frozenset({"native", "generic-typed"})
"""Dialects in which the reference server promises heartbeats; elsewhere H is not claimed."""
TIMEOUTS = {"connect": 5, "head": 5, "first_event": 5, "silence": 5, "end": 15}


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to start the reference server, and the requirement that it breaks, if any."""

    name: str
    arguments: tuple[str, ...]
    dialect: str
    breaks: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What judging one subject showed."""

    subject: Subject
    results: dict[str, CaseResult]

    @property
    def red(self) -> set[str]:
        return {slug for slug, result in self.results.items() if result.verdict in RED}

    @property
    def problem(self) -> str:
        """Why the row proves nothing or too much, or an empty string."""
        wanted = {self.subject.breaks} - {""}
        if self.subject.breaks and self.subject.breaks not in self.red:
            found = self.results[self.subject.breaks]
            return f"SURVIVED: {self.subject.breaks} is {found.verdict} {found.reason}"
        others = sorted(self.red - wanted)
        if others:
            details = "; ".join(f"{s} ({_why(self.results[s])})" for s in others)
            return f"COLLATERAL: {details}"
        return ""


def _why(result: CaseResult) -> str:
    return f"{result.verdict}: {(result.actual or result.reason)[:90]}"


def judge(subject: Subject, directory: Path) -> Row:
    """Start the server as the subject says and judge every case."""
    with reference_server(subject.arguments) as url:
        options: dict[str, object] = {
            "url": url,
            "dialect": subject.dialect,
            "control_header": True,
            "headers": REFERENCE["headers"],
            "cors_origin": REFERENCE["cors_origin"],
            "timeouts": TIMEOUTS,
        }
        if subject.dialect in WITH_HEARTBEAT:
            options["heartbeat"] = HEARTBEAT
        loaded = load(options, directory=directory, environment={})
        session = Session(loaded, catalogue())
        try:
            session.begin(catalogue().values())
            return Row(subject, {s: session.judge(case) for s, case in catalogue().items()})
        finally:
            session.close()


def subjects(names: list[str]) -> tuple[list[Subject], list[str]]:
    """All subjects, or the named ones, and the defects whose requirement has no case."""
    good = [Subject(f"no defect ({d})", ("--dialect", d), d) for d in DIALECTS]
    good += [Subject(f"variation {name}", ("--variation", name), "native") for name in VARIATIONS]
    wrong, without = [], []
    for defect in DEFECTS.values():
        dialect = "native" if defect.dialect == "any" else defect.dialect
        if defect.breaks in catalogue():
            arguments = ("--defect", defect.name, "--dialect", dialect)
            wrong.append(Subject(defect.name, arguments, dialect, defect.breaks))
        else:
            without.append(defect.name)
    chosen = [s for s in good + wrong if not names or any(name in s.name for name in names)]
    return chosen, without


def main(names: list[str]) -> int:
    """Print the matrix; return 0 where every defect bites, alone, and nothing good is accused."""
    chosen, without = subjects(names)
    killed, problems = 0, []
    with TemporaryDirectory() as folder, ProcessPoolExecutor(AT_ONCE) as pool:
        for row in pool.map(partial(judge, directory=Path(folder)), chosen):
            blocked = sum(r.verdict is Verdict.BLOCKED for r in row.results.values())
            shown = f"{row.subject.breaks or '-':<34} {blocked:>2} blocked"
            print(f"{row.subject.name:<34} {shown}  {row.problem or 'ok'}", flush=True)
            killed += bool(row.subject.breaks) and not row.problem
            if row.problem:
                problems.append(row.subject.name)
    proven = {one.breaks for one in chosen}
    unproven = sorted(set(catalogue()) - proven) if not names else []
    print(f"\n{killed} defects killed, each by its own case; {len(chosen) - killed} other rows")
    print(f"requirements without a defect: {', '.join(unproven) or 'none'}")
    print(f"defects whose requirement has no case yet: {len(without)}")
    print(f"problems: {', '.join(problems) or 'none'}")
    return 1 if problems or unproven else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
