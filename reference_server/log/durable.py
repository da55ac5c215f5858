"""Keep events where a killed process cannot lose them: group commit, leases, replicas.

    append -> pending -> one commit for all that is pending -> tail -> readers

1. Nothing is told to a reader before its commit. What comes while a commit is under way waits for
   the next; with nothing under way it is committed at once.
2. This process holds one lease for all its runs, and renews it. Its number fences: a run whose row
   names another number takes nothing from us, and we hear of that by the commit or by a letter.
3. A store that cannot be reached costs the lease: it is given up with all runs under it, so that
   whoever finds it expired ends them. Another lease is taken when the store is back.
4. Readers beside the producer read its tail; others wait for news from the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reference_server.log.event_log import Entry, LogUnavailable, RunLost, UnknownRun
from reference_server.log.store import OVERHEAD, Step
from reference_server.log.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reference_server.log.event_log import Producing, RunState, Said
    from reference_server.log.store import Bounds, Letter, Store

logger = logging.getLogger("reference_server")

_ENCODER = json.JSONEncoder(separators=(",", ":"))

RENEWALS = 4
"""How often a lease is renewed within its length."""
AHEAD = 64
"""Events of one run that may wait for their commit while its agent goes on."""
LINGER = 1.0
"""Seconds for which the tail of a closed run is kept for its readers."""
RETRY = 0.25
"""Seconds until a store that could not be reached is tried again."""
REPLY = 2.0
"""Seconds that the holder of a run has to answer a letter."""


@dataclass(slots=True)
class _Pending:
    """A step on its way to the store."""

    tail: Tail
    step: Step
    entries: Sequence[Entry]
    sizes: Sequence[int]
    stored: asyncio.Future[None]

    def publish(self) -> None:
        """Tell readers, and whoever waits for it, that it is stored."""
        closed = self.step.retention is not None
        self.tail.publish(self.entries, self.sizes, self.step.trim, closed=closed)
        if not self.stored.done():  # who waited for it was cancelled
            self.stored.set_result(None)

    def refuse(self, why: str) -> None:
        """Tell whoever waits for it that it will not be stored."""
        if not self.stored.done():
            self.stored.set_exception(RunLost(why))


@dataclass(slots=True)
class _Watch:
    """Readers of a run that another process produces."""

    after: list[int] = field(default_factory=list)
    pulse: asyncio.Event = field(default_factory=asyncio.Event)


class DurableLog:
    """An event log over a store that several processes share."""

    volatile = False
    lag = 0.0  # nothing is told before its commit, and what is committed everybody sees

    def __init__(
        self, store: Store, bounds: Bounds, *, lease: float, run_bytes: int = 32 * 2**20
    ) -> None:
        self.run_bytes = run_bytes
        self.secret: bytes | None = None
        self.store = store
        self._bounds = bounds
        self._lease = lease
        self._producer: int | None = None
        self._given_up: list[int] = []
        self._tails: dict[str, Tail] = {}
        self._watches: dict[str, _Watch] = {}
        self._pending: list[_Pending] = []
        self._leasing = asyncio.Lock()
        self._asked = asyncio.Event()
        self._listened = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ceased = False

    async def open(self, producing: Producing) -> None:
        self._producing = producing
        self._last_words = [_stored(kind, payload) for kind, payload in producing.last_words]
        self.secret = await self.store.open()
        await self._keep_lease()
        for work in (self._committing(), self._keeping(), self._tidying(), self._listening()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._broken)
            self._tasks.append(task)

    async def stop(self) -> None:
        await self.cease()
        with suppress(LogUnavailable):
            if self._producer is not None:
                await self.store.release(self._producer)
        await self.store.stop()

    async def cease(self) -> None:
        """Stop all work at once, as if the process died: the lease is left to expire."""
        self._ceased = True
        working = {task for task in self._tasks if not task.done()}
        while working:
            for task in working:
                task.cancel()
            # again and again: redis-py can lose a cancellation that comes together with an answer
            _, working = await asyncio.wait(working, timeout=0.1)
        self._refuse(self._pending)

    async def create(self, run: str, owner: str, key: str | None) -> str:
        producer = self._producer or await self._keep_lease()
        try:
            holder = await self.store.create(run, owner, key, producer)
        except LogUnavailable:
            self._give_up(producer)  # it may have been made all the same, and has to end then
            raise
        if holder == run:
            if producer != self._producer:
                raise LogUnavailable(f"the lease of run {run} was given up as it was made")
            self._tails[run] = Tail(owner, producer)
            self._listened.set()
        return holder

    async def append(
        self, run: str, kind: str, payload: Mapping[str, Any], *, ahead: bool = False
    ) -> Entry:
        tail = await self._tail(run)
        (entry,), stored = self._store(tail, run, [(kind, payload)])
        if ahead and tail.given - tail.last < AHEAD:
            stored.add_done_callback(asyncio.Future.exception)  # the next append says the same
        else:
            await stored
        return entry

    async def close(
        self, run: str, retention: float | None = None, last: Sequence[Said] = ()
    ) -> None:
        kept = self._bounds.retention
        kept = kept if retention is None else min(retention, kept)
        if not last and (await self.state(run)).closed:
            return
        _, stored = self._store(await self._tail(run), run, last, kept)
        await stored
        asyncio.get_running_loop().call_later(min(LINGER, kept / 2), self._tails.pop, run, None)

    async def end(self, run: str, last: Sequence[Said]) -> bool:
        return await self.store.end(run, [_stored(*said) for said in last], if_abandoned=False)

    async def answer(self, run: str, request_id: str, text: str) -> bool:
        letter = await self.store.post(run, request_id, text)
        if letter is None:
            return False
        try:
            async with asyncio.timeout(REPLY):
                while True:
                    answer = await self.store.replied(letter)
                    if answer is not None:
                        return answer
                    await asyncio.sleep(0.01)  # a store tells nobody that a row has changed
        except TimeoutError:
            raise LogUnavailable("the process that produces the run does not answer") from None

    def elsewhere(self, run: str) -> bool:
        return run not in self._tails

    async def state(self, run: str) -> RunState:
        tail = self._tails.get(run)
        if tail is not None:
            return tail.state
        stored = await self.store.state(run)
        if stored.abandoned:
            await self._end_abandoned(run)
            stored = await self.store.state(run)
        return stored.state

    async def read(self, run: str, after: int, limit: int) -> list[Entry]:
        tail = self._tails.get(run)
        entries = tail.read(after, limit) if tail is not None else None
        if entries is None:
            rows = await self.store.read(run, after, limit)
            entries = [Entry(run, seq, kind, json.loads(payload)) for seq, kind, payload in rows]
        return entries

    async def wait(self, run: str, after: int, seconds: float | None) -> bool:
        tail = self._tails.get(run)
        try:
            async with asyncio.timeout(seconds):
                if tail is not None:
                    if tail.last <= after and not tail.closed:
                        await tail.woken()
                    return True
                with self._watching(run, after) as pulse:
                    state = await self.state(run)
                    if state.last <= after and not state.closed:
                        await pulse.wait()
                    return True
        except TimeoutError:
            return False

    async def _tail(self, run: str) -> Tail:
        """Return a run of ours that takes events; raises UnknownRun and RunLost."""
        tail = self._tails.get(run)
        if tail is None and not self._ceased:
            await self.store.state(run)
        if tail is None or tail.closing or self._ceased:
            raise RunLost(f"run {run} is closed or held elsewhere, nothing can be appended")
        return tail

    def _store(
        self, tail: Tail, run: str, said: Sequence[Said], retention: float | None = None
    ) -> tuple[list[Entry], asyncio.Future[None]]:
        """Give the events their numbers; return them, and what is done when they are stored."""
        tail.closing = retention is not None
        entries, sizes, texts = [], [], []
        first = tail.given + 1
        for seq, (kind, payload) in enumerate(said, first):
            text = _stored(kind, payload)
            entries.append(Entry(run, seq, kind, payload))
            sizes.append(OVERHEAD + len(text[1]))
            texts.append(text)
        tail.given += len(entries)
        before = tail.size
        trim = tail.grow(sizes, self.run_bytes)
        step = Step(run, first, texts, tail.size - before, trim, retention)
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(tail, step, entries, sizes, stored))
        self._asked.set()
        return entries, stored

    async def _committing(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._pending:
                await asyncio.sleep(0)  # whoever was just told of a commit may have more for this
                batch = self._pending[: self.store.limit]
                del self._pending[: self.store.limit]
                try:
                    for producer in sorted({pending.tail.producer for pending in batch}):
                        under = [one for one in batch if one.tail.producer == producer]
                        await self._commit(producer, under)
                finally:
                    self._refuse(batch)  # where we were stopped in its midst

    def _refuse(self, batch: Sequence[_Pending]) -> None:
        """Let nobody wait for what is not stored any more."""
        for pending in batch:
            pending.refuse("the log is closed")

    async def _commit(self, producer: int, batch: Sequence[_Pending]) -> None:
        """Commit what is pending under one lease: after a lease was given up there are two."""
        held = [pending for pending in batch if self._tails.get(pending.step.run) is pending.tail]
        lost: set[str] = set()
        if len(held) < len(batch):
            lost = {one.step.run for one in batch} - {one.step.run for one in held}
        if held:
            try:
                lost |= await self.store.commit(producer, [pending.step for pending in held])
            except LogUnavailable as unavailable:
                logger.error("%s", unavailable)
                self._give_up(producer)
                lost = {pending.step.run for pending in batch}
        for pending in batch:
            run = pending.step.run
            if run in lost:
                self._lose(run)
                pending.refuse(f"run {run} is no longer held here")
            else:
                pending.publish()

    def _broken(self, task: asyncio.Task[None]) -> None:
        """Give up when our own work broke, rather than let runs hang whose events nobody stores."""
        if not task.cancelled():
            logger.critical("the event log broke", exc_info=task.exception())
            if self._producer is not None:
                self._give_up(self._producer)

    def _lose(self, run: str) -> None:
        """Stop counting a run as ours; its readers look into the store from now on."""
        tail = self._tails.pop(run, None)
        if tail is not None:
            tail.wake()
            if not tail.closed:
                self._producing.lost(run)

    def _give_up(self, producer: int) -> None:
        """Give a lease up, and every run under it."""
        if self._producer == producer:
            self._producer = None
            self._given_up.append(producer)
        for run in [run for run, tail in self._tails.items() if tail.producer == producer]:
            self._lose(run)

    async def _keeping(self) -> None:
        """Renew our lease, in a task of its own: whatever else there is to do may take longer."""
        reached = True
        while True:
            await asyncio.sleep(self._lease / RENEWALS if reached else min(RETRY, self._lease / 4))
            try:
                await self._keep_lease()
            except LogUnavailable as unavailable:
                if reached:
                    logger.error("%s", unavailable)
                reached = False
            else:
                reached = True

    async def _tidying(self) -> None:
        """End what others left, free what is over."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS)
            with suppress(LogUnavailable):  # `_keeping` says so
                await self._keep_lease()  # or we might end our own runs, late as we are
                for run in await self.store.abandoned():
                    await self._end_abandoned(run)
                await self.store.sweep()

    async def _keep_lease(self) -> int:
        """Renew our lease, or take a new one; return its number."""
        async with self._leasing:
            held = self._producer
            if held is not None and not await self.store.renew(held, self._lease):
                self._give_up(held)
            if self._producer is None:
                while self._given_up:
                    await self.store.release(self._given_up[-1])
                    self._given_up.pop()
                self._producer = await self.store.register(self._lease)
            return self._producer

    async def _end_abandoned(self, run: str) -> None:
        with suppress(UnknownRun):  # it may have been forgotten meanwhile
            await self.store.end(run, self._last_words, if_abandoned=True)

    @contextmanager
    def _watching(self, run: str, after: int) -> Iterator[asyncio.Event]:
        watch = self._watches.setdefault(run, _Watch())
        watch.after.append(after)
        self._listened.set()
        try:
            yield watch.pulse
        finally:
            watch.after.remove(after)
            if not watch.after and self._watches.get(run) is watch:
                del self._watches[run]

    async def _listening(self) -> None:
        """Wake the readers of other processes' runs, and read what others write to us."""
        while True:
            if not (self._watches or self._tails):
                self._listened.clear()
                await self._listened.wait()
            waiting = {run: min(watch.after) for run, watch in self._watches.items()}
            try:
                news = await self.store.news(self._producer, waiting)
            except LogUnavailable:
                for run in list(self._watches):
                    self._wake(run)  # they ask the store themselves, and hear the same
                await asyncio.sleep(RETRY)
                continue
            for run in news.grown:
                self._wake(run)
            for letter in news.letters:
                await self._read(letter)

    async def _read(self, letter: Letter) -> None:
        if letter.request_id is None:
            self._lose(letter.run)
            return
        answer = self._producing.answer(letter.run, letter.request_id, letter.text)
        with suppress(LogUnavailable):  # then whoever asked waits no longer than REPLY
            await self.store.reply(letter, answer)

    def _wake(self, run: str) -> None:
        watch = self._watches.pop(run, None)
        if watch is not None:
            watch.pulse.set()


def _stored(kind: str, payload: Mapping[str, Any]) -> tuple[str, str]:
    return kind, _ENCODER.encode(payload)
