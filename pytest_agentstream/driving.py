"""The client as a probe gets it: finds controls, counts runs, notices a server that is gone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import anyio.to_thread

from pytest_agentstream.controls import Control, control_of
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.doubling import was_played
from pytest_agentstream.faults import ToxiproxyError, faults_before, needs_toxiproxy
from pytest_agentstream.liveness import Liveness
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.retrying import Backoff, parse_retry_after
from pytest_agentstream.scheduling import ProbeError
from pytest_agentstream.scripts import UPSTREAM
from pytest_agentstream.setting_up import SetupFailed
from pytest_agentstream.templates import TemplateError, render
from pytest_agentstream.transport import HttpTransport, UnsendableRequest
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from pytest_agentstream.client import Client
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.doubles import Call, LlmDouble
    from pytest_agentstream.faults import Fault, Toxiproxy
    from pytest_agentstream.ledger import Ledger
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block

THROTTLED = frozenset({429, 503})
PROVOKED = ("crash", "fail")
"""Scenarios, by how they begin, to which a 503 is an answer and no sign of overload."""

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

    `interval` is the promised heartbeat interval H in seconds, or None. `double` is the LLM behind
    the server, where the suite runs one.
    """

    def __init__(
        self,
        client: Client,
        target: Target,
        dialect: Dialect,
        ledger: Ledger,
        asker: str,
        fault: str = "",
        toxiproxy: Toxiproxy | None = None,
        double: LlmDouble | None = None,
    ) -> None:
        self._client = client
        self._target = target
        self._dialect = dialect
        self._ledger = ledger
        self._asker = asker
        self._fault = fault
        self._toxiproxy = toxiproxy
        self._double = double
        self._has_turn = False
        self._liveness = Liveness(target, ledger, asker, faulty=bool(fault))

    @property
    def interval(self) -> float | None:
        return self._target.heartbeat or self._dialect.profile.heartbeat.interval

    def control(
        self, scenario: str, seconds: float | None = None, *, scripted: bool = False
    ) -> Control:
        """How the scenario is asked for, to last for `seconds` where those can be planted.

        `scripted` is for a run whose LLM is to be the double, where there is one. Raises
        `NotTested` where there is no way.
        """
        return control_of(self._target, scenario, self.interval, seconds, scripted=scripted)

    def calls_of(self, control: Control) -> Sequence[Call]:
        """The calls of the LLM double so far in the run of a control; none without a double."""
        if self._double is None or control.tag is None:
            return ()
        return [call for call in self._double.calls if call.tag == control.tag]

    async def first_run(self) -> Observation:
        """Start the preflight's run and follow it; an answer without events is not asked again.

        Raises `NotTested` above the limit of runs, and what `Client.run` raises.
        """
        control = self.control("complete")
        self._ledger.begin()
        backoff = _OnceItStreams(Random(self._target.seed))
        run = await self._client.run("complete", control.scenario, control.name, backoff=backoff)
        return self._ledger.keep(run, self._dialect, control, self._asker)

    async def run(
        self,
        scenario: str,
        *,
        control: Control | None = None,
        leaves: bool = False,
        **options: Any,
    ) -> Observation:
        """Start one run and follow it as a client would, reconnecting where that is right.

        `control` is how it is asked for, if not as `control()` says; a client that `leaves` is cut
        off on purpose, and judges no server that is gone then; `options` are those of `Client.run`.
        An unprovoked 429 or 503 is waited out. Raises `NotTested` without a control,
        above the limit of runs, while the server stays overloaded, `ControlBroken` where the run's
        script did not reach the LLM double, and `ServerGone` once the server does not accept
        connections any more.
        """
        control = control or self.control(scenario)
        overload = THROTTLED - {503} if scenario.startswith(PROVOKED) else THROTTLED
        if scenario.startswith(UPSTREAM):
            overload = frozenset()
        for attempt in range(1, PATIENCE + 1):
            async with self._turn():
                self._stop_if_gone()
                self._ledger.begin()
                run = await self._started(scenario, control, leaves, options)
            refused = run.first.end.kind is EndKind.REFUSED and not self._fault
            if run.first.status not in overload and not refused:
                seen = self._ledger.keep(run, self._dialect, control, self._asker)
                if not (await self._was_played(control, run) and scenario.startswith(UPSTREAM)):
                    self._stop_if_refused(scenario, run)
                return seen
            self._ledger.note(run.first, self._asker)
            self._ledger.throttled += 1
            if attempt < PATIENCE:
                await anyio.sleep(_pause(run.first, attempt))
        said = f"answered {run.first.status}" if run.first.head else "refused the connection"
        raise NotTested(
            f"the server {said} to `{scenario}` {PATIENCE} times",
            "slow down: --agentstream-concurrency 1",
        )

    async def _was_played(self, control: Control, run: Run) -> bool:
        """Whether the double played the run's script; a run that was cut short need not get so far.

        Raises as `was_played`.
        """
        process = self.process
        if self._fault or (process is not None and process.asked_to_end):
            return False
        return await was_played(self._double, control, run, told=process is not None)

    def _stop_if_refused(self, scenario: str, run: Run) -> None:
        """Raise `NotTested` where no agent ran at all: a wrong mapping, not a way to fail."""
        status = run.first.status or 0
        passed_on = scenario.startswith(UPSTREAM) and status in THROTTLED
        if scenario == "complete" or passed_on or not 400 <= status < 500:
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

    async def _started(
        self, scenario: str, control: Control, leaves: bool, options: dict[str, Any]
    ) -> Run:
        try:
            label = f"{control.name}, through {self._fault}" if self._fault else control.name
            run = await self._client.run(scenario, control.scenario, label, **options)
        except SetupFailed as failure:
            self._ledger.note(failure.recording, self._asker)
            raise NotTested(str(failure), "mend that step: [[tool.agentstream.setup]]") from None
        self._ledger.repeats += self._repeated(run)
        await self._liveness.check_run(run, leaves=leaves)
        if run.last.end.kind is EndKind.LIMIT:
            self._stop_if_full()
            await self._stop_if_endless(scenario, run)
        return run

    def _repeated(self, run: Run) -> int:
        """How many reconnects of a run repeated its start request."""
        if self._dialect.profile.resume.path is not None:
            return 0
        start = run.first.request
        again = [exchange.request for exchange in run.exchanges[1:]]
        return sum((one.method, one.url) == (start.method, start.url) for one in again)

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

    async def drain(self, scenario: str, **options: Any) -> int:
        """Start a run, read it to its end, and keep nothing; return how many bytes its body has.

        `options` are those of `Client.run`.
        """
        control = self.control(scenario)
        self._stop_if_gone()
        self._ledger.begin()
        asked = control.scenario, control.name
        return len((await self._client.unkept().once(scenario, *asked, **options)).first.body)

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

    async def cancel(self, event: Event) -> Recording:
        """Cancel the run that one of its events belongs to, as the dialect says.

        Raises `NotTested` where nothing is known by which the run could be named.
        """
        method, _, path = (self._dialect.profile.resume.cancel or "").partition(" ")
        try:
            return await self.request(method, path, of=Run("", "", (event.exchange,)))
        except TemplateError as error:
            raise NotTested(f"the run cannot be cancelled: {error}") from None

    def cancelled_by_leaving(self, control: Control) -> Control:
        """Return the control with what the dialect adds, so that a disconnect cancels the run.

        Raises `NotTested` where the start has no JSON object in which that could be said.
        """
        start, scenario = self._dialect.profile.start, control.scenario
        body = start.json_body if scenario.json_body is None else scenario.json_body
        if scenario.body is not None or not isinstance(body, dict):
            raise NotTested(
                "the start has no JSON object, and so no place for what makes a disconnect cancel",
                "map `complete` as a POST with a JSON object",
            )
        changed = {"json_body": {**body, **start.disconnect_cancels}}
        return replace(control, scenario=scenario.model_copy(update=changed))

    def over(self, client: Client, fault: str = "") -> Driver:
        """Return the same driver with another client; `fault` says what that one goes through."""
        return self._as(client, self._target, fault)

    def _as(self, client: Client, target: Target, fault: str) -> Driver:
        known = (self._dialect, self._ledger, self._asker, fault)
        return Driver(client, target, *known, self._toxiproxy, self._double)

    @asynccontextmanager
    async def through(self, *plans: Iterable[Fault], repeat: bool = False) -> AsyncIterator[Driver]:
        """Yield a driver whose n-th connection suffers the n-th plan; see `faults.Faults`.

        Where Toxiproxy is asked for, it injects what it can. Raises `ProbeError` where it goes away
        meanwhile, and `NotTested` once it has, unless there is nothing that it would inject.
        """
        target, toxiproxy = self._target, self._toxiproxy
        made = [tuple(plan) for plan in plans]
        if toxiproxy is not None and toxiproxy.gone and needs_toxiproxy(made):
            raise NotTested(
                f"Toxiproxy has gone: {toxiproxy.gone}", "start it again, and run again"
            )
        options: dict[str, Any] = {"ca_file": target.ca_file, "seed": target.seed}
        try:
            async with faults_before(target.url, toxiproxy=toxiproxy, **options) as faults:
                await faults.script(*made, repeat=repeat)
                via = HttpTransport(ca_file=target.ca_file, via=faults.next_address)
                try:
                    yield self.over(self._client.over(via), faults.describe())
                finally:
                    self._ledger.faults.update(faults.chosen)
        except ToxiproxyError as error:
            raise ProbeError(
                f"the probe `{self._asker}` came to nothing, and not by the server's fault: {error}"
            ) from None

    async def join(self, event: Event, **options: Any) -> Recording:
        """Join a run behind one of its events, known from nothing else, while it goes on.

        `options` are those of `Client.request`. Raises `NotTested` where the dialect gives a run no
        address, or where what the server sent can't be put into one.
        """
        resume = self._dialect.profile.resume
        if resume.path is None or event.cursor is None:
            raise NotTested(f"the dialect {self._dialect.name} gives a run no address of its own")
        cursor = event.cursor.text
        by_query = resume.kind == "query" and resume.query is not None
        try:
            return await self.request(
                resume.method,
                resume.path,
                of=Run("", "", (event.exchange,)),
                headers=None if by_query else {"Last-Event-ID": cursor},
                query={resume.query or "": cursor} if by_query else None,
                **options,
            )
        except (TemplateError, UnsendableRequest) as error:
            raise NotTested(f"the run can't be joined: {error}") from error

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

    async def resume_patiently(
        self, seen: Observation, cursor: str | None, **options: Any
    ) -> Recording:
        """Do as `resume`, and come again where a server that has just started says 503."""
        return await _patiently(lambda: self.resume(seen, cursor, **options))

    async def start_patiently(self, control: Control, **options: Any) -> Recording:
        """Do as `start`, and come again where a server that has just started says 503."""
        return await _patiently(lambda: self.start(control, **options))

    async def join_patiently(self, event: Event, away: float) -> Recording:
        """Do as `join`, and come again, once, where a replica has not heard so much of the run yet.

        A client stays away for `away` seconds before it comes again.
        """
        answer = await _patiently(lambda: self.join(event))
        if not is_refused(answer):
            return answer
        await anyio.sleep(away)
        return await _patiently(lambda: self.join(event))

    async def resume(self, seen: Observation, cursor: str | None, **options: Any) -> Recording:
        """Read a run back from a cursor, in one exchange.

        That starts nothing, unless the dialect resumes by repeating the start request, and the
        server has no log; then it may run the agent again.
        """
        self._stop_if_gone()
        by = self._dialect.profile.resume
        if by.path is None and by.method == seen.first.request.method:
            self._ledger.repeats += 1
        async with self._ledger.reading(seen):
            return await self._noted(await self._client.resume(seen.run, cursor, **options))

    async def request(self, method: str, path: str, **options: Any) -> Recording:
        """Send any other request to the target's origin."""
        self._stop_if_gone()
        return await self._noted(await self._client.request(method, path, **options))

    async def _noted(self, recording: Recording) -> Recording:
        await self._liveness.check(recording)
        self._stop_if_full()
        self._ledger.note(recording, self._asker)
        return recording

    @property
    def process(self) -> ManagedProcess | None:
        """The process behind this driver's URL, where the suite runs it."""
        return self._liveness.process

    def at(self, url: str) -> Driver:
        """Return the same driver for another replica, whose start endpoint is `url`."""
        target = self._target.model_copy(update={"url": url})
        return self._as(self._client.at(target), target, self._fault)

    def _stop_if_gone(self) -> None:
        self._liveness.stop_if_gone()
        self._stop_if_full()

    def _stop_if_full(self) -> None:
        room = self._client.room
        if room.full:
            why = f"what was recorded takes {room.limit >> 20} MiB already, and no more is kept"
            option = "map shorter scenarios, or select fewer cases: -k …"
            self._ledger.lack_memory(f"not recorded, so not judged: {why}; {option}")
            raise NotTested(why, option)

    async def _stop_if_endless(self, scenario: str, run: Run) -> None:
        """Raise `NotTested` for a run whose end is beyond what is kept: how it ends is not known.

        One that said its terminal before is judged as far as it goes.
        """
        events = await anyio.to_thread.run_sync(self._dialect.events, run.last)
        if any(event.role is Role.TERMINAL for event in events):
            return
        why = f"`{scenario}` is longer than one run may be here: {run.last.end.detail}"
        option = "map a shorter one, or mend the server, if it never ends"
        self._ledger.lack_memory(f"not judged: {why}; {option}")
        raise NotTested(why, option)


def is_refused(answer: Recording) -> bool:
    """Whether an answer says that what was asked for is not known there, or not yet."""
    return answer.status is not None and 400 <= answer.status < 500


async def _patiently(ask: Callable[[], Awaitable[Recording]]) -> Recording:
    """Ask until the answer is no 429 or 503, or patience is out; return the last one."""
    attempt, answer = 1, await ask()
    while answer.status in THROTTLED and attempt < PATIENCE:
        await anyio.sleep(_pause(answer, attempt))
        attempt, answer = attempt + 1, await ask()
    return answer


def _pause(recording: Recording, attempt: int) -> float:
    """Seconds to wait: what the server asks for, or one more each time."""
    after = recording.head.value("retry-after") if recording.head else None
    hint = parse_retry_after(after) if after else None
    return min(attempt if hint is None else hint, LONGEST_PAUSE)
