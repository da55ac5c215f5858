"""The reference client: starts runs, records every exchange, joins a run again when it breaks off.

It does what a careful client does, no more: it never posts a run again by itself, drops nothing
that was sent twice, and says when it had to make up an end.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import anyio.to_thread

from pytest_agentstream.cookies import Jar
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.reconnecting import GivenUp, Reconnecting, variables
from pytest_agentstream.recorder import Recorder, Room, no_lag
from pytest_agentstream.recording import Recording, Run
from pytest_agentstream.requesting import Requests, moved, redirect, same_origin
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.setting_up import captures
from pytest_agentstream.target import Scenario
from pytest_agentstream.tolerances import WATCH_AFTER_TERMINAL
from pytest_agentstream.transport import HttpTransport, UnsendableRequest
from pytest_agentstream.watching import TerminalWatch, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Request
    from pytest_agentstream.target import Target, Timeouts
    from pytest_agentstream.transport import Transport
    from pytest_agentstream.wire import Block

MOST_REDIRECTS = 5
SHORTEST = 0.001
PATIENCE = 30.0
"""Seconds; a server that asks for a longer wait than this is not waited for."""


class Client:
    """A client of one target in its dialect.

    `seed` makes the waits between attempts repeatable; it is the target's by default. `lag` says by
    how many seconds the event loop was late since a time of `time.perf_counter`. `env` is the
    environment for `{env:NAME}`. `room` bounds what all recordings together may take; once it is
    full, every exchange ends with LIMIT.
    """

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        *,
        transport: Transport | None = None,
        seed: int | None = None,
        lag: Callable[[float], float] = no_lag,
        denied: Callable[[float], float] = no_lag,
        env: Mapping[str, str] | None = None,
        room: Room | None = None,
    ) -> None:
        self._target = target
        self._dialect = dialect
        self._profile = dialect.profile
        self._transport = transport or HttpTransport(
            ca_file=target.ca_file, trust_env=target.trust_env
        )
        self._direct = self._transport
        self._seed = target.seed if seed is None else seed
        self._lag = lag
        self._denied = denied
        self.room = room or Room()
        self._requests = Requests(target, dialect.profile, os.environ if env is None else env)
        self._home = ""

    @property
    def target(self) -> Target:
        return self._target

    def over(self, transport: Transport) -> Client:
        """Return the same client over another transport."""
        other = copy(self)
        other._transport = transport
        return other

    def at(self, target: Target) -> Client:
        """Return the same client for a replica: what would go to the one's origin goes there."""
        other = copy(self)
        other._target = target
        other._home = self._home or self._target.origin
        return other

    def unkept(self) -> Client:
        """Return the same client for what nobody keeps: it takes no room from recordings."""
        other = copy(self)
        other.room = Room()
        return other

    @asynccontextmanager
    async def keeping_alive(self) -> AsyncIterator[Client]:
        """Yield the same client over one connection that is used again as long as it stands."""
        async with self._transport.keeping_alive(self._target.url) as kept:
            yield self.over(kept)

    @property
    def secrets(self) -> frozenset[str]:
        """What templates took from the environment so far, to be redacted."""
        return frozenset(self._requests.secrets)

    async def run(
        self,
        name: str = "complete",
        scenario: Scenario | None = None,
        control: str = "default",
        *,
        reconnect: bool = True,
        headers: Mapping[str, str | None] | None = None,
        on_block: Callable[[Block], Watch | None] | None = None,
        watch: float = WATCH_AFTER_TERMINAL,
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
        patience: float = PATIENCE,
        kept: list[Recording] | None = None,
    ) -> Run:
        """Start a run and follow it to its terminal, joining it again where the dialect can.

        A refused start is not tried again: the run then has that one exchange. `headers` replace
        those of the start request, None leaves one out. `on_block` may stop an exchange, and with
        it the run. Behind a terminal the client reads on for `watch` seconds. A server that asks
        for a wait of more than `patience` seconds is given up, and so is a run that is not over
        within the `end` of its time-outs, all its waits included, or half of which it asks to wait.
        Each exchange is appended to `kept` as it ends, also where the run is cancelled
        in it.

        Raises `SetupFailed`, `TemplateError`, `ForeignOrigin`, `UnsendableRequest`.
        """
        scenario = scenario or Scenario()
        terminals = TerminalWatch(self._dialect)
        trip = _Trip(timeouts or self._target.timeouts, on_block, watch, terminals, kept)
        prompt = self._profile.start.prompt if scenario.prompt is None else scenario.prompt
        asked = {"uuid": str(uuid4()), "prompt": prompt}
        captured = asked | await self._set_up(asked, trip)
        request = self._requests.start(scenario, captured, headers)
        backoff = backoff or Backoff(Random(f"{self._seed} {name}"))
        reconnecting = Reconnecting(self._dialect, self._requests, backoff, patience)
        limits, began, to_wait = trip.timeouts, time.perf_counter(), 0.0
        exchanges = [await self._exchange(request, trip)]
        while True:
            run = Run(name, control, tuple(exchanges), "", tuple(captured.items()))
            if terminals.seen:
                return run
            # in a thread: reading thousands of events would delay every other exchange
            events = await anyio.to_thread.run_sync(self._dialect.events, run.last)
            if any(event.role is Role.TERMINAL for event in events):
                return run
            if not reconnect:
                return replace(run, synthetic=reconnecting.decide(run, events).why)
            step = reconnecting.next(run, events)
            if isinstance(step, GivenUp):
                return replace(run, synthetic=step.why, unwaited=step.unwaited)
            to_wait += step.asked
            if to_wait > limits.end / 2:
                unwaited = (
                    f"the server asked for waits of {to_wait:g} s, "
                    f"of {limits.end:g} s for the whole run"
                )
                return replace(
                    run, synthetic=f"{step.why}; given up: {unwaited}", unwaited=unwaited
                )
            over = began + limits.end - step.wait
            if time.perf_counter() >= over:
                late = f"given up: the run is not over within {limits.end:g} s"
                return replace(run, synthetic=f"{step.why}; {late}")
            await anyio.sleep(step.wait)
            left = max(began + limits.end - time.perf_counter(), SHORTEST)
            trip.timeouts = limits.model_copy(update={"end": round(left, 3)})
            try:
                exchanges.append(await self._exchange(step.request, trip))
            except UnsendableRequest as error:  # by the cursor, which is the server's
                return replace(run, synthetic=f"{step.why}; not resumed: {error}")

    async def once(
        self,
        name: str = "complete",
        scenario: Scenario | None = None,
        control: str = "default",
        **options: Any,
    ) -> Run:
        """Start a run and record that one exchange; `options` are those of `run`."""
        return await self.run(name, scenario, control, reconnect=False, **options)

    async def start(
        self,
        name: str = "complete",
        scenario: Scenario | None = None,
        control: str = "default",
        **options: Any,
    ) -> Recording:
        """Start a run and return the recording of that one exchange; else as `once`."""
        return (await self.once(name, scenario, control, **options)).first

    async def resume(
        self,
        run: Run,
        cursor: str | None,
        *,
        same_request: bool = False,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        on_block: Callable[[Block], Watch | None] | None = None,
        watch: float = WATCH_AFTER_TERMINAL,
        timeouts: Timeouts | None = None,
        kept: list[Recording] | None = None,
    ) -> Recording:
        """Join a run again in one exchange, behind `cursor`, whatever that is; None sends none.

        With `same_request` the start request is repeated with the cursor in `Last-Event-ID`.
        `headers` and `query` are added to what the dialect's resume sends; a header that is None is
        left out. Else as `run`. Raises `CannotResume` where dialect and server leave no way.
        """
        terminals = TerminalWatch(self._dialect)
        trip = _Trip(timeouts or self._target.timeouts, on_block, watch, terminals, kept)
        trip.jar = Jar.of(run.exchanges)
        request = self._requests.resume(
            run.first.request,
            cursor,
            variables(self._dialect, run),
            same_request=same_request,
            headers=headers,
            query=query,
        )
        return await self._exchange(request, trip)

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        of: Run | None = None,
        values: Mapping[str, str] | None = None,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes = b"",
        on_block: Callable[[Block], Watch | None] | None = None,
        timeouts: Timeouts | None = None,
        kept: list[Recording] | None = None,
    ) -> Recording:
        """Send any other request to the target's origin; an empty path is the start endpoint.

        With `of` the request has that run's cookies, and templates know its `{run}`, `{location}`
        and captured values; `values` are more of these. No redirect is followed. Raises
        `ForeignOrigin`, `TemplateError`, `UnsendableRequest`.
        """
        trip = _Trip(timeouts or self._target.timeouts, on_block, 0.0, None, kept)
        known = {"uuid": str(uuid4()), "prompt": self._profile.start.prompt}
        if of is not None:
            trip.jar = Jar.of(of.exchanges)
            known |= variables(self._dialect, of)
        known |= values or {}
        request = self._requests.other(
            method, path, known, headers=headers, query=query, json_body=json, body=body
        )
        return await self._record(request, trip)

    async def _set_up(self, asked: Mapping[str, str], trip: _Trip) -> dict[str, str]:
        found: dict[str, str] = {}
        trip = _Trip(trip.timeouts, None, 0.0, None, trip.kept, trip.jar)
        for step in self._target.setup:
            request = self._requests.set_up(step, {**asked, **found})
            # around what the run goes through: a fault is meant for the run, not for its set-up
            found |= captures(step, await self.over(self._direct)._exchange(request, trip))
        return found

    async def _exchange(self, request: Request, trip: _Trip) -> Recording:
        """Carry out an exchange, and those that it is redirected to; the last one is returned."""
        notes: tuple[str, ...] = ()
        for _ in range(MOST_REDIRECTS):
            recording = await self._record(request, trip, notes)
            further = redirect(recording)
            if further is None:
                return recording
            if not same_origin(further, self._target.origin):
                note = f"not followed to another origin: {further}"
                return replace(recording, notes=(*recording.notes, note))
            notes = (*notes, f"{recording.status} at {request.url}, followed")
            request = replace(request, url=further)
        note = f"not followed any more: {MOST_REDIRECTS} redirects in a row"
        return await self._record(request, trip, (*notes, note))

    async def _record(
        self, request: Request, trip: _Trip, notes: tuple[str, ...] = ()
    ) -> Recording:
        if self._home and same_origin(request.url, self._home):
            request = replace(request, url=moved(request.url, self._target.origin))
        recorder = Recorder(
            room=self.room, lag_since=self._lag, denied_since=self._denied, notes=notes
        )
        try:
            return await self._transport.exchange(
                request,
                timeouts=trip.timeouts,
                recorder=recorder,
                jar=trip.jar,
                on_block=lambda block: trip.asked(block, recorder),
            )
        finally:
            if trip.kept is not None and recorder.begun:
                trip.kept.append(recorder.recording)


@dataclass
class _Trip:
    """What the exchanges of one call have in common."""

    timeouts: Timeouts
    on_block: Callable[[Block], Watch | None] | None
    watch: float
    terminals: TerminalWatch | None
    kept: list[Recording] | None
    jar: Jar = field(default_factory=Jar)

    def asked(self, block: Block, recorder: Recorder) -> Watch | None:
        """Return the shorter of what the caller asks for and what a terminal means."""
        asked = self.on_block(block) if self.on_block else None
        if self.terminals is None or not self.terminals.is_terminal(block, recorder):
            return asked
        why = f"read on for {self.watch:g} s behind the terminal"
        if asked is not None and asked.seconds <= self.watch:
            return asked
        return Watch(self.watch, why)
