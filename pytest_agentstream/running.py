"""The session as pytest runs it: its start and end, what each case reports, the summary."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.baseline import Baseline, BaselineError
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.collection import NAME, CaseItem
from pytest_agentstream.dialects import DialectError
from pytest_agentstream.dialects import load as load_dialect
from pytest_agentstream.given import options_of
from pytest_agentstream.interrupting import at_ctrl_c
from pytest_agentstream.jsonl import write_recordings
from pytest_agentstream.judging import CaseResult, planned
from pytest_agentstream.outcomes import NAMES, WORDS, is_red, properties_of, result_of
from pytest_agentstream.preflight import PreflightFailed
from pytest_agentstream.reference import (
    check_installed,
    reference_commands,
    reference_settings,
)
from pytest_agentstream.reports.json_file import write_json
from pytest_agentstream.reports.plan import plan_lines
from pytest_agentstream.reports.terminal import preflight_line, write_summary
from pytest_agentstream.requirements import Tier
from pytest_agentstream.session import Session
from pytest_agentstream.settings import Loaded, SettingsError, load
from pytest_agentstream.surroundings import SurroundingsError, announcement
from pytest_agentstream.verdicts import Verdict
from pytest_agentstream.watchdog import fleeting_folder
from pytest_agentstream.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.cases import Case

QUIET = -1
"""What a single `-q` makes of pytest's verbosity."""


class Red(Exception):
    """A case whose verdict makes the run red; the text is its whole finding."""


@dataclass
class Facts:
    """What the session did, beside the verdicts; sent from an xdist worker to its controller.

    `around` says what stood around the server, `controls` which scenarios were asked for by which
    control, `faults` how many connections went through which fault proxy, `notes` what did not end
    as it was asked to, `unkept` what was not recorded.
    """

    url: str = ""
    dialect: str = ""
    runs: int = 0
    throttled: int = 0
    repeats: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unkept: list[str] = field(default_factory=list)
    gone: str = ""
    last_words: list[str] = field(default_factory=list)
    around: list[str] = field(default_factory=list)
    controls: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    first_events: str = ""
    preflight: str = ""
    no_mechanism: dict[str, str] = field(default_factory=dict)


