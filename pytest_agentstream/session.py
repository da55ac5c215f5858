"""One session against one server under test: preflight, probes in the background, verdicts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from pytest_agentstream import preflight
from pytest_agentstream.client import Client
from pytest_agentstream.controls import control_of
from pytest_agentstream.dialects import detect, load
from pytest_agentstream.driving import Driver
from pytest_agentstream.evidence import fit
from pytest_agentstream.faults import Toxiproxy, ToxiproxyError
from pytest_agentstream.faults.toxiproxy_api import LIMIT
from pytest_agentstream.judging import Judge, planned
from pytest_agentstream.lag import LagMeter
from pytest_agentstream.ledger import Ledger
from pytest_agentstream.probing import Consent, Probe, asking
from pytest_agentstream.process import ProcessError
from pytest_agentstream.recorder import Room
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.scheduling import Scheduler
from pytest_agentstream.server_log import (
    AFTERWARDS,
    WIDTH,
    beside,
    exchanges_of,
    log_lines,
    window_of,
)
from pytest_agentstream.setting_up import SetupFailed
from pytest_agentstream.surroundings import Surroundings, SurroundingsError
from pytest_agentstream.target import PORT, origin_of
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_agentstream.cases import Case
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.judging import CaseResult
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Run
    from pytest_agentstream.settings import Loaded
    from pytest_agentstream.verdicts import Finding

ALWAYS_ALLOWED = frozenset({Consent.READ, Consent.START})
MARGIN = 10.0
PREFLIGHT = "preflight"
DETECTION = "detection"
ANY = "agent-event-stream"
"""The dialect in which is asked where none is named: its start request is the plainest."""

SLOW = 1.0
"""Seconds of waiting for Toxiproxy after which whoever waits is told so."""

SETTINGS = "the url, headers, setup and scenarios in [tool.agentstream]"


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One line of the plan: a probe, its runs and their class, and how many seconds it may take."""

    name: str
    consent: Consent
    scenarios: tuple[str, ...]
    runs: int
    seconds: float
    left_out: str = ""


