"""Measure a whole run of the packaged suite against the bundled reference server.

Run it with `python -m benchmarks.suite`: once in this process, where the times of probes are known,
and once as `agentstream run --reference`, as a user has it. The promise is a wall time of at most
1.15 x (max(longest probe, work / concurrency) + sum of exclusive probes) + 2 s. Probes build on
each other, so the longest chain of them is shown too: no scheduler can be faster than that. Exits 1
where the promise is broken.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.reference import reference_commands, reference_settings
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from reference_server.defects import DEFECTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.scheduling import Timing

FACTOR = 1.15
MARGIN = 2.0
LONGEST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the suite; times are seconds."""

    wall: float
    cpu: float
    timings: tuple[Timing, ...]
    concurrency: int
    runs: int
    verdicts: dict[str, str]

    @property
    def shared(self) -> list[Timing]:
        return [one for one in self.timings if not one.alone]

    @property
    def work(self) -> float:
        return sum(one.seconds for one in self.shared)

    @property
    def exclusive(self) -> float:
        return sum(one.seconds for one in self.timings if one.alone)

    @property
    def longest(self) -> float:
        return max((one.seconds for one in self.shared), default=0.0)

    @property
    def limit(self) -> float:
        """What no schedule can beat, were no probe built on another one."""
        return max(self.longest, self.work / self.concurrency) + self.exclusive

    def chain(self) -> tuple[float, list[str]]:
        """The longest chain of shared probes that wait for one another, with its seconds."""
        found: dict[str, tuple[float, list[str]]] = {}
        for one in self.shared:  # what a probe needs has ended before it
            before = max((found[name] for name in one.needs if name in found), default=(0.0, []))
            found[one.name] = (before[0] + one.seconds, [*before[1], one.name])
        return max(found.values(), default=(0.0, []))


def measure() -> Measured:
    """Run the suite in this process, against the bundled server and its replica in others."""
    with TemporaryDirectory() as folder:
        settings = {**reference_settings(), "command": reference_commands(Path(folder))}
        loaded = load(settings, directory=Path(folder), environment={}, search=False)
        wall, cpu = time.monotonic(), time.process_time()
        session = Session(loaded, catalogue())
        try:
            session.begin(catalogue().values())
            results = [session.judge(case) for case in catalogue().values()]
        finally:
            session.close()
        return Measured(
            time.monotonic() - wall,
            time.process_time() - cpu,
            tuple(session.scheduler.timings),
            loaded.settings.concurrency,
            session.ledger.started,
            {result.slug: str(result.verdict) for result in results},
        )


def show(run: Measured) -> bool:
    """Print one run; return whether the promise was kept."""
    print("seconds  probe")
    ordered = sorted(run.timings, key=lambda one: one.seconds, reverse=True)
    for one in ordered[:LONGEST_SHOWN]:
        print(f"{one.seconds:7.2f}  {one.name}{' (exclusive)' if one.alone else ''}")
    chain, names = run.chain()
    promised = FACTOR * run.limit + MARGIN
    print(f"longest probe {run.longest:.2f} s, longest chain {chain:.2f} s: {' -> '.join(names)}")
    print(f"work {run.work:.2f} s / concurrency {run.concurrency} = ", end="")
    print(f"{run.work / run.concurrency:.2f} s, exclusive {run.exclusive:.2f} s")
    print(f"limit {run.limit:.2f} s, promised at most {FACTOR} x that + {MARGIN:g} s", end="")
    print(f" = {promised:.2f} s; wall {run.wall:.2f} s, ratio {run.wall / run.limit:.2f}", end="")
    print(f", CPU of ours {run.cpu:.2f} s: {'kept' if run.wall <= promised else 'BROKEN'}")
    return run.wall <= promised


def command() -> float:
    """Return the wall time of `agentstream run --reference`, in seconds; exits where it is red."""
    words = "import sys; from pytest_agentstream.cli import main; sys.exit(main())"
    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", words, "run", "--reference", "-q"],
            capture_output=True,
            cwd=folder,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"agentstream run --reference failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - begin


def main(arguments: Sequence[str]) -> int:
    """Measure as often as the first argument says (3), and judge the median."""
    rounds = int(arguments[0]) if arguments else 3
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before")
    runs = sorted((measure() for _ in range(rounds)), key=lambda run: run.wall)
    print(f"wall times {', '.join(f'{run.wall:.2f}' for run in runs)} s; the median in detail:")
    kept = show(runs[len(runs) // 2])
    walls = [command() for _ in range(rounds)]
    print(f"agentstream run --reference: {statistics.median(walls):.2f} s, median of {rounds}")
    verdicts = runs[0].verdicts
    counted = {
        word: list(verdicts.values()).count(word) for word in dict.fromkeys(verdicts.values())
    }
    print(f"{runs[0].runs} runs started; {len(verdicts)} requirements; {len(DEFECTS)} defects")
    print("verdicts: " + ", ".join(f"{count} {word}" for word, count in counted.items()))
    print(f"load {os.getloadavg()[0]:.2f} after")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
