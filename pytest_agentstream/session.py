"""One session against one server under test: preflight, probes in the background, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream import preflight
from pytest_agentstream.client import Client
from pytest_agentstream.controls import control_of
from pytest_agentstream.dialects import detect, load
from pytest_agentstream.driving import Driver
from pytest_agentstream.judging import Judge, planned
from pytest_agentstream.lag import LagMeter
from pytest_agentstream.ledger import Ledger
from pytest_agentstream.probing import Consent, Probe
from pytest_agentstream.recorder import Room
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.scheduling import Scheduler
from pytest_agentstream.setting_up import SetupFailed
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_agentstream.cases import Case
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.judging import CaseResult
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Run
    from pytest_agentstream.settings import Loaded

ALWAYS_ALLOWED = frozenset({Consent.READ, Consent.START})
MARGIN = 10.0
PREFLIGHT = "preflight"
DETECTION = "detection"
ANY = "agent-event-stream"
"""The dialect in which is asked where none is named: its start request is the plainest."""

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
        self.catalogue = catalogue
        self.redact = Redactor(loaded.secrets)
        self.ledger = Ledger(loaded.settings.max_runs, self.redact)
        self.detected = self.target.dialect is None
        self.scheduler = Scheduler(self, concurrency=self.target.concurrency)
        self.lag = LagMeter()
        self.room = Room()
        self._dialect: Dialect | None = None
        self._judge: Judge | None = None
        self._first: Observation | None = None
        self._failure: preflight.PreflightFailed | None = None
        self._handed_out: set[Probe] = set()
        if self.target.dialect is not None:
            self._dialect = load(self.target.dialect)

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
            seconds = sum(self._bound(name) for name in one.scenarios)
            left_out = self._left_out(one)
            runs = 0 if left_out else one.runs
            lines.append(
                PlannedProbe(one.name, one.consent, one.scenarios, runs, seconds, left_out)
            )
        return lines

    def begin(self, cases: Iterable[Case]) -> None:
        """Run the preflight and start every probe that the cases need; do so only once.

        Raises `PreflightFailed`, each time anew, where the server starts no stream.
        """
        if self._judge is None and self._failure is None:
            try:
                self.scheduler.call(self._preflight)
            except preflight.PreflightFailed as failure:
                self._failure = failure
            else:
                self._judge = Judge(
                    self.catalogue,
                    self.scheduler,
                    self.target,
                    self.dialect,
                    self.ledger,
                    self.redact,
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

    def close(self) -> None:
        self.scheduler.close()

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
        return self.driver(probe.name)

    def permit(self, probe: Probe) -> None:
        """Raise `NotTested` for a probe class that was not allowed on this address."""
        why = self._left_out(probe)
        if why:
            raise NotTested(why, f"allow it: --agentstream-allow {probe.consent}")

    async def background(self) -> None:
        await self.lag.sample()

    def timeout(self, probe: Probe) -> float:
        if probe.timeout is not None:
            return probe.timeout
        return max(1, probe.runs) * (self.target.timeouts.end + MARGIN)

    # -- inside ----------------------------------------------------------------------------

    def _client(self, dialect: Dialect) -> Client:
        return Client(self.target, dialect, lag=self.lag.since, room=self.room)

    def driver(self, asker: str) -> Driver:
        client = self._client(self.dialect)
        return Driver(client, self.target, self.dialect, self.ledger, asker)

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

    async def _preflight(self) -> None:
        try:
            if self._dialect is None:
                self._dialect = await self._detect()
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
