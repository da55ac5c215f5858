"""Defects of a run that nobody reads for a while: what it says, does, and ends with meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import agent
from reference_server.protocol import Token
from reference_server.runs import Producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from reference_server.agent import Agent, Assignment
    from reference_server.parts import Parts
    from reference_server.protocol import Event
    from reference_server.runs import Run

    Emit = Callable[[Event], Awaitable[None]]


WHILE = 0.1
"""Seconds in which a reader's going is noticed."""


class Watching(Producer):
    """A producer that knows whether a run was read before and is not read now."""

    async def produce(self, run: Run, agent: Agent, task: Assignment) -> None:
        emit, finish = run.emit, run.finish
        was_read = False

        def left() -> bool:
            nonlocal was_read
            was_read |= run.readers > 0
            return was_read and not run.readers

        async def said(event: Event) -> None:
            await self.say(event, left, emit)

        async def ended(*last: Event) -> bool:
            return await finish(*self.end(last, left))

        run.emit, run.finish = said, ended  # type: ignore[method-assign]
        await super().produce(run, agent, task)

    async def say(self, event: Event, left: Callable[[], bool], emit: Emit) -> None:
        """Store one event, or do otherwise."""
        left()
        await emit(event)

    def end(self, last: tuple[Event, ...], left: Callable[[], bool]) -> tuple[Event, ...]:
        """Return what the run ends with."""
        return last


@defect(
    "unread-unsaid",
    "resume.no-gaps",
    "What is said while nobody reads is thrown away, and gets no number.",
)
def unread_unsaid(parts: Parts) -> Parts:
    class Unsaid(Watching):
        async def say(self, event: Event, left: Callable[[], bool], emit: Emit) -> None:
            if not (left() and isinstance(event, Token)):
                await emit(event)

    return replace(parts, producer=Unsaid)


@defect("waits-for-reader", "disconnect.continues", "A run stands still while nobody reads it.")
def waits_for_reader(parts: Parts) -> Parts:
    class Waiting(Watching):
        async def say(self, event: Event, left: Callable[[], bool], emit: Emit) -> None:
            while left():  # noqa: ASYNC110 - nothing says that a reader has come
                await asyncio.sleep(0.01)
            await emit(event)

    return replace(parts, producer=Waiting)


@defect(
    "ends-unheard",
    "resume.after-last-event",
    "A run that ends while nobody reads it gets no terminal.",
)
def ends_unheard(parts: Parts) -> Parts:
    class Unheard(Watching):
        def end(self, last: tuple[Event, ...], left: Callable[[], bool]) -> tuple[Event, ...]:
            return () if left() else last

    return replace(parts, producer=Unheard)


@defect(
    "crash-unheard",
    "resume.crash-terminal",
    "A run that crashes while nobody reads it is completed.",
)
def crash_unheard(parts: Parts) -> Parts:
    class Unheard(Producer):
        def failed(self, run: Run, exception: BaseException) -> Sequence[Event]:
            return super().failed(run, exception) if run.readers else self.succeeded(run)

    async def after_a_while(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        try:
            async for event in events:
                yield event
        except RuntimeError:
            await asyncio.sleep(WHILE)
            raise

    return replace(agent(parts, after_a_while, "crash"), producer=Unheard)
