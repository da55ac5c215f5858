"""The registry: what starts, leaves and ends beside what else starts, leaves and ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reference_server.log import MemoryLog
from reference_server.registry import Registry
from reference_server.runs import Producer
from reference_server.scenario import parse
from reference_server.scenarios import PARAMETERS, scripted
from reference_server.settings import Settings
from tests.reference_server.logs import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

SILENT = "silence; seconds=60"


class SlowLog(MemoryLog):
    """A log that makes a run only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.going = asyncio.Event(), asyncio.Event()

    async def create(self, run: str, owner: str, key: str | None) -> str:
        """Make the run, later."""
        self.asked.set()
        await self.going.wait()
        return await super().create(run, owner, key)


def play(test: Callable[[Registry, SlowLog], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a registry on such a log, within bounds."""

    async def main() -> None:
        async with asyncio.timeout(10):
            log = SlowLog()
            registry = Registry(log, Settings(), scripted, Producer())
            await log.open(registry)
            await test(registry, log)
            await registry.close()
            await log.stop()

    asyncio.run(main())


async def started(registry: Registry, grace: float | None = None) -> str:
    return await registry.start(
        "hi", parse(SILENT, PARAMETERS), owner="alice", key=None, grace=grace
    )


def test_a_run_that_is_made_while_the_server_goes_down() -> None:
    """It ends as all others did: with a retryable error and its terminal."""

    async def test(registry: Registry, log: SlowLog) -> None:
        starting = asyncio.create_task(started(registry))
        await log.asked.wait()
        await registry.close()
        log.going.set()
        said = await whole(log, await starting)
        assert [(kind, payload.get("error_type")) for _, kind, payload in said] == [
            ("error", "shutdown"),
            ("done", None),
        ]

    play(test)


def test_who_comes_back_is_counted_anew() -> None:
    """A reader that left, came back and left again has its whole grace once more."""

    async def test(registry: Registry, log: SlowLog) -> None:
        log.going.set()
        grace = 0.4
        run = await started(registry, grace)
        loop = asyncio.get_running_loop()
        with registry.reading(run):
            pass
        await asyncio.sleep(grace / 2)
        with registry.reading(run):
            pass
        left = loop.time()
        while not (await log.state(run)).closed:
            await log.wait(run, (await log.state(run)).last, 5.0)
        assert loop.time() - left >= grace

    play(test)
