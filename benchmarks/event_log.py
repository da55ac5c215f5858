"""Measure the reference server's event logs: appending, and what a resume costs.

Run it with `python -m benchmarks.event_log`. Many runs append at once, as agents do: each event is
awaited until it is stored. Then a log that was opened anew reads the last 100 events of a run of
100 and of one of 100,000 events: the promise is that it costs the events behind the cursor, not the
run. Exits 1 where a promise is broken; a log whose service is missing is said and left out.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from socket import create_server
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from reference_server.log import EventLog, LogError
from reference_server.log.opening import event_log
from reference_server.serving import collect_seldom
from reference_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reference_server.log import Said

RUNS = 200
EACH = 250
TURNS = 3
SHORT, LONG = 100, 100_000
READ = 100
RESUMES = 300
PROMISED: Mapping[str, float] = {"memory": 0.0, "sqlite": 20_000.0, "redis": 10_000.0}
"""Events a second, on two cores."""
RATIO = 2.0
"""How much more the same number of events may cost behind a cursor of the long run."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One log: events a second; seconds from an append to its commit, alone and among others;
    seconds of a resume in the short and in the long run."""

    rate: float
    alone: float
    crowded: float
    short: float
    long: float

    @property
    def ratio(self) -> float:
        """What the run's length adds to a resume."""
        return self.long / self.short


class Idle:
    """What a log is told of a process that produces nothing."""

    last_words: Sequence[Said] = ()

    def lost(self, run_id: str) -> None:
        """Be told of a run that was lost: none should be."""
        raise RuntimeError(f"run {run_id} was lost")

    def answer(self, run_id: str, request_id: str, text: str) -> bool:
        """Wait for no answer."""
        return False


async def append(log: EventLog, run: str, events: int, *, ahead: bool = False) -> list[float]:
    """Make a run of so many events and close it; return the seconds that each append took."""
    await log.create(run, "somebody", None)
    taken = []
    for number in range(events):
        began = time.perf_counter()
        await log.append(run, "token", {"text": f"word {number} of {run}"}, ahead=ahead)
        taken.append(time.perf_counter() - began)
    await log.close(run)
    return taken


async def resume(log: EventLog, run: str, events: int) -> float:
    """Return the median seconds to read the last events of a run."""
    taken = []
    for _ in range(RESUMES):
        began = time.perf_counter()
        await log.state(run)
        read = await log.read(run, events - READ, READ)
        taken.append(time.perf_counter() - began)
        assert len(read) == READ, f"{len(read)} events were read, not {READ}"
    return statistics.median(taken)


async def measure(name: str) -> Measured:
    """Measure the log of this name, which is empty."""
    settings = Settings(log=name, retention=3600.0, lease=60.0)
    log = event_log(settings)
    await log.open(Idle())
    alone = await append(log, "alone", 500)
    rates, crowded = [], []
    for turn in range(TURNS):
        began = time.perf_counter()
        crowded += await asyncio.gather(
            *(append(log, f"run-{turn}-{n}", EACH) for n in range(RUNS))
        )
        rates.append(RUNS * EACH / (time.perf_counter() - began))
    for events in (SHORT, LONG):
        await append(log, f"of-{events}", events, ahead=True)
    other = log if log.volatile else event_log(settings)
    if other is not log:
        await other.open(Idle())
    short, long = [await resume(other, f"of-{events}", events) for events in (SHORT, LONG)]
    for each in {log, other}:
        await each.stop()
    waits = sorted(seconds for taken in crowded for seconds in taken)
    rate = statistics.median(rates)
    return Measured(rate, statistics.median(alone), waits[len(waits) * 99 // 100], short, long)


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis server that keeps nothing on disk, and yield its URL."""
    path = shutil.which("redis-server")
    if path is None:
        raise LogError("redis-server is not installed")
    with closing(create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    command = [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with TemporaryDirectory() as folder:
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ready to accept connections" in line:
                    yield f"redis://127.0.0.1:{port}/0"
                    return
            raise LogError("redis-server ended before it listened")
        finally:
            process.terminate()
            process.communicate()


def named(kind: str, stack: ExitStack) -> str:
    """Return the name of an empty log of this kind."""
    if kind == "redis":
        return stack.enter_context(redis())
    if kind == "sqlite":
        return f"sqlite:{stack.enter_context(TemporaryDirectory())}/events.db"
    return kind


def main() -> int:
    """Measure every log and print a table; return 1 where a promise is broken."""
    broken = []
    collect_seldom()  # as the server does
    print(f"{'log':8}{'events/s':>10}{'append':>10}{'p99 of':>10}{'resume of a run of':>22}")
    print(f"{'':8}{'':>10}{'alone':>10}{f'{RUNS} runs':>10}{SHORT:>10,}{LONG:>12,}{'ratio':>8}")
    for kind, promised in PROMISED.items():
        try:
            with ExitStack() as stack:
                found = asyncio.run(measure(named(kind, stack)))
        except LogError as missing:
            print(f"{kind:8}not measured: {missing}")
            continue
        times = [f"{seconds * 1000:.2f} ms" for seconds in (found.alone, found.crowded)]
        costs = [f"{seconds * 1000:.2f} ms" for seconds in (found.short, found.long)]
        print(f"{kind:8}{found.rate:>10,.0f}{times[0]:>10}{times[1]:>10}", end="")
        print(f"{costs[0]:>10}{costs[1]:>12}{found.ratio:>8.2f}")
        if found.rate < promised:
            broken.append(f"{kind}: fewer than {promised:,.0f} events/s")
        if found.ratio > RATIO:
            broken.append(f"{kind}: a resume in the long run costs more than {RATIO:g} times")
    print("\n".join(broken) or "every promise is kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
