"""Kill the reference server again and again while clients read, and count what they lose.

    python -m tests.soak.soak --log sqlite --runs 1000 --kills 20 --report build/soak.json

Clients start runs, read them over connections that are cut at random places, and resume at any
replica; meanwhile replicas are killed (SIGKILL) and started again. At the end every run is read
back whole and compared with what its client saw. Exits 1 where an event was lost, came twice or
changed, or a run did not end as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from tests.services import redis_server
from tests.soak.reading import Reading, read, whole
from tests.soak.servers import Replica

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE = 40
"""Runs that are read at the same time."""
REPLICAS = 2
SHOWN = 20
SCENARIOS = (
    "complete",
    "tools",
    "pauses; seconds=0.02; count=40",
    "pauses; seconds=0.1; count=15",
    "long; events=300; seconds=1",
    "silence; seconds=1",
    "echo",
)


class Soak:
    """One soak: its replicas, its clients, and what came out."""

    def __init__(self, runs: int, kills: int, seed: int) -> None:
        self.runs = runs
        self.kills = kills
        self.killed = 0
        self.readings: list[Reading] = []
        self._seed = seed
        self._begun = 0
        self._progress = asyncio.Event()

    async def run(self, log: str) -> dict[str, Any]:
        """Run it on this log; return the report."""
        with TemporaryFile() as said:
            await self._served(log, said)
            said.seek(0)
            failures = said.read().decode(errors="replace").partition("Traceback")[1:]
        kind = {"log": log.partition(":")[0], "seconds": round(self._seconds, 1)}
        return {**kind, **self._report("".join(failures)[:2000])}

    async def _served(self, log: str, said: IO[bytes]) -> None:
        """Start, kill, read, and read all back."""
        async with AsyncExitStack() as stack:
            replicas = [
                await stack.enter_async_context(Replica(log, said)) for _ in range(REPLICAS)
            ]
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._killing(replicas))
                todo = iter(range(self.runs))
                for _ in range(min(AT_ONCE, self.runs)):
                    group.create_task(self._reading([each.port for each in replicas], todo))
            self._seconds = time.monotonic() - began
            for reading in self.readings:
                if reading.over:
                    _compare(reading, await whole(replicas[0].port, reading.run))

    async def _reading(self, ports: Sequence[int], todo: Any) -> None:
        for number in todo:
            chance = Random(self._seed * 1_000_003 + number)
            self._begun += 1
            self._progress.set()
            scenario = chance.choice(SCENARIOS)
            self.readings.append(await read(ports, scenario, f"soak-{number}", chance))

    async def _killing(self, replicas: Sequence[Replica]) -> None:
        """Kill one replica whenever the next share of the runs has begun."""
        chance = Random(self._seed)
        for number in range(self.kills):
            while self._begun < (number + 1) * self.runs // (self.kills + 1):
                self._progress.clear()
                await self._progress.wait()
            replica = chance.choice(replicas)
            await replica.kill()
            await replica.start()
            self.killed += 1

    def _report(self, failure: str) -> dict[str, Any]:
        """Put together what came out; `failure`: the first traceback of a server."""
        said = Counter(
            json.loads(each.events[-1].data)["status"] for each in self.readings if each.over
        )
        wrong = [text for reading in self.readings for text in reading.wrong]
        wrong += [failure] * bool(failure)
        return {
            "seed": self._seed,
            "runs": len(self.readings),
            "kills": self.killed,
            "connections": sum(reading.connections for reading in self.readings),
            "cuts": sum(reading.cuts for reading in self.readings),
            "events": sum(len(reading.events) for reading in self.readings),
            "ends": dict(sorted(said.items())),
            "lost": sum(reading.lost for reading in self.readings),
            "twice": sum(reading.twice for reading in self.readings),
            "wrong": len(wrong),
            "first_wrong": wrong[:SHOWN],
        }


def _compare(seen: Reading, stored: Reading) -> None:
    """Count what the log does not have, or has otherwise, and how the run ended."""
    kept = {event.seq: event for event in stored.events}
    seen.lost += sum(kept.get(event.seq) != event for event in seen.events)
    seen.twice += stored.twice
    types = [event.type for event in stored.events]
    ends = [number for number, kind in enumerate(types) if kind == "done"]
    if ends != [len(types) - 1]:
        seen.wrong.append(f"run {seen.run}: `done` stands at {ends} of {len(types)} events")
    if "error" in types:
        error = json.loads(stored.events[types.index("error")].data)
        if types[-2:] != ["error", "done"] or types.count("error") > 1 or not error["retryable"]:
            seen.wrong.append(f"run {seen.run} ended in {types[-3:]}, {error}")


def soak(log: str, runs: int, kills: int, seed: int) -> dict[str, Any]:
    """Soak the server on a new log of this kind: `sqlite` or `redis`; return the report."""
    with ExitStack() as stack:
        if log == "redis":
            name = stack.enter_context(redis_server()).url
        else:
            name = f"sqlite:{stack.enter_context(TemporaryDirectory())}/events.db"
        return asyncio.run(Soak(runs, kills, seed).run(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, soak, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    report = soak(options.log, options.runs, options.kills, options.seed)
    text = json.dumps(report, indent=2)
    print(text)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text + "\n")
    return 1 if report["lost"] or report["twice"] or report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