class Session:
    """Judge one server under test; everything that waits runs in one background event loop.

    `catalogue` maps slugs to all known cases. Use `begin`, `judge`, then `close`, whatever happens.
    """

    def __init__(self, loaded: Loaded, catalogue: Mapping[str, Case]) -> None:
        self.loaded = loaded
        self.target = loaded.settings
        self.surroundings = Surroundings(self.target)
        self.toxiproxy = Toxiproxy(self.target.toxiproxy) if self.target.toxiproxy else None
        self.catalogue = catalogue
        self.redact = Redactor((*loaded.secrets, *self.surroundings.secrets()))
        self.ledger = Ledger(loaded.settings.max_runs, self.redact)
        self.detected = self.target.dialect is None
        self.scheduler = Scheduler(self, concurrency=self.target.concurrency)
        self.lag = LagMeter()
        self.room = Room()
        self._dialect: Dialect | None = None
        self._judge: Judge | None = None
        self._first: Observation | None = None
        self._failure: preflight.PreflightFailed | SurroundingsError | None = None
        self._handed_out: set[Probe] = set()
        if self.target.dialect is not None:
            self._dialect = load(self.target.dialect).declaring(self.target.disconnect)

    @property
    def dialect(self) -> Dialect:
        """The dialect; known from the settings, or once the preflight has detected it."""
        if self._dialect is None:
            raise preflight.PreflightFailed("the dialect is not known before the preflight")
        return self._dialect

    @property
    def dialect_label(self) -> str:
        if self._dialect is None:
            return "dialect to be detected"
        return f"dialect {self._dialect.label}{' (detected)' if self.detected else ''}"

    @property
    def first(self) -> Observation | None:
        """The preflight's run, once there is one."""
        return self._first

    def plan(self, cases: Iterable[Case]) -> list[PlannedProbe]:
        """What judging the cases would start, preflight first; sends nothing."""
        first = [DETECTION, PREFLIGHT] if self._dialect is None else [PREFLIGHT]
        bound = self._bound("complete")
        lines = [PlannedProbe(name, Consent.START, ("complete",), 1, bound) for name in first]
        for one in planned(self._applicable(cases), self.catalogue):
            if not one.runs or not all(map(self._has_control, one.scenarios)):
                continue
            needed = set(one.parameters) - one.optional
            if any(self.surroundings.lacks(name) for name in needed):
                continue
            seconds = sum(self._bound(name) for name in one.scenarios)
            left_out = self._left_out(one)
            runs = 0 if left_out else one.runs
            lines.append(
                PlannedProbe(one.name, one.consent, one.scenarios, runs, seconds, left_out)
            )
        return lines

    def begin(self, cases: Iterable[Case], tell: Callable[[str], None] | None = None) -> None:
        """Run the preflight and start every probe that the cases need; do so only once.

        `tell` is called with a sentence where what stands around the server takes long to start.
        Raises `SurroundingsError` where what stands around the server can't be started, and
        `PreflightFailed` where the server starts no stream, each time anew.
        """
        if self._judge is None and self._failure is None:
            try:
                self.scheduler.call(self._open, tell)
                self.scheduler.call(self._preflight)
            except (preflight.PreflightFailed, SurroundingsError) as failure:
                self._failure = failure
            finally:
                self._name_target()
            if self._failure is None:
                self._judge = Judge(
                    self.catalogue,
                    self.scheduler,
                    self.target,
                    self.dialect,
                    self.ledger,
                    self.redact,
                    self._log,
                )
                self.scheduler.start(planned(self._applicable(cases), self.catalogue))
        if self._failure is not None:
            raise self._failure

    def judge(self, case: Case) -> CaseResult:
        """The result of one case; waits for the probes that it needs."""
        self.begin([case])
        if self._judge is None:
            raise preflight.PreflightFailed("the session has ended")
        return self._judge.judge(case)

    def recorded(self) -> list[Run]:
        """Every run so far, in order, without its secrets: fit to be written to a file."""
        return [self.redact.run(seen.run) for seen in self.ledger.observations]

    def close(self, tell: Callable[[str], None] | None = None) -> None:
        """End what was started, and every wait; may be called twice.

        `tell` is called with a sentence where a process takes long to end.
        """
        try:
            for process in self.surroundings.processes:
                process.ask_to_end()
            self.scheduler.close()
        finally:
            self.surroundings.close(tell)
            if self.toxiproxy is not None:
                self.toxiproxy.close()

    @property
    def around(self) -> list[str]:
        """What stands around the server, a sentence each."""
        toxiproxy = [f"Toxiproxy at {self.target.toxiproxy}"] if self.toxiproxy else []
        return [self.redact(line) for line in (*self.surroundings.around, *toxiproxy)]

    @property
    def death(self) -> str:
        """The ends of processes that nobody asked for, whether or not a probe saw them."""
        process = self.surroundings.process
        found = list(self.ledger.deaths)
        if process is not None and process.death is not None and not found:
            found.append(f"{process.name} {process.death.words}, and no probe was there to see it")
        return "\n".join(found)

    @property
    def last_words(self) -> list[str]:
        """The newest lines of what a process said that ended by itself."""
        if not self.death:
            return []
        ever = [(0.0, time.monotonic())]
        return list(log_lines(self.surroundings.processes[:1], ever, self.redact))

    @property
    def notes(self) -> list[str]:
        """Sentences on what did not end as it was asked to."""
        toxiproxy = self.toxiproxy.notes if self.toxiproxy is not None else []
        return [self.redact(note) for note in (*self.surroundings.notes, *toxiproxy)]

    # -- what probes get (the scheduler's Resources) ----------------------------------------

    async def supply(self, name: str, probe: Probe) -> object:
        """The resource of that name; the preflight's run is handed out once, then run anew."""
        match name:
            case "target":
                return self.target
            case "dialect":
                return self.dialect
            case "preflight" if probe not in self._handed_out:
                self._handed_out.add(probe)
                return self._first
            case "preflight":
                return await self.driver(probe.name).run("complete")
            case "double" | "process" | "replicas":
                return self.surroundings.supply(name, self.driver(probe.name))
        return self.driver(probe.name)

    def permit(self, probe: Probe) -> None:
        """Raise `NotTested` for a probe class that was not allowed on this address."""
        why = self._left_out(probe)
        if why:
            raise NotTested(why, f"allow it: --agentstream-allow {probe.consent}")

    async def background(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self.surroundings.live)
            await self.lag.sample()

    async def restore(self, *, alone: bool = False) -> bool:
        """Have every process that the suite runs as it was; or else the server is gone.

        `alone` says that one probe has it for itself now. Return whether there is a server again.
        """
        self.ledger.alone = alone
        if not self.surroundings.processes:
            return False
        try:
            await self.surroundings.restore()
        except ProcessError as error:
            self.ledger.gone = self.ledger.gone or self._words(error)
            return False
        self.ledger.gone = ""
        return True

    def timeout(self, probe: Probe) -> float:
        if probe.timeout is not None:
            return probe.timeout
        return max(1, probe.runs) * (self.target.timeouts.end + MARGIN)

    # -- inside ----------------------------------------------------------------------------

    def _client(self, dialect: Dialect) -> Client:
        meter = self.lag
        return Client(
            self.target, dialect, lag=meter.since, denied=meter.denied_since, room=self.room
        )

    def driver(self, asker: str) -> Driver:
        client = self._client(self.dialect)
        known = (self.target, self.dialect, self.ledger, asker)
        double = self.surroundings.double
        return Driver(client, *known, toxiproxy=self.toxiproxy, double=double)

    def _words(self, error: Exception) -> str:
        """What an error says, with what a process said in it: hostile input, line by line."""
        lines = [
            # one at the margin is ours, and ends with what to do
            fit(line, self.redact, WIDTH if line.startswith(" ") else 4 * WIDTH)
            for line in str(error).splitlines()
        ]
        return "\n".join(lines)

    def _log(self, finding: Finding, probes: Iterable[Probe]) -> tuple[str, ...]:
        """What the processes wrote while a finding came about."""
        so_far = self.scheduler.so_far
        named = exchanges_of(finding)
        found = [window_of(self.ledger.run_around(one)) for one in named]
        windows = [window for window in found if window is not None]
        own = {self.ledger.asker_of(one) for one in named}
        if not windows:
            own = {one.name for one in asking(probes)}
            last = {one.name: one for one in so_far if one.name in own}
            windows = [(one.started, one.ended + AFTERWARDS) for one in last.values()]
        others = beside(so_far, windows, own)
        if self.surroundings.processes and windows:  # what a server just wrote is yet to be read
            behind = max(ended for _, ended in windows) - time.monotonic()
            time.sleep(min(max(0.0, behind), AFTERWARDS))
        return log_lines(self.surroundings.processes, windows, self.redact, others)

    def _applicable(self, cases: Iterable[Case]) -> list[Case]:
        """Leave out what the dialect has no mechanism for: nothing is sent for that."""
        if self._dialect is None:
            return list(cases)
        return [case for case in cases if self._dialect.not_applicable(case.slug) is None]

    def _left_out(self, probe: Probe) -> str:
        if probe.consent in ALWAYS_ALLOWED or self.target.is_loopback:
            return ""
        if probe.consent in self.target.allow:
            return ""
        return f"probes of the class `{probe.consent}` need consent beyond loopback"

    @property
    def _interval(self) -> float | None:
        promised = self._dialect.profile.heartbeat.interval if self._dialect else None
        return self.target.heartbeat or promised

    def _has_control(self, scenario: str) -> bool:
        try:
            control_of(self.target, scenario, self._interval)
        except NotTested:
            return False
        return True

    def _bound(self, scenario: str) -> float:
        try:
            control = control_of(self.target, scenario, self._interval)
        except NotTested:
            return 0.0
        return (control.scenario.seconds or 0.0) + self.target.timeouts.end

    async def _open(self, tell: Callable[[str], None] | None) -> None:
        """Start what stands around the server; then the ports are known."""
        try:
            if self.toxiproxy is not None:
                await _opened(self.toxiproxy, tell)
            try:
                await self.surroundings.open(tell)
            finally:
                self.redact.learn(self.surroundings.secrets())
        except (SurroundingsError, ToxiproxyError) as error:
            raise SurroundingsError(self._words(error)) from None
        self._name_target()
        self.ledger.processes.update(
            {origin_of(one.url): one for one in self.surroundings.processes}
        )

    def _name_target(self) -> None:
        """Have the target say which ports were chosen, and its path alone before that."""
        chosen = self.surroundings.target
        parts = urlsplit(chosen.url)
        url = parts.path if PORT in parts.netloc else chosen.url
        self.target = self.target.model_copy(update={"url": url, "replicas": chosen.replicas})

    async def _preflight(self) -> None:
        try:
            await self._first_run()
        except preflight.PreflightFailed as failure:
            raise preflight.with_log(failure, self.surroundings.process, self.redact) from None

    async def _first_run(self) -> None:
        try:
            if self._dialect is None:
                self._dialect = (await self._detect()).declaring(self.target.disconnect)
            seen = await self.driver(PREFLIGHT).first_run()
        except SetupFailed as failure:
            self.redact.learn_from([failure.recording])
            raise preflight.setup_failed(failure, self.redact, self.ledger) from None
        except NotTested as outcome:
            raise preflight.unsent(outcome.why, outcome.option, self.redact) from None
        except ValueError as error:  # ForeignOrigin, TemplateError, UnsendableRequest, ca_file
            raise preflight.unsent(str(error), SETTINGS, self.redact) from None
        preflight.check(seen, self.ledger, self.redact)
        self._first = seen

    async def _detect(self) -> Dialect:
        """Tell the dialect from a first answer, read only as far as is needed."""
        control = control_of(self.target, "complete", self._interval)
        self.ledger.begin()
        client = self._client(load(ANY))
        run = await client.once("complete", control.scenario, control.name)
        self.redact.learn_from(run.exchanges)
        events = sum(block.event is not None for block in run.first.blocks)
        refusal = preflight.refusal_of(run.first, events)
        if refusal is not None:
            raise preflight.PreflightFailed(
                preflight.describe(refusal, run.first, self.ledger, self.redact)
            )
        names = detect(run.first)
        if len(names) == 1:
            return load(names[0])
        raise preflight.PreflightFailed(
            preflight.undetected(names, run.first, self.ledger, self.redact)
        )


async def _opened(toxiproxy: Toxiproxy, tell: Callable[[str], None] | None) -> None:
    """Open it in a thread that nobody has to wait for; `tell` is called where that takes long."""
    failed: list[ToxiproxyError] = []

    async def say() -> None:
        await anyio.sleep(SLOW)
        if tell is not None:
            tell(f"waits for Toxiproxy at {toxiproxy.url} to answer, {LIMIT:g} s at most each time")

    async with anyio.create_task_group() as beside:
        beside.start_soon(say)
        try:
            await anyio.to_thread.run_sync(toxiproxy.open, abandon_on_cancel=True)
        except ToxiproxyError as error:
            failed.append(error)
        beside.cancel_scope.cancel()
    if failed:
        raise failed[0]
