"""Turn what probes recorded into one result for each case."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentstream.evidence import fit, show
from pytest_agentstream.observing import COUNTS, Observation
from pytest_agentstream.probing import Probe, closure, probes_of, resting_on
from pytest_agentstream.requirements import Level, Tier
from pytest_agentstream.scheduling import ProbeError
from pytest_agentstream.verdicts import (
    UNSOUND,
    ControlBroken,
    Failed,
    Finding,
    InDoubt,
    NotApplicable,
    NotTested,
    Outcome,
    ServerDied,
    ServerGone,
    Verdict,
)
from pytest_agentstream.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_agentstream.cases import Case
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.ledger import Ledger
    from pytest_agentstream.redaction import Redactor
    from pytest_agentstream.target import Target

LONGEST_TEXT = 600
"""Characters of one text of a result."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came out for one requirement, ready for every report: redacted, escaped, capped.

    `reason` says why in one sentence, `option` what would make it testable, `blocked_by` the slug
    of the root cause, `wire` the recording lines, `log` what the server's process wrote meanwhile.
    """

    slug: str
    level: str
    tier: str
    verdict: Verdict
    text: str
    control: str = ""
    reason: str = ""
    option: str = ""
    blocked_by: str = ""
    expected: str = ""
    actual: str = ""
    breaks: str = ""
    hint: str = ""
    also: tuple[str, ...] = ()
    wire: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    timing: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> CaseResult:
        values = json.loads(text)
        values |= {
            "verdict": Verdict(values["verdict"]),
            "also": tuple(values["also"]),
            "wire": tuple(values["wire"]),
            "log": tuple(values["log"]),
        }
        return cls(**values)

    def lines(self) -> list[str]:
        """The result as people read it, in every report."""
        rows = [
            ("Requirement", self.text),
            ("Expected", self.expected),
            ("Actual", self.actual),
            ("Because", self.reason),
            *(("Also", sentence) for sentence in self.also),
            ("Breaks", "" if self.verdict is Verdict.CONTROL_BROKEN else self.breaks),
            ("Hint", "" if self.verdict is Verdict.CONTROL_BROKEN else self.hint),
            ("To test", self.option),
            ("Control", self.control),
        ]
        body = [f"  {name:<12} {value}" for name, value in rows if value]
        if self.wire:
            body.append(f"  {'Recording':<12} {self.wire[0]}")
            body += [f"  {line}" for line in self.wire[1:]]
        body += [f"  {'' if n else 'Server log':<12} {line}" for n, line in enumerate(self.log)]
        return [f"{self.slug} ({self.level}, {self.tier}): {self.verdict}", *body]


class Results(Protocol):
    """Where the results of probes come from: a scheduler, or recordings read from a file."""

    def result(self, probe: Probe) -> Any: ...

    def again(self, probes: Iterable[Probe]) -> Iterator[Results]:
        """Other results of the same probes, each built on nothing else of this one."""

    def recover(self, probes: Iterable[Probe]) -> bool: ...


def _no_log(_finding: Finding, _probes: Iterable[Probe]) -> tuple[str, ...]:
    return ()


@dataclass
class Judge:
    """Judge cases, each once; what a case presupposes is judged first.

    `catalogue` maps slugs to cases, selected or not. `redact` hides secrets in what is reported.
    `log` returns what the server's process wrote while a finding came about, where that is known.
    """

    catalogue: Mapping[str, Case]
    results: Results
    target: Target
    dialect: Dialect
    ledger: Ledger
    redact: Redactor
    log: Callable[[Finding, Iterable[Probe]], tuple[str, ...]] = _no_log
    _deaths: dict[int, str] = field(default_factory=dict)  # the finding's id -> who reports it
    _known: dict[str, CaseResult] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)  # scenario -> the case that found it
    _mending: dict[str, str] = field(default_factory=dict)  # scenario -> what would mend it
    _behind: dict[str, frozenset[str]] = field(default_factory=dict)  # case -> broken scenarios
    _judging: list[str] = field(default_factory=list)

    def judge(self, case: Case) -> CaseResult:
        """The result of a case; waits for its probes. Raises nothing that a server can cause."""
        if case.slug not in self._known:
            if case.slug in self._judging:
                circle = " -> ".join([*self._judging, case.slug])
                raise LookupError(f"requirements presuppose each other in a circle: {circle}")
            self._judging.append(case.slug)
            try:
                self._known[case.slug] = self._judge(case)
            finally:
                self._judging.pop()
        return self._known[case.slug]

    def _judge(self, case: Case) -> CaseResult:
        self._behind[case.slug] = frozenset()
        why = self.dialect.not_applicable(case.slug)
        if why is not None:
            return self._make(case, Verdict.NOT_APPLICABLE, reason=why)
        blocker = self._blocker(case)
        if blocker is not None:
            return self._unless_worse(case, blocker)
        try:
            return self._attempt(case)
        except InDoubt as doubt:
            first = doubt
        # a time within our own lag: probe once more, alone; still in doubt is our error
        reason = f"in doubt ({first}), and it could not be probed again: the session has ended"
        try:
            for results in self.results.again(probes_of(case).values()):
                try:
                    return self._attempt(case, results)
                except InDoubt as second:
                    reason = f"in doubt twice, for our own lag: {first}; then {second}"
        except ProbeError as error:
            reason = f"in doubt ({first}), and it could not be probed again: {error}"
        return self._make(case, Verdict.ERROR, reason=reason)

    def _unless_worse(self, case: Case, blocker: CaseResult) -> CaseResult:
        """The block, unless a MUST fails behind a root that is a mere warning: that must be red."""
        root = self._known.get(blocker.blocked_by)
        level = self.dialect.level_of(case.slug, case.requirement.level)
        if root is None or root.verdict is not Verdict.WARNED or level is not Level.MUST:
            return blocker
        try:
            own = self._attempt(case)
        except InDoubt:
            return blocker
        if own.verdict is not Verdict.FAILED:
            return blocker
        return replace(own, also=(*own.also, f"{root.slug}, which this presupposes, is warned"))

    def _attempt(self, case: Case, results: Results | None = None) -> CaseResult:
        """The result of one look at what the probes have; raises `InDoubt`."""
        results = results or self.results
        values: dict[str, object] = {}
        try:
            for name, probe in probes_of(case).items():
                values[name] = results.result(probe)
            self._check_sample(case, values)
            known = {"target": self.target, "dialect": self.dialect, **values}
            case.check(**{name: known[name] for name in case.parameters})
        except InDoubt:
            raise
        except Outcome as outcome:
            try:
                if self._recovers(outcome, case, results):
                    return self._attempt(case, results)
            except ProbeError as error:
                return self._make(case, Verdict.ERROR, reason=str(error), values=values)
            return self._outcome(case, outcome, values)
        except ProbeError as error:
            return self._make(case, Verdict.ERROR, reason=str(error), values=values)
        except Exception as error:
            return self._make(case, Verdict.ERROR, reason=_broke(case, error), values=values)
        return self._make(case, Verdict.MET, values=values)

    def _recovers(self, outcome: Outcome, case: Case, results: Results) -> bool:
        """Whether what was lost with a server that ended has been asked once more."""
        lost = isinstance(outcome, ServerGone | ServerDied)
        return lost and results.recover(probes_of(case).values())

    def _blocker(self, case: Case) -> CaseResult | None:
        """What keeps a case from being judged; a broken control only keeps those on its own run."""
        for slug in case.requirement.presupposes:
            if slug not in self.catalogue:
                hint = nearest(slug, self.catalogue)
                raise LookupError(f"{case.slug} presupposes {slug}, which no case has{hint}")
            before = self.judge(self.catalogue[slug])
            if before.verdict in UNSOUND:
                root = before.blocked_by or before.slug
                return self._make(
                    case, Verdict.BLOCKED, reason=f"blocked by {root}", blocked_by=root
                )
            broken = self._behind[slug]
            self._behind[case.slug] |= broken
            for scenario in sorted(broken & resting_on(probes_of(case).values())):
                return self._untestable(case, scenario)
        return None

    def _check_sample(self, case: Case, values: Mapping[str, object]) -> None:
        runs = [value for value in _flat(values.values()) if isinstance(value, Observation)]
        for kind, least in case.needs.least:
            most = max((COUNTS[kind](run) for run in runs), default=0)
            if most < least:
                seen = ", ".join(sorted({run.scenario for run in runs})) or "none"
                raise NotTested(
                    f"needs at least {least} {kind} and saw {most} (scenarios: {seen})",
                    f"map a scenario whose run has at least {least} {kind}",
                )

    def _outcome(self, case: Case, outcome: Outcome, values: Mapping[str, object]) -> CaseResult:
        match outcome:
            case ServerDied(finding=finding):
                first = self._deaths.setdefault(id(finding), case.slug)
                if first != case.slug:
                    why = f"blocked by {first}"
                    return self._make(case, Verdict.BLOCKED, reason=why, blocked_by=first)
                return self._make(case, Verdict.FAILED, finding=finding, values=values)
            case Failed(finding=finding):
                level = self.dialect.level_of(case.slug, case.requirement.level)
                verdict = Verdict.FAILED if level is Level.MUST else Verdict.WARNED
                return self._make(case, verdict, finding=finding, values=values)
            case ControlBroken():
                return self._control(case, outcome, values)
            case NotTested(why=why, option=option):
                return self._make(
                    case, Verdict.NOT_TESTED, reason=why, option=option, values=values
                )
            case NotApplicable(why=why):
                return self._make(case, Verdict.NOT_APPLICABLE, reason=why, values=values)
        return self._make(case, Verdict.ERROR, reason=f"{outcome!r}", values=values)

    def _control(
        self, case: Case, broken: ControlBroken, values: Mapping[str, object]
    ) -> CaseResult:
        if self._broken.setdefault(broken.scenario, case.slug) != case.slug:
            return self._untestable(case, broken.scenario)
        self._behind[case.slug] |= {broken.scenario}
        self._mending[broken.scenario] = broken.option
        finding = Finding(broken.expected, broken.actual, recording=broken.recording)
        reason = f"the control of `{broken.scenario}` does not do what it says"
        return self._make(
            case,
            Verdict.CONTROL_BROKEN,
            reason=reason,
            option=broken.option,
            finding=finding,
            values=values,
        )

    def _untestable(self, case: Case, scenario: str) -> CaseResult:
        """Not tested, since it rests on a control that was found to be broken."""
        self._behind[case.slug] |= {scenario}
        reason = f"the control of `{scenario}` is broken, see {self._broken[scenario]}"
        mapping = f"mend the mapping: [tool.agentstream.scenarios] {scenario} = …"
        option = self._mending[scenario] or mapping
        return self._make(case, Verdict.NOT_TESTED, reason=reason, option=option)

    def _make(
        self,
        case: Case,
        verdict: Verdict,
        *,
        reason: str = "",
        option: str = "",
        blocked_by: str = "",
        finding: Finding | None = None,
        values: Mapping[str, object] | None = None,
    ) -> CaseResult:
        wanted = case.requirement
        controls = [f"{o.scenario}: {o.run.control}" for o in _observations(values or {})]
        return CaseResult(
            slug=case.slug,
            level=str(self.dialect.level_of(case.slug, wanted.level)),
            tier=str(wanted.tier),
            verdict=verdict,
            text=wanted.text,
            control=", ".join(dict.fromkeys(controls)),
            reason=self._fit(reason),
            option=self._fit(option),
            blocked_by=blocked_by,
            expected=self._fit(finding.expected) if finding else "",
            actual=self._fit(finding.actual) if finding else "",
            breaks=self._fit(finding.breaks or wanted.breaks) if finding else "",
            hint=self._fit(finding.hint or wanted.hint) if finding else "",
            also=tuple(self._fit(text) for text in finding.also) if finding else (),
            wire=tuple(show(finding, self.ledger, self.redact)) if finding else (),
            log=self.log(finding, probes_of(case).values()) if finding else (),
            timing=case.timing,
        )

    def _fit(self, text: str) -> str:
        return fit(text, self.redact, LONGEST_TEXT)


def _flat(values: Iterable[object]) -> list[object]:
    out: list[object] = []
    for value in values:
        out += _flat(value) if isinstance(value, list | tuple) else [value]
    return out


def _observations(values: Mapping[str, object]) -> list[Observation]:
    return [seen for value in values.values() for seen in _runs_in(value)]


def _runs_in(value: object) -> list[Observation]:
    """The runs in what a probe returned, also in dataclasses of the probe's own."""
    if isinstance(value, Observation):
        return [value]
    if isinstance(value, list | tuple):
        return [seen for one in value for seen in _runs_in(one)]
    ours = type(value).__module__.startswith("pytest_agentstream.")
    if ours or isinstance(value, type) or not is_dataclass(value):
        return []
    return [seen for one in fields(value) for seen in _runs_in(getattr(value, one.name))]


def _broke(case: Case, error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"the case {case.check.__module__}.{case.check.__name__} broke: {error!r}"
        f" ({frame.name}, line {frame.lineno})"
    )


def below(tier: Tier, required: Tier | None) -> bool:
    """Whether a tier is the required one or one that it builds on."""
    return required is not None and tier.rank <= required.rank


def planned(cases: Iterable[Case], catalogue: Mapping[str, Case]) -> tuple[Probe, ...]:
    """Every probe that judging the cases will ask for, what they presuppose included."""
    wanted: dict[str, Case] = {}

    def visit(case: Case) -> None:
        if case.slug not in wanted:
            wanted[case.slug] = case
            for slug in case.requirement.presupposes:
                visit(catalogue[slug])

    for one in cases:
        visit(one)
    return closure(probe for case in wanted.values() for probe in probes_of(case).values())
