"""End abandoned runs beside another process that does the same; print how many were ours."""

from __future__ import annotations

import asyncio
import json
import sys

from reference_server.log.opening import store
from reference_server.log.store import Bounds
from tests.reference_server.logs import LAST_WORDS


async def race(name: str) -> None:
    """For each line of runs on stdin try to end them all, and print how many were ours."""
    shared = store(name, Bounds())
    await shared.open()
    said = [(kind, json.dumps(payload)) for kind, payload in LAST_WORDS]
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        ends = (shared.end(run, said, if_abandoned=True) for run in line.split())
        print(sum(await asyncio.gather(*ends)), flush=True)
    await shared.stop()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1]))
