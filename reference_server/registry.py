"""The live runs of a process: start each once, hand it answers, stop it from outside.

1. A run belongs to nobody's connection: it goes on when its readers leave.
2. What stops a run from outside says so in its log first, then stops its work.
3. A run that another process produces is cancelled through the log.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_server.agent import Agent, Assignment, Inbox
from reference_server.cursor import new_run_id
from reference_server.protocol import Done, Error, Event
from reference_server.runs import INTERNAL, Producer, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from reference_server.log import EventLog, Said
    from reference_server.scenario import Scenario
    from reference_server.settings import Settings

DEADLINE = Error(error_type="deadline", message="The run took too long.", retryable=True)
SHUTDOWN = Error(error_type="shutdown", message="The server is going down.", retryable=True)
LOST = Error(
    error_type="producer_lost", message="The process that produced this run died.", retryable=True
)


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
        fresh = self.name()
        run_id = await self._log.create(fresh, owner, key)
        if run_id == fresh:
            run = Run(run_id, self._log, scenario, grace=grace)
            if self.closing:  # since it was asked for
                await run.finish(SHUTDOWN, run.done("error"))
                return run_id
            deadline = Deadline(
                self.deadline(scenario), lambda: self._stop(run, DEADLINE, run.done("error"))
            )
            inbox = Inbox(self._settings.input_timeout, deadline.pause, deadline.resume)
            assignment = Assignment(message, scenario, inbox, self._settings)
            work = self._producer.produce(run, self._agent, assignment)
            task = asyncio.create_task(work, name=f"run {run_id}")
            self._live[run_id] = _Work(run, inbox, task, deadline)
            task.add_done_callback(lambda _: self._gone(run_id))
        return run_id

    def name(self) -> str:
        """Return a name that no run has, nor ever had."""
        return new_run_id()

    def deadline(self, scenario: Scenario) -> float:
        """Return the seconds that a run may take: the server's, or fewer where it is asked so."""
        ours = self._settings.deadline
        return min(ours, float(scenario.values.get("deadline", ours)))

    def live(self, run_id: str) -> Run | None:
        """Return the run while this process produces it."""
        work = self._live.get(run_id)
        return work.run if work else None

    def alive(self, run_id: str) -> bool:
        """Tell whether the run has a producer, here or, while it is open, elsewhere."""
        return self.live(run_id) is not None or self._log.elsewhere(run_id)

    @property
    def last_words(self) -> Sequence[Said]:
        """What ends a run whose producer died."""
        return [(event.type, event.payload()) for event in (LOST, Done(status="error"))]

    def lost(self, run_id: str) -> None:
        """Stop the work on a run that was ended elsewhere."""
        work = self._live.get(run_id)
        if work is not None:
            work.run.ended = True
            work.task.cancel()

    def answer(self, run_id: str, request_id: str, text: str) -> bool:
        """Give a waiting run of this process its answer; False when it waits for no such one."""
        work = self._live.get(run_id)
        return work is not None and work.inbox.give(request_id, text)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; one that has ended stays as it is."""
        work = self._live.get(run_id)
        if work is not None:
            await self._end(work, work.run.done("cancelled"))
        elif self._log.elsewhere(run_id):
            done = Done(status="cancelled")
            await self._log.end(run_id, [(done.type, done.payload())])

    async def close(self) -> None:
        """End every run, because the server goes down; return when no task is left."""
        self.closing = True
        works = list(self._live.values())
        await asyncio.gather(*(self._end(work, SHUTDOWN, work.run.done("error")) for work in works))
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
        if run.leaving is not None:
            run.leaving.cancel()
        try:
            yield
        finally:
            run.readers -= 1
            if run.grace is not None and run.readers == 0 and not run.ended:
                loop = asyncio.get_running_loop()
                run.leaving = loop.call_later(run.grace, self._if_abandoned, run)

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
