"""`make steady`: the same verdicts, again and again, while every core is kept busy by others.

The reference server and three defective ones are judged once on a quiet machine and then many
times beside processes that never rest. A verdict must be the same each time, or `error` with the
lag that was measured; any other is a flicker. Exits 1 where there is one. The figures are written
to `build/steady.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from tests.defects.matrix import RED, is_own_lag
from tests.defects.sessions import session_with
from tests.defects.subjects import good, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_agentstream.judging import CaseResult
    from tests.defects.subjects import Subject

DEFECTS = ("slow-heartbeat", "buffered", "one-too-many")
"""Two that only times tell, and one that is there whatever the time."""

BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
REPORT = Path("build/steady.json")


@dataclass(frozen=True, slots=True)
class Difference:
    """A verdict that is not the one of the quiet run; `why` is the judge's word."""

    slug: str
    quiet: str
    found: str
    why: str

    @property
    def is_flicker(self) -> bool:
        """Whether this is another verdict, and not our own lag admitted."""
        return not is_own_lag(self.found, self.why)


@dataclass(frozen=True, slots=True)
class Judged:
    """One run of the suite; `lag` is the worst of our own event loop, both in seconds."""

    subject: str
    number: int
    seconds: float
    lag: float
    load: float
    differences: tuple[Difference, ...] = ()


def judge(subject: Subject, folder: Path) -> tuple[Mapping[str, CaseResult], float, float]:
    """Run the whole suite; return results by slug, the seconds it took and its worst lag."""
    began = time.monotonic()
    with session_with(subject, folder) as session:
        session.begin(catalogue().values())
        results = {slug: session.judge(case) for slug, case in catalogue().items()}
        lag = max((seen.lag for seen in session.ledger.observations), default=0.0)
    return results, time.monotonic() - began, lag


def differences(
    quiet: Mapping[str, CaseResult], found: Mapping[str, CaseResult]
) -> tuple[Difference, ...]:
    """The verdicts that differ, what is merely blocked by one of them left out."""
    changed = {slug for slug in quiet if found[slug].verdict is not quiet[slug].verdict}
    return tuple(
        Difference(
            slug,
            str(quiet[slug].verdict),
            str(found[slug].verdict),
            _why(found[slug]) or f"before: {_why(quiet[slug])}",
        )
        for slug in sorted(changed)
        if not changed & {found[slug].blocked_by, quiet[slug].blocked_by}
    )


def _why(result: CaseResult) -> str:
    expected = f"expected {result.expected}; " if result.expected else ""
    return f"{expected}{result.actual} {result.reason}".strip()[:400]


def wrong_when_quiet(subject: Subject, results: Mapping[str, CaseResult]) -> str:
    """Why a quiet run is nothing to compare with, or an empty string."""
    red = {slug for slug, result in results.items() if result.verdict in RED}
    if red == {subject.breaks} - {""}:
        return ""
    seen = "; ".join(f"{slug}: {_why(results[slug])}" for slug in sorted(red)) or "nothing red"
    return (
        f"{subject.name}, on a quiet machine: expected {subject.breaks or 'no'} red; found {seen}"
    )


@contextmanager
def every_core_busy() -> Iterator[None]:
    """Keep every core busy with a process that does nothing else."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


def line(run: Judged) -> str:
    found = "; ".join(
        f"{'FLICKER ' if one.is_flicker else ''}{one.slug} {one.quiet} -> {one.found} ({one.why})"
        for one in run.differences
    )
    figures = f"{run.seconds:6.1f} s  lag {run.lag:.3f} s  load {run.load:4.1f}"
    return f"{run.number:>3}  {run.subject:<24} {figures}  {found or 'the same'}"


def main(arguments: Sequence[str]) -> int:
    """Judge, compare, print a line a run, write the report; return 1 where a verdict flickers."""
    parser = argparse.ArgumentParser(prog="python -m tests.steady.steady", description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="of each server, all cores busy (30)")
    parser.add_argument(
        "--defects", nargs="*", choices=DEFECTS, default=DEFECTS, help="beside the server as it is"
    )
    options = parser.parse_args(arguments)
    runs: int = options.runs
    subjects = [good()[0], *(one for one in wrong() if one.name in options.defects)]
    judged: list[Judged] = []
    problems: list[str] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        quiet = {}
        for subject in subjects:
            quiet[subject], seconds, lag = judge(subject, folder)
            judged.append(Judged(subject.name, 0, seconds, lag, os.getloadavg()[0]))
            print(line(judged[-1]), flush=True)
            problems += filter(None, [wrong_when_quiet(subject, quiet[subject])])
        with every_core_busy():
            for number in range(1, runs + 1):
                for subject in subjects:
                    results, seconds, lag = judge(subject, folder)
                    found = differences(quiet[subject], results)
                    run = Judged(subject.name, number, seconds, lag, os.getloadavg()[0], found)
                    judged.append(run)
                    print(line(run), flush=True)
    flickers = [one for run in judged for one in run.differences if one.is_flicker]
    errors = sum(len(run.differences) for run in judged) - len(flickers)
    verdicts = runs * len(subjects) * len(catalogue())
    print(f"\n{verdicts} verdicts with all cores busy: {len(flickers)} flickers, {errors} errors")
    for problem in problems:
        print(problem)
    write(judged, problems)
    return 1 if flickers or problems else 0


def write(judged: Sequence[Judged], problems: Sequence[str]) -> None:
    """Write the report, for whoever looks at it later."""
    REPORT.parent.mkdir(exist_ok=True)
    document = {
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "problems": list(problems),
        "runs": [asdict(run) for run in judged],
    }
    REPORT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {REPORT}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
