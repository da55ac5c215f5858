"""One run: log what its agent says, end it always and only once.

    started -> running -> (waiting for a person -> running)* -> ended

1. Whatever ends a run goes through `Run.finish`, and the first one wins: the agent's return, its
   exception of any kind, a cancel, the deadline, the shutdown, the death of the producer.
2. `finish` appends the last events and closes the log in one step, before anything is torn down.
3. A run that the log no longer lets this process append to has ended elsewhere, or will be.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from reference_server.agent import Incomplete, NoAnswer
from reference_server.log import LogUnavailable, RunLost, UnknownRun
from reference_server.protocol import Done, Error, Event, Status, ToolUse, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from reference_server.agent import Agent, Assignment
    from reference_server.log import EventLog
    from reference_server.scenario import Scenario

logger = logging.getLogger("reference_server")

GONE = (RunLost, LogUnavailable, UnknownRun)
"""What a log raises where this process can append to a run no more."""

INTERNAL = Error(error_type="internal", message="The agent failed.", retryable=False)


class RunEnded(Exception):
    """The run has ended meanwhile; what the agent still says does not count."""


class Run:
    """One live run: its readers, and what is appended to its log."""

    def __init__(
        self, run_id: str, log: EventLog, scenario: Scenario, *, grace: float | None
    ) -> None:
        self.id = run_id
        self.scenario = scenario
        self.grace = grace
        self.readers = 0
        self.leaving: asyncio.TimerHandle | None = None
        self.ended = False
        self._log = log
        self._append = asyncio.Lock()
        self._turns = 0
        self._tools = 0
        self._incomplete: Incomplete | None = None

    async def emit(self, event: Event) -> None:
        """Store one event; raise RunEnded when the run is over."""
        async with self._append:
            if self.ended:
                raise RunEnded
            if isinstance(event, Incomplete):
                self._incomplete = event
                return
            self._count(event)
            try:
                await self._log.append(self.id, event.type, event.payload(), ahead=True)
            except GONE:
                self.ended = True
                raise RunEnded from None

    async def finish(self, *last: Event) -> bool:
        """End the run with these events, once; False when something else ended it before."""
        async with self._append:
            if self.ended:
                return False
            self.ended = True
            for event in last:
                self._count(event)
            said = [(event.type, event.payload()) for event in last]
            try:
                await self._log.close(self.id, self.scenario.values.get("retention"), said)
            except GONE:
                return False
            return True

    def done(self, status: Status) -> Done:
        """Return the terminal, with its totals when the run was completed."""
        if status != "completed":
            return Done(status=status)
        why = self._incomplete.reason if self._incomplete else None
        return Done(status=status, num_turns=self._turns, tool_count=self._tools, incomplete=why)

    def _count(self, event: Event) -> None:
        self._turns += isinstance(event, Turn)
        self._tools += isinstance(event, ToolUse)


class Producer:
    """Drive an agent and say how its run ends."""

    async def produce(self, run: Run, agent: Agent, task: Assignment) -> None:
        """Log what the agent yields, then the end; never raises what the agent raised."""
        events = cast("AsyncGenerator[Event]", agent(task))
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Error):
                        await run.finish(*self.reported(run, event))
                        return
                    await run.emit(event)
        except RunEnded:
            return
        except BaseException as exception:  # SystemExit and CancelledError end a run as well
            last = self.failed(run, exception)
        else:
            last = self.succeeded(run)
        await run.finish(*last)

    def succeeded(self, run: Run) -> Sequence[Event]:
        """Return the last events of a run whose agent returned."""
        return [run.done("completed")]

    def reported(self, run: Run, error: Error) -> Sequence[Event]:
        """Return the last events of a run whose agent reported a failure."""
        return [error, run.done("error")]

    def failed(self, run: Run, exception: BaseException) -> Sequence[Event]:
        """Return the last events of a run whose agent raised; the text goes to our log only."""
        if isinstance(exception, NoAnswer):
            return [run.done("interrupted")]
        if not run.ended:
            logger.error("run %s: the agent raised", run.id, exc_info=exception)
        return [INTERNAL, run.done("error")]
