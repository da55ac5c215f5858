"""Defects of a server that is told to end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import entries, with_payload
from reference_server.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_server.log import Entry
    from reference_server.parts import Parts
    from reference_server.scenario import Scenario

LINGERS = 1.2
"""Seconds for which the port stays open behind the end of the runs."""

HANGING = 3600.0


@defect(
    "shutdown-is-final",
    "terminal.on-shutdown",
    "The error that a shutdown ends runs with says that a retry cannot help.",
)
def shutdown_is_final(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        shutdown = entry.payload.get("error_type") == "shutdown"
        yield with_payload(entry, retryable=False) if shutdown else entry

    return entries(parts, change)


@defect(
    "shutdown-waits",
    "terminal.on-shutdown",
    "SIGTERM waits for the runs to come to their end, however long that takes.",
)
def shutdown_waits(parts: Parts) -> Parts:
    class Patient(Registry):
        async def close(self) -> None:
            self.closing = True
            await asyncio.sleep(HANGING)

    return replace(parts, registry=Patient)


class _Lingering(Registry):
    """End the runs, and let the port stay open for a while."""

    ending = False

    async def close(self) -> None:
        self.ending = True
        await super().close()
        self.closing = False
        await asyncio.sleep(LINGERS)
        self.closing = True


@defect(
    "newcomers-hang",
    "terminal.refuses-on-shutdown",
    "A run that is started behind a SIGTERM gets no answer.",
)
def newcomers_hang(parts: Parts) -> Parts:
    class Hanging(_Lingering):
        async def start(
            self,
            message: str,
            scenario: Scenario,
            *,
            owner: str,
            key: str | None,
            grace: float | None,
        ) -> str:
            if self.ending:
                await asyncio.sleep(HANGING)
            return await super().start(message, scenario, owner=owner, key=key, grace=grace)

    return replace(parts, registry=Hanging)


@defect(
    "newcomers-fail",
    "terminal.refuses-on-shutdown",
    "A run that is started behind a SIGTERM gets 500.",
)
def newcomers_fail(parts: Parts) -> Parts:
    class Failing(_Lingering):
        def name(self) -> str:
            if self.ending:
                raise RuntimeError("the pool is closed")
            return super().name()

    return replace(parts, registry=Failing)
