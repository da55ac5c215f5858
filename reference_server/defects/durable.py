"""Defects of a log that is to outlive its process, and that several processes share."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from reference_server.agent import Assignment, Inbox
from reference_server.defects.defect import defect
from reference_server.intake import Intake
from reference_server.log import MemoryLog, RunState, UnknownRun
from reference_server.log.durable import DurableLog
from reference_server.log.opening import event_log
from reference_server.middleware import header
from reference_server.registry import Registry
from reference_server.stream import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from reference_server.agent import Agent
    from reference_server.log import Entry, EventLog, Said
    from reference_server.log.durable import _Pending
    from reference_server.parts import Parts
    from reference_server.scenario import Scenario

BEHIND = 0.3
"""Seconds by which what is stored lags behind what is sent."""

LATE = 3.0
"""Seconds behind the end of a lease at which it is noticed: later than any lease."""


def durable(parts: Parts, kind: type[DurableLog]) -> Parts:
    """Keep the runs in a durable log of another kind, where they are kept in one."""
    return replace(parts, log=lambda settings: event_log(settings, durable=kind))


@defect(
    "sent-before-stored",
    "durable.sent-is-stored",
    "Events are sent at once and stored 0.3 s later.",
)
def sent_before_stored(parts: Parts) -> Parts:
    class WriteBehind(DurableLog):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.behind: list[_Pending] = []
            self.storing = asyncio.Lock()

        async def _commit(self, producer: int, batch: Sequence[_Pending]) -> None:
            for pending in batch:
                if pending.step.retention is None:
                    pending.publish()
                    self.behind.append(pending)
            last = [pending for pending in batch if pending.step.retention is not None]
            if last:
                await self.store_behind()
                await super()._commit(producer, last)
            else:
                self._tasks.append(asyncio.create_task(self.later()))

        async def later(self) -> None:
            await asyncio.sleep(BEHIND)
            await self.store_behind()

        async def store_behind(self) -> None:
            async with self.storing:
                behind, self.behind = self.behind, []
                if behind:
                    steps = [pending.step for pending in behind]
                    await self.store.commit(behind[0].tail.producer, steps)

    return durable(parts, WriteBehind)


@defect(
    "durable-in-name-only",
    "durable.sent-is-stored",
    "The log is in the process's memory, and says that it is durable.",
)
def durable_in_name_only(parts: Parts) -> Parts:
    class Boastful(MemoryLog):
        volatile = False

    return replace(parts, log=lambda settings: Boastful(retention=settings.retention))


@defect(
    "restart-keeps-waiting",
    "durable.kill-and-resume",
    "Nobody ends the runs of a process that was killed.",
)
def restart_keeps_waiting(parts: Parts) -> Parts:
    return durable(parts, _Unnoticing)


class _Unnoticing(DurableLog):
    async def _end_abandoned(self, run: str) -> None:
        return


@defect(
    "restart-is-final",
    "durable.kill-and-resume",
    "The error that ends a killed process's run says that a retry cannot help.",
)
def restart_is_final(parts: Parts) -> Parts:
    class Final(Registry):
        @property
        def last_words(self) -> Sequence[Said]:
            return [
                (kind, {**payload, "retryable": False} if kind == "error" else payload)
                for kind, payload in super().last_words
            ]

    return replace(parts, registry=Final)


@defect(
    "restart-numbers-anew",
    "durable.kill-and-resume",
    "What is appended to a killed process's run is numbered from 1 again.",
)
def restart_numbers_anew(parts: Parts) -> Parts:
    class Anew(Reader):
        lost = 0

        async def next(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().next(seconds)
            for entry in coming or ():
                if entry.payload.get("error_type") == "producer_lost":
                    self.lost = entry.seq - 1
            return coming and [
                replace(e, seq=e.seq - self.lost) if self.lost and e.seq > self.lost else e
                for e in coming
            ]

    return replace(parts, reader=Anew)


@defect(
    "runs-counted-from-1",
    "durable.epoch",
    "Runs are named by a count that begins at 1 with each process, and the log is volatile.",
    options=("--log", "memory"),
)
def runs_counted_from_1(parts: Parts) -> Parts:
    class Counting(Registry):
        count = 0

        def name(self) -> str:
            self.count += 1
            return f"{self.count:022}"

    return replace(parts, registry=Counting)


@defect(
    "lost-run-is-the-newest",
    "durable.epoch",
    "A cursor of a run that is not known any more is taken for one of the newest run.",
    options=("--log", "memory"),
)
def lost_run_is_the_newest(parts: Parts) -> Parts:
    newest: list[str] = []

    class Remembering(Registry):
        def name(self) -> str:
            newest[:] = [super().name()]
            return newest[0]

    class Guessing(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            try:
                return await super().place(run, after, user)
            except Exception:
                if not (after and newest):
                    raise
                try:
                    await self.log.state(run)
                except UnknownRun:
                    return await super().place(newest[0], after, user)
                raise

    class Newest(Reader):
        def __init__(self, log: EventLog, run: str, after: int) -> None:
            super().__init__(log, run, after)
            self.known = False

        async def next(self, seconds: float | None) -> list[Entry] | None:
            if not self.known:
                self.known = True
                try:
                    await self.log.state(self.run)
                except UnknownRun:
                    self.run = newest[0]
            return await super().next(seconds)

    return replace(parts, registry=Remembering, intake=Guessing, reader=Newest)


@defect(
    "other-replica-404",
    "durable.other-replica",
    "A run is known to the process that started it alone, and to its successor.",
)
def other_replica_404(parts: Parts) -> Parts:
    home = sha256(repr(sys.argv).encode()).hexdigest()[:8]  # it has the port; a restart has it too

    class AtHome(Registry):
        def name(self) -> str:
            return f"{super().name()}-{home}"

    class Local(DurableLog):
        async def state(self, run: str) -> RunState:
            if not run.endswith(home):
                raise UnknownRun(run)
            return await super().state(run)

    return replace(durable(parts, Local), registry=AtHome)


@defect(
    "other-replica-stops",
    "durable.other-replica",
    "A stream at another process than the run's ends with what is stored when it begins.",
)
def other_replica_stops(parts: Parts) -> Parts:
    class Stopping(Reader):
        seam: int | None = None

        async def next(self, seconds: float | None) -> list[Entry] | None:
            state = await self.log.state(self.run)
            if not state.closed and self.log.elsewhere(self.run):
                self.seam = state.last if self.seam is None else self.seam
            if self.seam is not None and self.after >= self.seam:
                return None
            return await super().next(seconds)

    return replace(parts, reader=Stopping)


@defect(
    "each-replica-ends",
    "durable.one-executor",
    "Each process ends a dead process's run for its own readers, with a terminal of its own.",
)
def each_replica_ends(parts: Parts) -> Parts:
    class Own(Reader):
        lost = False

        async def next(self, seconds: float | None) -> list[Entry] | None:
            coming = await super().next(seconds)
            for entry in coming or ():
                self.lost |= entry.payload.get("error_type") == "producer_lost"
            return coming and [
                replace(e, payload={**e.payload, "message_id": f"end-{os.getpid()}"})
                if self.lost and e.type == "done"
                else e
                for e in coming
            ]

    return replace(parts, reader=Own)


@defect(
    "ended-twice",
    "durable.one-executor",
    "A run whose process died is ended twice: two errors, two terminals.",
)
def ended_twice(parts: Parts) -> Parts:
    class Twice(Registry):
        @property
        def last_words(self) -> Sequence[Said]:
            return [*super().last_words, *super().last_words]

    return replace(parts, registry=Twice)


@defect(
    "key-per-replica",
    "durable.one-executor",
    "An idempotency key is known to the process alone that saw it first.",
)
def key_per_replica(parts: Parts) -> Parts:
    class Local(DurableLog):
        async def create(self, run: str, owner: str, key: str | None) -> str:
            own = None if key is None else f"{key} of {os.getpid()}"
            return await super().create(run, owner, own)

    return durable(parts, Local)


@defect(
    "second-executor-unseen",
    "durable.one-executor",
    "A process that a run of another one's is started at again has its agent work as well, unseen.",
)
def second_executor_unseen(parts: Parts) -> Parts:
    class Zealous(Registry):
        async def start(
            self,
            message: str,
            scenario: Scenario,
            *,
            owner: str,
            key: str | None,
            grace: float | None,
        ) -> str:
            run = await super().start(message, scenario, owner=owner, key=key, grace=grace)
            if self._log.elsewhere(run):
                inbox = Inbox(self._settings.input_timeout, lambda: None, lambda: None)
                assignment = Assignment(message, scenario, inbox, self._settings)
                self._later(work_for_nobody(self._agent, assignment))
            return run

    return replace(parts, registry=Zealous)


async def work_for_nobody(agent: Agent, assignment: Assignment) -> None:
    async for _ in agent(assignment):
        pass


@defect(
    "gone-early",
    "durable.retention",
    "A run is gone after a third of its retention.",
)
def gone_early(parts: Parts) -> Parts:
    class Hasty(DurableLog):
        async def close(
            self, run: str, retention: float | None = None, last: Sequence[Said] = ()
        ) -> None:
            kept = self._bounds.retention if retention is None else retention
            await super().close(run, kept / 3, last)

    return durable(parts, Hasty)


@defect(
    "half-gone-early",
    "durable.retention",
    "The first half of a run's events is gone after a third of its retention.",
)
def half_gone_early(parts: Parts) -> Parts:
    class Halving(DurableLog):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.halved: set[str] = set()

        async def close(
            self, run: str, retention: float | None = None, last: Sequence[Said] = ()
        ) -> None:
            await super().close(run, retention, last)
            kept = self._bounds.retention if retention is None else retention
            asyncio.get_running_loop().call_later(kept / 3, self.halved.add, run)

        async def state(self, run: str) -> RunState:
            state = await super().state(run)
            return replace(state, first=state.last // 2) if run in self.halved else state

    return durable(parts, Halving)


@defect("bounds-unsaid", "durable.bounded", "Nothing says for how long, and how much, is kept.")
def bounds_unsaid(parts: Parts) -> Parts:
    return parts.behind(header("Agentstream-Log", "durable; lease=1"))


@defect("kept-for-ever", "durable.bounded", "What is kept is said to be kept for ever.")
def kept_for_ever(parts: Parts) -> Parts:
    return parts.behind(
        header("Agentstream-Log", "durable; retention=infinite; run-bytes=33554432; lease=1")
    )


@defect(
    "dead-producer-unnoticed",
    "terminal.dead-producer",
    "A run whose process died is kept alive with heartbeats, for ever.",
)
def dead_producer_unnoticed(parts: Parts) -> Parts:
    return durable(parts, _Unnoticing)


@defect(
    "dead-producer-late",
    "terminal.dead-producer",
    "A run whose process died is ended 3 s later than its lease says.",
)
def dead_producer_late(parts: Parts) -> Parts:
    class Slow(DurableLog):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.noticed: dict[str, float] = {}

        async def _end_abandoned(self, run: str) -> None:
            now = asyncio.get_running_loop().time()
            if now - self.noticed.setdefault(run, now) >= LATE:
                await super()._end_abandoned(run)

    return durable(parts, Slow)
