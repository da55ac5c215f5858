"""Run agents: start each once, log what it says, end it always and only once.

    started -> running -> (waiting for a person -> running)* -> ended

1. A run belongs to nobody's connection: it goes on when its readers leave.
2. Whatever ends a run goes through `Run.finish`, and the first one wins: the agent's return, its
   exception of any kind, a cancel, the deadline, the shutdown, the death of the producer.
3. `finish` appends the last events and closes the log in one step, before anything is torn down.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from reference_server.agent import Agent, Assignment, Inbox, NoAnswer
from reference_server.cursor import new_run_id
from reference_server.protocol import Done, Error, Event, Status, ToolUse, Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence

    from reference_server.log import EventLog
    from reference_server.scenario import Scenario
    from reference_server.settings import Settings

logger = logging.getLogger("reference_server")

INTERNAL = Error(error_type="internal", message="The agent failed.", retryable=False)
DEADLINE = Error(error_type="deadline", message="The run took too long.", retryable=True)
SHUTDOWN = Error(error_type="shutdown", message="The server is going down.", retryable=True)


class RunEnded(Exception):
    """The run has ended meanwhile; what the agent still says does not count."""


class Run:
    """One live run: its task, its inbox, its readers."""

    def __init__(
        self, run_id: str, log: EventLog, scenario: Scenario, *, grace: float | None
    ) -> None:
        self.id = run_id
        self.scenario = scenario
        self.grace = grace
        self.readers = 0
        self.ended = False
        self._log = log
        self._append = asyncio.Lock()
        self._turns = 0
        self._tools = 0

    async def emit(self, event: Event) -> None:
        """Store one event; raise RunEnded when the run is over."""
        async with self._append:
            if self.ended:
                raise RunEnded
            await self._store(event)

    async def finish(self, *last: Event) -> bool:
        """End the run with these events, once; False when something else ended it before."""
        async with self._append:
            if self.ended:
                return False
            self.ended = True
            for event in last:
                await self._store(event)
            await self._log.close(self.id)
            return True

    def done(self, status: Status) -> Done:
        """Return the terminal, with its totals when the run was completed."""
        if status != "completed":
            return Done(status=status)
        return Done(status=status, num_turns=self._turns, tool_count=self._tools)

    async def _store(self, event: Event) -> None:
        self._turns += isinstance(event, Turn)
        self._tools += isinstance(event, ToolUse)
        await self._log.append(self.id, event.type, event.payload())


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


class Deadline:
    """A timer that stands still while the run waits for a person."""

    def __init__(self, seconds: float, expired: Callable[[], None]) -> None:
        self._left = seconds
        self._expired = expired
        self.resume()

    def resume(self) -> None:
        """Let the time run."""
        self._timer = asyncio.get_running_loop().call_later(self._left, self._expired)

    def pause(self) -> None:
        """Let the time stand still, or stop for good."""
        self._left = max(0.0, self._timer.when() - asyncio.get_running_loop().time())
        self._timer.cancel()


@dataclass(frozen=True, slots=True)
class _Work:
    """What belongs to a live run and nobody else touches."""

    run: Run
    inbox: Inbox
    task: asyncio.Task[None]
    deadline: Deadline


class Registry:
    """The live runs of this process."""

    def __init__(self, log: EventLog, settings: Settings, agent: Agent, producer: Producer) -> None:
        self.closing = False
        self._log = log
        self._settings = settings
        self._agent = agent
        self._producer = producer
        self._live: dict[str, _Work] = {}
        self._background: set[asyncio.Task[object]] = set()

    async def start(
        self, message: str, scenario: Scenario, *, owner: str, key: str | None, grace: float | None
    ) -> str:
        """Start a run, or join the owner's run with this key; return its id.

        `grace`: cancel the run when its last reader has been gone for these seconds; None: never.
        Raises LogFull.
        """
        fresh = new_run_id()
        run_id = await self._log.create(fresh, owner, key)
        if run_id == fresh:
            run = Run(run_id, self._log, scenario, grace=grace)
            deadline = Deadline(
                self._settings.deadline, lambda: self._stop(run, DEADLINE, run.done("error"))
            )
            inbox = Inbox(self._settings.input_timeout, deadline.pause, deadline.resume)
            work = self._producer.produce(run, self._agent, Assignment(message, scenario, inbox))
            task = asyncio.create_task(work, name=f"run {run_id}")
            self._live[run_id] = _Work(run, inbox, task, deadline)
            task.add_done_callback(lambda _: self._gone(run_id))
        return run_id

    def live(self, run_id: str) -> Run | None:
        """Return the run while its producer lives."""
        work = self._live.get(run_id)
        return work.run if work else None

    def answer(self, run_id: str, request_id: str, text: str) -> bool:
        """Give a waiting run its answer; False when it does not wait for this one."""
        work = self._live.get(run_id)
        return work is not None and work.inbox.give(request_id, text)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; one that has ended stays as it is."""
        work = self._live.get(run_id)
        if work is not None:
            await self._end(work, work.run.done("cancelled"))

    async def close(self) -> None:
        """End every run, because the server goes down; return when no task is left."""
        self.closing = True
        works = list(self._live.values())
        for work in works:
            await self._end(work, SHUTDOWN, work.run.done("error"))
        left = [*(work.task for work in works), *self._background]
        if left:
            await asyncio.wait(left, timeout=2.0)

    @contextmanager
    def reading(self, run_id: str) -> Iterator[None]:
        """Count a reader; the last one that leaves a run with a grace starts it."""
        run = self.live(run_id)
        if run is None:
            yield
            return
        run.readers += 1
        try:
            yield
        finally:
            run.readers -= 1
            if run.grace is not None and run.readers == 0 and not run.ended:
                asyncio.get_running_loop().call_later(run.grace, self._if_abandoned, run)

    def _if_abandoned(self, run: Run) -> None:
        if run.readers == 0 and not self.closing:
            self._stop(run, run.done("cancelled"))

    def _stop(self, run: Run, *last: Event) -> None:
        work = self._live.get(run.id)
        if work is not None:
            self._later(self._end(work, *last))

    async def _end(self, work: _Work, *last: Event) -> None:
        """End a run from outside: the log first, then the agent's work."""
        if await work.run.finish(*last):
            work.task.cancel()

    def _gone(self, run_id: str) -> None:
        """A producer that went without an end is dead: end its run, so that nobody waits for it."""
        work = self._live.pop(run_id)
        work.deadline.pause()
        if not work.run.ended:
            self._later(work.run.finish(INTERNAL, work.run.done("error")))

    def _later(self, work: Coroutine[object, None, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
