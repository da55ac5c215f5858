"""The client as a probe gets it: finds controls, counts runs, notices a server that is gone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio

from pytest_agentstream.controls import Control, control_of
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.faults import FaultProxy
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.requesting import DEFAULT_PORTS
from pytest_agentstream.retrying import Backoff, parse_retry_after
from pytest_agentstream.setting_up import SetupFailed
from pytest_agentstream.templates import TemplateError, render
from pytest_agentstream.transport import HttpTransport
from pytest_agentstream.verdicts import NotTested, ServerGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from pytest_agentstream.client import Client
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.faults import Fault
    from pytest_agentstream.ledger import Ledger
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block

THROTTLED = frozenset({429, 503})
PROVOKED = ("crash", "fail")
"""Scenarios, by how they begin, to which a 503 is an answer and no sign of overload."""

DEADLY = frozenset({EndKind.REFUSED, EndKind.CUT, EndKind.RESET})
"""Ends behind which there may be no server any more."""

KNOCKS, KNOCK_PAUSE = 3, 0.3
"""How often, and every how many seconds, a server is tried before it counts as gone."""

PATIENCE = 3
REPLAY_LIMIT = 10.0
"""Seconds; a finished run is read back sooner than a run is waited for."""

LONGEST_PAUSE = 10.0
"""Seconds; a Retry-After beyond it is cut to it."""


class _OnceItStreams(Backoff):
    """Join a run again only where it has shown an event: one that never did is refused."""

    _streams = False

    def progress(self) -> None:
        self._streams = True
        super().progress()

    @property
    def exhausted(self) -> str:
        return super().exhausted if self._streams else "no event came"


class Driver:
    """Drive one server under test for one probe.

    `interval` is the promised heartbeat interval H in seconds, or None.
    """

    def __init__(
        self,
        client: Client,
        target: Target,
        dialect: Dialect,
        ledger: Ledger,
        asker: str,
        fault: str = "",
    ) -> None:
        self._client = client
        self._target = target
        self._dialect = dialect
        self._ledger = ledger
        self._asker = asker
        self._fault = fault
        self._has_turn = False

    @property
    def interval(self) -> float | None:
        return self._target.heartbeat or self._dialect.profile.heartbeat.interval

    def control(self, scenario: str) -> Control:
        """How the scenario is asked for; raises `NotTested` where there is no way."""
        return control_of(self._target, scenario, self.interval)

    async def first_run(self) -> Observation:
        """Start the preflight's run and follow it; an answer without events is not asked again.

        Raises `NotTested` above the limit of runs, and what `Client.run` raises.
        """
        control = self.control("complete")
        self._ledger.begin()
        backoff = _OnceItStreams(Random(self._target.seed))
        run = await self._client.run("complete", control.scenario, control.name, backoff=backoff)
        return self._ledger.keep(run, self._dialect, control)

    async def run(self, scenario: str, **options: Any) -> Observation:
        """Start one run and follow it as a client would, reconnecting where that is right.

        `options` are those of `Client.run`. An unprovoked 429 or 503 is waited out. Raises
        `NotTested` without a control, above the limit of runs, while the server stays overloaded,
        and `ServerGone` once it does not accept connections any more.
        """
        control = self.control(scenario)
        overload = THROTTLED - {503} if scenario.startswith(PROVOKED) else THROTTLED
        for attempt in range(1, PATIENCE + 1):
            async with self._turn():
                self._stop_if_gone()
                self._ledger.begin()
                run = await self._started(scenario, control, options)
            refused = run.first.end.kind is EndKind.REFUSED and not self._fault
            if run.first.status not in overload and not refused:
                seen = self._ledger.keep(run, self._dialect, control)
                self._stop_if_refused(scenario, run)
                return seen
            self._ledger.note(run.first)
            self._ledger.throttled += 1
            if attempt < PATIENCE:
                await anyio.sleep(_pause(run.first, attempt))
        said = f"answered {run.first.status}" if run.first.head else "refused the connection"
        raise NotTested(
            f"the server {said} to `{scenario}` {PATIENCE} times",
            "slow down: --agentstream-concurrency 1",
        )

    def _stop_if_refused(self, scenario: str, run: Run) -> None:
        """Raise `NotTested` where no agent ran at all: a wrong mapping, not a way to fail."""
        status = run.first.status or 0
        if scenario == "complete" or not 400 <= status < 500:
            return
        if scenario != "fail":  # an agent may well say itself that it was asked the wrong thing
            self._ledger.refused[scenario] = status
        raise NotTested(
            f"the server refused `{scenario}`: status {status}",
            f"mend its mapping: [tool.agentstream.scenarios] {scenario} = …",
        )

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for one's turn, once the server has been overloaded; one probe has one turn."""
        if not self._ledger.throttled or self._has_turn:
            yield
            return
        async with self._ledger.turn:
            self._has_turn = True
            try:
                yield
            finally:
                self._has_turn = False

    async def _started(self, scenario: str, control: Control, options: dict[str, Any]) -> Run:
        try:
            label = f"{control.name}, through {self._fault}" if self._fault else control.name
            run = await self._client.run(scenario, control.scenario, label, **options)
        except SetupFailed as failure:
            self._ledger.note(failure.recording)
            raise NotTested(str(failure), "mend that step: [[tool.agentstream.setup]]") from None
        if (
            run.last.end.kind in DEADLY
            and not await self._listens()
            and not self._ledger.lose(self._asker, run)
        ):
            self._stop_if_gone()
        if run.last.end.kind is EndKind.LIMIT:
            self._stop_if_full()
        return run

    async def start(self, control: Control, *, joins: bool = False, **options: Any) -> Recording:
        """Send one start request and record that one exchange.

        One that is refused is not counted as a run, nor one that `joins` a run by its key.
        """
        self._stop_if_gone()
        self._ledger.begin()
        answer = await self._client.start("complete", control.scenario, control.name, **options)
        if joins or (answer.status is not None and answer.status >= 400):
            self._ledger.give_back()
        return await self._noted(answer)

    def count(self) -> None:
        """Count a run that the server started although it was not asked to."""
        self._ledger.add()

    def unique(self) -> str:
        """Return a text that no other request of any session has."""
        return uuid4().hex

    async def run_and_answer(self, scenario: str) -> Observation:
        """Start a run that waits for a person, and answer as soon as its stream asks.

        Where the dialect declares no way to answer, the run is left to its own end.
        """
        self.control(scenario)
        asked = anyio.Event()
        asking: list[Event] = []

        def notice(block: Block) -> None:
            if not asking:
                asking.extend(e for e in self.events_of(block) if e.role is Role.INPUT)
            if asking:
                asked.set()

        async def answer() -> None:
            await asked.wait()
            await self._answer(asking[0])

        async with anyio.create_task_group() as beside:
            if self._dialect.profile.resume.answer is not None:
                beside.start_soon(answer)
            seen = await self.run(scenario, on_block=notice)
            beside.cancel_scope.cancel()
        return seen

    def events_of(self, block: Block) -> tuple[Event, ...]:
        """Return the event of a block that has just come in, while its exchange goes on."""
        head = Head(200, "", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.0)
        chunk, end = Chunk(block.at, block.raw), End(EndKind.STOPPED, block.at)
        return self._dialect.events(
            Recording(Request("GET", self._target.url), head, (chunk,), end)
        )

    async def _answer(self, event: Event) -> None:
        resume = self._dialect.profile.resume
        method, _, path = (resume.answer or "").partition(" ")
        fields = event.payload if isinstance(event.payload, dict) else {}
        known = {name: value for name, value in fields.items() if isinstance(value, str)}
        body = render(resume.answer_json, {"prompt": "yes", **known}, {})
        try:
            await self.request(method, path, of=Run("", "", (event.exchange,)), json=body)
        except TemplateError as error:
            raise NotTested(f"the run cannot be answered: {error}") from None

    def over(self, client: Client, fault: str = "") -> Driver:
        """Return the same driver with another client; `fault` says what that one goes through."""
        return Driver(client, self._target, self._dialect, self._ledger, self._asker, fault)

    @asynccontextmanager
    async def through(self, *plans: Iterable[Fault], repeat: bool = False) -> AsyncIterator[Driver]:
        """Yield a driver whose n-th connection suffers the n-th plan; see `faults.Faults`."""
        target = self._target
        async with FaultProxy(target.url, ca_file=target.ca_file, seed=target.seed) as proxy:
            await proxy.script(*plans, repeat=repeat)
            transport = HttpTransport(ca_file=target.ca_file, via=proxy.address)
            yield self.over(self._client.over(transport), proxy.describe())

    async def join(self, event: Event) -> Recording:
        """Join a run behind one of its events, known from nothing else, while it goes on.

        Raises `NotTested` where the dialect gives a run no address.
        """
        resume = self._dialect.profile.resume
        if resume.path is None or event.cursor is None:
            raise NotTested(f"the dialect {self._dialect.name} gives a run no address of its own")
        cursor = event.cursor.text
        by_query = resume.kind == "query" and resume.query is not None
        return await self.request(
            resume.method,
            resume.path,
            of=Run("", "", (event.exchange,)),
            headers=None if by_query else {"Last-Event-ID": cursor},
            query={resume.query or "": cursor} if by_query else None,
        )

    @asynccontextmanager
    async def keeping_alive(self) -> AsyncIterator[Driver]:
        """Yield a driver whose requests share one connection as long as it stands."""
        async with self._client.keeping_alive() as client:
            yield self.over(client)

    async def over_http2(self) -> Driver | None:
        """Return a driver over HTTP/2, or None where the server does not choose that.

        A TLS handshake is all that is sent. Raises `NotTested` where it fails.
        """
        self._stop_if_gone()
        target = self._target
        transport = HttpTransport(ca_file=target.ca_file, http2=True)
        try:
            chosen = await transport.negotiate(target.url, target.timeouts.connect)
        except ConnectionError as error:
            raise NotTested(f"whether the server speaks HTTP/2 is not known: {error}") from None
        return self.over(self._client.over(transport)) if chosen == "h2" else None

    @property
    def replaying(self) -> dict[str, Any]:
        """Options for `resume` where a finished run is read back: it need be waited for less."""
        limits = self._target.timeouts
        shorter = {"first_event": REPLAY_LIMIT, "silence": REPLAY_LIMIT, "end": 2 * REPLAY_LIMIT}
        bound = {name: min(value, getattr(limits, name)) for name, value in shorter.items()}
        return {"timeouts": limits.model_copy(update=bound)}

    async def resume(self, seen: Observation, cursor: str | None, **options: Any) -> Recording:
        """Read a run back from a cursor, in one exchange.

        That starts nothing, unless the dialect resumes by repeating the start request, and the
        server has no log; then it may run the agent again.
        """
        self._stop_if_gone()
        if self._dialect.profile.resume.path is None:
            self._ledger.repeats += 1
        async with self._ledger.reading(seen):
            return await self._noted(await self._client.resume(seen.run, cursor, **options))

    async def request(self, method: str, path: str, **options: Any) -> Recording:
        """Send any other request to the target's origin."""
        self._stop_if_gone()
        return await self._noted(await self._client.request(method, path, **options))

    async def _noted(self, recording: Recording) -> Recording:
        if recording.end.kind is EndKind.REFUSED and not await self._listens():
            self._ledger.lose(self._asker, Run("", "", (recording,)))
        self._stop_if_gone()
        self._ledger.note(recording)
        return recording

    async def _listens(self) -> bool:
        """Whether the server accepts connections; one that is restarted has a moment for it."""
        parts = self._target.parts
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        for _ in range(KNOCKS):
            try:
                with anyio.fail_after(self._target.timeouts.connect):
                    await (await anyio.connect_tcp(parts.hostname or "", port)).aclose()
            except OSError as error:  # a time-out, too, says that it is busy, not that it is gone
                if isinstance(error, TimeoutError):
                    return True
                await anyio.sleep(KNOCK_PAUSE)
            else:
                return True
        return False

    def _stop_if_gone(self) -> None:
        if self._ledger.gone:
            raise ServerGone(f"server gone: {self._ledger.gone}", "see its log for why it ended")
        self._stop_if_full()

    def _stop_if_full(self) -> None:
        room = self._client.room
        if room.full:
            raise NotTested(
                f"what was recorded takes {room.limit >> 20} MiB already, and no more is kept",
                "map shorter scenarios, or select fewer cases: -k …",
            )


def _pause(recording: Recording, attempt: int) -> float:
    """Seconds to wait: what the server asks for, or one more each time."""
    after = recording.head.value("retry-after") if recording.head else None
    hint = parse_retry_after(after) if after else None
    return min(attempt if hint is None else hint, LONGEST_PAUSE)
