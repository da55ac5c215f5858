"""Replicas of the reference server on one log, which are killed and started again."""

from __future__ import annotations

import asyncio
import sys
from typing import IO, TYPE_CHECKING, Self

from tests.services import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

START = 30.0
"""Seconds that a busy machine may take until a server listens."""
OPTIONS = ("--heartbeat", "0.2", "--retention", "900", "--lease", "1")


class Replica:
    """One port, at which one process after the other listens."""

    def __init__(self, log: str, said: IO[bytes], options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._said = said
        command = ["-m", "reference_server", "--port", str(self.port), "--log", log]
        self._command = [sys.executable, *command, *OPTIONS, *options]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start a process and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=self._said
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START):
            line = await self._process.stdout.readline()
        if b"listening" not in line:
            raise RuntimeError(f"the server did not start: {line.decode()}")

    async def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._process.kill()
        await self._process.wait()
