"""Run probes in one background event loop: all at once, exclusive ones afterwards and alone."""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as Late
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from pytest_agentstream.doubling import NAME as DOUBLE
from pytest_agentstream.probing import RESOURCES, Probe, closure
from pytest_agentstream.verdicts import ControlBroken, NotTested, Outcome, ServerDied, ServerGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from types import CodeType, TracebackType

T = TypeVar("T")

POLL = 0.1
GIVE_UP = 1.0
LONGEST_BLOCK = 60.0
"""Seconds without a turn of the loop after which it is given up, whoever holds it."""


class ProbeError(Exception):
    """A probe did not come to an end of its own: it broke, ran out of time, or was cancelled."""


class Resources(Protocol):
    """What supplies the resources of probes, inside the background loop."""

    async def supply(self, name: str, probe: Probe) -> object:
        """The resource of that name for that probe."""

    def permit(self, probe: Probe) -> None:
        """Raise an `Outcome` for a probe that may not run."""

    async def restore(self, *, alone: bool = False) -> bool:
        """Have the server as it was, before and after a probe that has it for itself.

        `alone` says that such a probe follows. Return whether the server can be started at all.
        """

    async def background(self) -> None:
        """Run beside the probes until cancelled."""

    def timeout(self, probe: Probe) -> float:
        """The probe's bound, in seconds."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a probe held a place of its own in the loop; what it waited for before is left out.

    `needs` names the probes that had to end before; `alone` says that nothing else ran beside it.
    `asks` says whether it asked the server anything itself. `started` and `ended` are
    `time.monotonic` seconds.
    """

    name: str
    needs: tuple[str, ...]
    alone: bool
    started: float
    ended: float
    asks: bool = True

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(eq=False)
class _Job:
    """One run of a probe, which gets what it needs from those it is `among`."""

    probe: Probe
    among: dict[Probe, _Job]
    alone: bool = False
    future: Future[Any] = field(default_factory=Future)
    done: anyio.Event = field(default_factory=anyio.Event)
    traceback: TracebackType | None = None

    def finish(self, value: object = None, error: BaseException | None = None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.traceback = error.__traceback__
            self.future.set_exception(error)
        self.done.set()


class Scheduler:
    """Start probes and hand out their results to a synchronous caller.

    At most `concurrency` probes run at once; an exclusive one waits for all others. Whatever a
    probe raises is stored and raised to those who ask for its result, and disturbs no other probe.
    `timings` has one entry for each probe that has ended, in that order; again counts again.
    """

    def __init__(self, resources: Resources, *, concurrency: int = 16) -> None:
        self.timings: list[Timing] = []
        self._resources = resources
        self._concurrency = concurrency
        self._jobs: dict[Probe, _Job] = {}
        self._repeated: list[dict[Probe, _Job]] = []
        self._recovered: set[Probe] = set()
        self._began: dict[_Job, float] = {}
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._stopped = threading.Event()
        self._thread = 0
        self._turned = 0.0

    def start(self, probes: Iterable[Probe]) -> None:
        """Start the probes and all that they need; those already started are left as they are."""
        wanted = [one for one in closure(probes) if one not in self._jobs]
        if self._stopped.is_set():
            return
        if self._portal is None:
            self._open()
        if wanted and self._portal is not None:
            self._wait(self._portal.start_task_soon(self._spawn, wanted))

    def result(self, probe: Probe) -> Any:
        """Wait for a probe and return what it returned, or raise what it raised.

        Raises `ProbeError` for a probe that broke or was cancelled, and `Outcome`s as they are.
        """
        __tracebackhide__ = True
        self.start([probe])
        job = self._jobs.get(probe)
        if job is None:
            raise ProbeError(f"the probe `{probe.name}` was not started: the session has ended")
        return self._result(job)

    def _result(self, job: _Job) -> Any:
        __tracebackhide__ = True
        try:
            return self._wait(job.future)
        except CancelledError:
            raise ProbeError(f"the probe `{job.probe.name}` was cancelled") from None
        except (Outcome, ProbeError) as error:
            raise error.with_traceback(job.traceback)  # noqa: B904 - the same error, its own traceback

    def again(self, probes: Iterable[Probe]) -> Iterator[Again]:
        """Run probes and what they need once more, each alone, and yield their results.

        Where others had that done before for all of these, the results then come first. They
        replace nothing: what a probe gave is judged beside what it was built on.
        """
        wanted = closure(probes)
        for jobs in self._repeated:
            if all(one in jobs for one in wanted):
                yield Again(self, jobs)
        if self._portal is None or self._stopped.is_set():
            return
        jobs = {}
        self._wait(self._portal.start_task_soon(self._alone, wanted, jobs))
        self._repeated.append(jobs)
        yield Again(self, jobs)

    def recover(self, probes: Iterable[Probe]) -> bool:
        """Run those once more, each alone, that were lost with a server which ended in their midst.

        Whether there were any: each is tried again once, and only where the server can be started.
        """
        lost = [one for one in closure(probes) if one not in self._recovered and self._lost(one)]
        if not lost or self._portal is None or self._stopped.is_set():
            return False
        self._recovered.update(lost)
        return self._wait(self._portal.start_task_soon(self._recover, tuple(lost)))

    def _lost(self, probe: Probe) -> bool:
        job = self._jobs.get(probe)
        error = job.future.exception() if job is not None and job.future.done() else None
        return isinstance(error, ServerGone | ServerDied)

    @property
    def so_far(self) -> list[Timing]:
        """`timings`, and probes that are under way: as if they ended now."""
        under_way = [self._timing(job, began) for job, began in list(self._began.items())]
        return [*self.timings, *under_way]

    def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Run an async function in the background loop and return its result."""
        if self._stopped.is_set():
            raise ProbeError("the session has ended")
        if self._portal is None:
            self._open()
        assert self._portal is not None
        return self._wait(self._portal.start_task_soon(function, *args))

    def close(self) -> None:
        """Cancel what still runs and end the loop, within two seconds whatever a probe does."""
        self._stopped.set()
        portal, self._portal = self._portal, None
        if portal is None:
            return
        stop = threading.Thread(target=self._end, args=(portal,), daemon=True)
        stop.start()
        stop.join(GIVE_UP)
        if stop.is_alive():
            sys.stderr.write("\nagentstream: a probe blocks its event loop; it was abandoned\n")

    def _end(self, portal: BlockingPortal) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            portal.call(portal.stop, True)
        self._stack.close()

    def _wait(self, future: Future[T]) -> T:
        """The future's result; polling keeps Ctrl-C alive, and notices a loop that never turns."""
        __tracebackhide__ = True
        while not future.done():
            with suppress(Late):
                future.exception(timeout=POLL)
                break
            self._give_up_if_blocked()
        return future.result()

    def _give_up_if_blocked(self) -> None:
        """Abandon the loop once a probe has held it for longer than the probe may take."""
        still = time.monotonic() - self._turned
        if self._stopped.is_set() or still < GIVE_UP:
            return
        codes = _codes_on(self._thread)
        holding = [one for one in self._jobs if one.function.__code__ in codes]
        limits = [self._resources.timeout(one) for one in holding]
        if still < min(limits, default=LONGEST_BLOCK):
            return
        self._stopped.set()
        names = " or ".join(f"`{one.name}`" for one in holding) or "something unknown"
        why = f"the event loop was held for {still:.0f} s by {names}: a probe must not block"
        for job in self._jobs.values():
            if not job.future.done():
                job.future.set_exception(ProbeError(f"`{job.probe.name}` was abandoned: {why}"))
        raise ProbeError(why)

    def _open(self) -> None:
        with _undisturbed():  # by Ctrl-C: half a portal would be waited for without end
            self._portal = self._stack.enter_context(
                start_blocking_portal("asyncio", name="agentstream-probes")
            )
            ready: Future[None] = Future()
            self._portal.start_task_soon(self._live, ready)
            ready.result()

    async def _live(self, ready: Future[None]) -> None:
        _mask(signal.SIG_UNBLOCK)  # or processes that this thread starts would never hear of it
        self._limiter = anyio.CapacityLimiter(self._concurrency)
        self._lock = anyio.Lock()
        self._running = 0
        self._calm = anyio.Event()
        try:
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self._resources.background)
                self._thread = threading.get_ident()
                self._turned = time.monotonic()
                ready.set_result(None)
                while True:
                    self._turned = time.monotonic()
                    await anyio.sleep(POLL)
        finally:
            for job in self._jobs.values():
                job.finish(error=ProbeError(f"`{job.probe.name}`: the session ended before it did"))

    async def _spawn(self, probes: list[Probe]) -> None:
        jobs = [_Job(one, self._jobs) for one in probes]
        self._jobs.update({job.probe: job for job in jobs})
        for job in jobs:
            self._group.start_soon(
                self._exclusive if _is_exclusive(job.probe) else self._shared, job
            )

    async def _shared(self, job: _Job) -> None:
        self._running += 1
        try:
            async with _Settled(job):
                values = await self._values(job)
                async with self._limiter:
                    await self._run(job, values)
        finally:
            self._running -= 1
            if not self._running:
                self._calm.set()
                self._calm = anyio.Event()

    async def _exclusive(self, job: _Job) -> None:
        async with _Settled(job):
            values = await self._values(job)
            async with self._lock:
                while self._running:
                    await self._calm.wait()
                job.alone = True
                await self._resources.restore(alone=True)
                try:
                    await self._run(job, values)
                finally:
                    with anyio.CancelScope(shield=not self._stopped.is_set()):
                        await self._resources.restore()

    async def _recover(self, probes: tuple[Probe, ...]) -> bool:
        async with self._lock:
            while self._running:
                await self._calm.wait()
            if not await self._resources.restore():
                return False
        await self._alone(probes, self._jobs)
        return True

    async def _alone(self, probes: tuple[Probe, ...], jobs: dict[Probe, _Job]) -> None:
        for one in probes:
            jobs[one] = _Job(one, jobs)
            await self._exclusive(jobs[one])

    async def _values(self, job: _Job) -> Mapping[str, object]:
        """Wait for what the probe needs: outside of the limiter, or probes would dead-lock."""
        self._resources.permit(job.probe)
        values: dict[str, object] = {}
        for needed in job.probe.needs:
            source = job.among[needed]
            await source.done.wait()
            error = source.future.exception()
            if _is_wanting(error) and needed.name in job.probe.optional:
                values[needed.name] = None
            elif isinstance(error, Outcome):
                raise error
            elif error is not None:
                raise ProbeError(f"`{job.probe.name}` needs `{needed.name}`: {error}") from error
            else:
                values[needed.name] = source.future.result()
        for name in job.probe.parameters:
            if name in RESOURCES:
                values[name] = await self._resource(name, job.probe)
        return MappingProxyType(values)

    async def _resource(self, name: str, probe: Probe) -> object:
        try:
            return await self._resources.supply(name, probe)
        except NotTested:
            if name not in probe.optional:
                raise
            return None

    async def _run(self, job: _Job, values: Mapping[str, object]) -> None:
        limit = self._resources.timeout(job.probe)
        began = self._began[job] = time.monotonic()
        try:
            with anyio.move_on_after(limit) as scope:
                value = await job.probe.function(**{n: values[n] for n in job.probe.parameters})
        finally:
            self.timings.append(self._timing(job, began))
            del self._began[job]
        if scope.cancelled_caught:
            raise ProbeError(f"the probe `{job.probe.name}` did not end in {limit:g} s")
        took = time.monotonic() - began
        if took > limit:  # it never let go of the loop, so that nothing could cancel it
            raise ProbeError(
                f"the probe `{job.probe.name}` took {took:.1f} s, of {limit:g} s at most"
            )
        job.finish(value)

    def _timing(self, job: _Job, began: float) -> Timing:
        one = job.probe
        needs = tuple(needed.name for needed in one.needs)
        return Timing(one.name, needs, job.alone, began, time.monotonic(), one.asks)