class Running:
    """One pytest session with cases in it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.words: list[str] | None = None
        self.facts = Facts()
        self.results: dict[str, CaseResult] = {}
        self._cases: dict[str, Case] = dict(catalogue())
        self._stack = ExitStack()
        self._hurried = ExitStack()
        self._loaded: Loaded | None = None
        self._session: Session | None = None
        self._baseline: Baseline | None = None
        self._unusable: pytest.UsageError | None = None

    # -- settings and session ----------------------------------------------------------------

    @property
    def loaded(self) -> Loaded:
        """The settings; raises pytest.UsageError where they cannot be used."""
        if self._loaded is None:
            options = options_of(self.config)
            try:
                self._loaded = load(
                    {**reference_settings(), **options} if self._is_reference else options,
                    directory=self.config.invocation_params.dir,
                    config=self.config.getoption("agentstream_config"),
                    search=not self._is_reference,
                )
                if self._loaded.settings.dialect is not None:
                    load_dialect(self._loaded.settings.dialect)
            except (SettingsError, DialectError) as error:
                raise pytest.UsageError(f"agentstream: {error}") from None
        return self._loaded

    @property
    def session(self) -> Session:
        """The session, opened when first asked for; it has a folder where the bundled server does.

        Raises pytest.UsageError where what it needs is not installed.
        """
        if self._session is None:
            loaded = self.loaded
            if self._is_reference:
                check_installed()
                command = reference_commands(self._stack.enter_context(fleeting_folder()))
                settings = loaded.settings.model_copy(update={"command": command})
                loaded = replace(loaded, settings=settings)
            self._session = Session(loaded, self._cases)
            self._stack.callback(self._session.close)
        return self._session

    @property
    def baseline(self) -> Baseline:
        if self._baseline is None:
            try:
                self._baseline = Baseline.load(self.loaded.settings.baseline)
            except BaselineError as error:
                raise pytest.UsageError(f"agentstream: {error}") from None
        return self._baseline

    def check_settings(self) -> None:
        """Complain about settings before anything is collected or sent; raises UsageError."""
        settings, _ = self.loaded.settings, self.baseline
        for name, words in (("url", "URL"), ("command", "command"), ("replica", "replica")):
            if self._is_reference and self.config.getoption(f"agentstream_{name}"):
                raise pytest.UsageError(
                    f"agentstream: give a {words} or --agentstream-reference, not both"
                )
        for name, path in (("report", settings.report), ("recordings", settings.recordings)):
            if path is not None and not Path(path).absolute().parent.is_dir():
                raise pytest.UsageError(f"agentstream: {name} {path}: there is no such folder")
            if path is not None and Path(path).is_dir():
                raise pytest.UsageError(
                    f"agentstream: {name} {path}: this is a folder; expected the file to write"
                )

    @property
    def _is_reference(self) -> bool:
        return bool(self.config.getoption("agentstream_reference"))

    @property
    def _is_idle(self) -> bool:
        """Whether pytest only shows what it would run, so that nothing may be sent."""
        names = ("collectonly", "setupplan", "setuponly", "agentstream_plan")
        return any(self.config.getoption(name, False) for name in names)

    # -- items -------------------------------------------------------------------------------

    def admit(self, case: Case) -> None:
        """Take note of a user's own case.

        Raises LookupError where its slug is taken, or where a probe or requirement that it names is
        unknown.
        """
        taken = self._cases.setdefault(case.slug, case)
        if taken is not case:
            places = f"{_where(taken)} and {_where(case)}"
            raise LookupError(f"{case.slug} is the slug of two cases, {places}; rename one")
        for slug in case.requirement.presupposes:
            if slug not in self._cases:
                near = nearest(slug, self._cases)
                raise LookupError(f"{case.slug} presupposes {slug}, which no case has{near}")
        planned([case], self._cases)

    def begin(self, item: CaseItem) -> None:
        """Have the preflight behind us; where it fails, this item says so and the run stops."""
        if self._is_idle:
            return
        cases = [one.case for one in item.session.items if isinstance(one, CaseItem)]
        explained = False
        try:
            self._begin(cases)
        except Exception as failure:
            self.facts.preflight = str(failure)
            if _has_only_cases(item.session):
                item.session.shouldfail = "the preflight failed, no case was judged"
            explained = isinstance(failure, PreflightFailed | pytest.UsageError)
            if not explained:
                raise
        if explained:  # outside of the handler, or the text would stand twice
            pytest.fail(self.facts.preflight, pytrace=False)

    def _begin(self, cases: list[Case]) -> None:
        """Begin the session; raises pytest.UsageError where what is around can't be started.

        Every case is collected by then, so that the baseline's slugs can be looked at, too.
        """
        if self._unusable is not None:  # nothing is started anew for each item
            raise self._unusable
        try:
            self.baseline.check(self._cases)
            self.session.begin(cases, self._tell)
        except (BaselineError, SurroundingsError) as error:
            self._unusable = pytest.UsageError(f"agentstream: {error}")
            raise self._unusable from None

    def report(self, item: CaseItem) -> None:
        """Judge the item's case and raise what pytest should make of it."""
        __tracebackhide__ = True
        result = self.session.judge(item.case)
        item.user_properties[:] = [pair for pair in item.user_properties if pair[0] not in NAMES]
        item.user_properties += properties_of(result)
        known = self.baseline.reason(result.slug)
        if known is not None:
            self._known_failure(result, known)
        if is_red(result, self.loaded.settings):
            raise Red("\n".join(result.lines()))
        if result.verdict in WORDS and result.verdict is not Verdict.WARNED:
            text = f"{result.verdict}: {result.reason}"
            pytest.skip(f"{text} ({result.option})" if result.option else text)

    def _known_failure(self, result: CaseResult, known: str) -> None:
        if result.verdict in {Verdict.FAILED, Verdict.WARNED}:
            pytest.xfail(f"{result.slug} is a known failure: {known}")
        if result.verdict is Verdict.MET and not result.timing:
            path = self.baseline.path
            raise Red(f"{result.slug} is met, and {path} lists it as a known failure: remove it")

    # -- hooks -------------------------------------------------------------------------------

    def pytest_report_header(self, config: pytest.Config) -> list[str]:
        if self.words is None:
            return []
        settings = self.loaded.settings
        where = "the bundled reference server" if self._is_reference else settings.url
        dialect = settings.dialect or "to be detected"
        heartbeat = f", H {settings.heartbeat:g} s" if settings.heartbeat else ""
        lines = [
            f"agentstream: {where}, dialect {dialect}{heartbeat}, settings: {self.loaded.source}"
        ]
        lines += [f"agentstream: {line}" for line in announcement(settings)]
        return lines + [f"agentstream: warning: {text}" for text in self.loaded.warnings]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Start every probe before the first item, so that all waits overlap; or print the plan."""
        cases = [item.case for item in session.items if isinstance(item, CaseItem)]
        if self.config.getoption("agentstream_plan"):
            self._print_plan(cases or list(catalogue().values()))
            return True
        elsewhere = (
            hasattr(self.config, "workerinput") or self.config.getoption("dist", "no") != "no"
        )
        if cases and not self._is_idle and not elsewhere and not session.testsfailed:
            try:
                self._begin(cases)
            except pytest.UsageError as error:
                self.facts.preflight = str(error)
                if _has_only_cases(session):
                    raise
                return None  # the user's own tests go on; each case says why it was not judged
            except Exception:
                return None  # the first item reports it
            terminal = self.config.pluginmanager.getplugin("terminalreporter")
            if terminal is not None:
                for line in self.session.around:
                    terminal.write_line(f"agentstream: {line}")
                terminal.write_line(f"agentstream: {preflight_line(self.session)}")
        return None

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Any:
        result = result_of(report)
        if result is None or report.when != "call" or report.failed or hasattr(report, "wasxfail"):
            return None
        return WORDS.get(result.verdict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        result = result_of(report)
        if result is not None and report.when == "call":
            self.results[result.slug] = result

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """From here to the end another Ctrl-C only hurries it, and breaks nothing off."""
        self._hurried.enter_context(at_ctrl_c(self._end_now))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Any:
        try:
            if self._session is not None:
                self._hurried.enter_context(at_ctrl_c(self._end_now))
                self._gather(self._session)
                self._write_recordings(self._session)
                self._session.close(self._tell)  # before the summary, which says what did not end
                self.facts.notes = self._session.notes
                self._hand_over()
            self._hurried.close()
            return (yield)
        finally:
            self._hurried.close()
            self._stack.close()
            self._write_report()
            facts = self.facts
            loud = facts.gone or facts.refused or facts.unkept
            if loud and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if self.facts.preflight and session.exitstatus == pytest.ExitCode.INTERRUPTED:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED  # what xdist calls interrupted

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._is_idle:
            return
        if self.words is None and not self.results:  # a user's own tests alone
            for note in self.facts.notes:
                terminalreporter.write_line(f"agentstream: {note}")
            return
        known = self._baseline.reasons if self._baseline is not None else {}
        write_summary(terminalreporter, self.results, self.facts, catalogue(), known)
        if self._loaded is not None and self._loaded.settings.report is not None:
            terminalreporter.write_line(f"verdicts: {self._loaded.settings.report}")

    # -- facts beside the verdicts -----------------------------------------------------------

    def take_facts(self, sent: Mapping[str, Any]) -> None:
        """What a worker learned; the one that judged is the one that started runs."""
        if sent["runs"] or sent["preflight"]:
            self.facts = Facts(**sent)

    def _gather(self, session: Session) -> None:
        ledger = session.ledger
        self.facts.url = session.redact(session.target.url)
        self.facts.dialect = session.dialect_label
        self.facts.runs = ledger.started
        self.facts.throttled = ledger.throttled
        self.facts.repeats = ledger.repeats
        self.facts.refused = dict(ledger.refused)
        self.facts.unkept = list(ledger.unkept)
        self.facts.gone = ledger.gone or session.death
        self.facts.last_words = session.last_words
        self.facts.around = session.around
        self.facts.controls = ledger.controls()
        self.facts.faults = dict(ledger.faults)
        if session.first is not None:
            self.facts.first_events = preflight_line(session)
            name = session.dialect.name
            self.facts.no_mechanism = {
                str(tier): f"the dialect {name} has no mechanism for it"
                for tier in Tier
                if not session.dialect.mechanism(tier)
            }

    def _hand_over(self) -> None:
        """Give what was gathered to the controller, where this is a worker."""
        worker = getattr(self.config, "workeroutput", None)
        if worker is not None:
            worker[NAME] = json.dumps(asdict(self.facts))

    def _write_recordings(self, session: Session) -> None:
        path = self.loaded.settings.recordings
        if path is not None:
            write_recordings(Path(path), session.recorded())

    def _write_report(self) -> None:
        path = None if self._loaded is None else self._loaded.settings.report
        if path is not None and not hasattr(self.config, "workerinput"):
            write_json(Path(path), self.results, self.facts)

    def _end_now(self) -> None:
        if self._session is not None:
            self._session.surroundings.end_now()

    def _tell(self, words: str) -> None:
        """Say on the terminal what is waited for, whatever is captured; nothing with `-q -q`."""
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is None or self.config.get_verbosity() < QUIET:
            return
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with nullcontext() if capture is None else capture.global_and_fixture_disabled():
            terminal.write_line(f"agentstream: {words}")
            terminal.flush()

    def _print_plan(self, cases: list[Case]) -> None:
        terminal = self.config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            session = Session(self.loaded, self._cases)
            for line in plan_lines(session.plan(cases), session.target):
                terminal.write_line(line)


def _has_only_cases(session: pytest.Session) -> bool:
    """Whether there is nothing of the user's own to run beside the cases."""
    return all(isinstance(item, CaseItem) for item in session.items)


def _where(case: Case) -> str:
    return f"{case.check.__module__}.{case.check.__qualname__}"