@dataclass(frozen=True, slots=True)
class Again:
    """The results of probes that were run once more: those of one time, and no others."""

    scheduler: Scheduler
    jobs: Mapping[Probe, _Job]

    def result(self, probe: Probe) -> Any:
        """See `Scheduler.result`; only what that time was run for is known."""
        __tracebackhide__ = True
        return self.scheduler._result(self.jobs[probe])

    def again(self, _probes: Iterable[Probe]) -> Iterator[Again]:
        """Twice is enough."""
        return iter(())

    def recover(self, _probes: Iterable[Probe]) -> bool:
        """A server that ends in a second look has ended; it is not started for a third."""
        return False


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back SIGINT for a moment; it comes behind it."""
    _mask(signal.SIG_BLOCK)
    try:
        yield
    finally:
        _mask(signal.SIG_UNBLOCK)


def _mask(how: int) -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(how, {signal.SIGINT})


def _codes_on(thread: int) -> set[CodeType]:
    """What a thread is in the midst of."""
    frame, found = sys._current_frames().get(thread), set()
    while frame is not None:
        found.add(frame.f_code)
        frame = frame.f_back
    return found


def _meant(error: BaseException) -> BaseException:
    """What is meant in an exception group of nothing but outcomes, or the error itself.

    That is the server's death, whatever else came of it.
    """
    while isinstance(error, BaseExceptionGroup):
        if error.split((Outcome, ProbeError))[1] is not None:
            break
        error = (error.subgroup(ServerDied) or error).exceptions[0]
    return error


def _is_wanting(error: object) -> bool:
    """Whether it says that nothing is known, be it for want of the LLM that was promised."""
    unasked = isinstance(error, ControlBroken) and error.scenario == DOUBLE
    return unasked or isinstance(error, NotTested)


def _is_exclusive(probe: Probe) -> bool:
    """Whether it, or anything it needs, wants the server for itself."""
    return any(one.exclusive for one in closure([probe]))


class _Settled:
    """Turn whatever leaves the body into the job's result; only cancellation goes on."""

    def __init__(self, job: _Job) -> None:
        self._job = job

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, anyio.get_cancelled_exc_class()):
            self._job.finish(error=ProbeError(f"the probe `{self._job.probe.name}` was cancelled"))
            return False
        error = _meant(error)
        if isinstance(error, Outcome | ProbeError):
            self._job.finish(error=error)
            return True
        broken = ProbeError(f"the probe `{self._job.probe.name}` broke: {error!r}")
        broken.__cause__ = error
        broken.__traceback__ = traceback
        self._job.finish(error=broken)
        return True
