"""The judge: which word each case gets, on what its probes have, and how often it asks for more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.cases import Case, Sample, case_of, requirement, sample
from pytest_agentstream.dialects import load
from pytest_agentstream.judging import CaseResult, Judge, planned
from pytest_agentstream.ledger import Ledger
from pytest_agentstream.observing import Observation
from pytest_agentstream.probing import probe
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.scheduling import ProbeError
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.verdicts import (
    ControlBroken,
    InDoubt,
    NotApplicable,
    NotTested,
    ServerGone,
    Verdict,
    expect,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.judging import Results
    from pytest_agentstream.probing import Probe
    from pytest_agentstream.requirements import Level

DIALECT = load("generic-data")


@probe
async def a_run(preflight: object) -> object:
    """A run."""
    return preflight


@probe
async def b_run(preflight: object) -> object:
    """Another run."""
    return preflight


@dataclass
class Known:
    """Results of probes as given: values, or exceptions; `later` are those of a second look."""

    values: Mapping[str, object] = field(default_factory=dict)
    later: Mapping[str, object] = field(default_factory=dict)
    asked_again: list[str] = field(default_factory=list)

    def result(self, probe: Probe) -> Any:
        value = self.values[probe.name]
        if isinstance(value, Exception):
            raise value
        return value

    def again(self, probes: Iterable[Probe]) -> Iterator[Results]:
        self.asked_again += [each.name for each in probes]
        yield Known({**self.values, **self.later})

    def recover(self, probes: Iterable[Probe]) -> bool:
        """Recorded results are what they are."""
        return False


def case(
    slug: str,
    check: Callable[..., None],
    *presupposes: str,
    level: Level = MUST,
    needs: Sample = Sample(),  # noqa: B008 - frozen
) -> Case:
    made = case_of(
        requirement(
            slug,
            level,
            tier="core",
            text="It is so.",
            source="this test",
            hint="make it so",
            presupposes=presupposes,
            needs=needs,
        )(check)
    )
    assert made is not None
    return made


def judge(
    *cases: Case, known: Known | None = None, dialect: Dialect = DIALECT
) -> dict[str, CaseResult]:
    """The result of each case, judged in order."""
    catalogue = {one.slug: one for one in cases}
    target = Target(url="http://127.0.0.1/chat")
    judging = Judge(catalogue, known or Known(), target, dialect, Ledger(), Redactor())
    return {one.slug: judging.judge(one) for one in cases}


def met() -> None:
    pass


def failed() -> None:
    expect(False, expected="this", actual="that")


def raising(error: Exception) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


def observed(body: str = "data: 1\n\n") -> Observation:
    head = Head(200, "OK", "HTTP/1.1", (("Content-Type", "text/event-stream"),), 0.1)
    request = Request("POST", "http://127.0.0.1/chat")
    one = Recording(request, head, (Chunk(0.2, body.encode()),), End(EndKind.COMPLETE, 0.3))
    return Observation(Run("complete", "mapped", (one,)), DIALECT, Scenario(), 1)


def test_a_check_that_returns_is_met() -> None:
    """A case that finds nothing wrong is met, and says through which control."""

    def look(a_run: Observation) -> None:
        assert a_run.events

    result = judge(case("t.a", look), known=Known({"a_run": observed()}))["t.a"]
    assert (result.verdict, result.control) == (Verdict.MET, "complete: mapped")


@pytest.mark.parametrize(("level", "verdict"), [(MUST, Verdict.FAILED), (SHOULD, Verdict.WARNED)])
def test_a_finding_is_as_bad_as_its_level(level: Level, verdict: Verdict) -> None:
    """A broken MUST fails, a broken SHOULD warns; both say what was expected and found."""
    result = judge(case("t.a", failed, level=level))["t.a"]
    assert (result.verdict, result.level) == (verdict, str(level))
    assert (result.expected, result.actual, result.hint) == ("this", "that", "make it so")


def test_the_dialect_has_the_last_word(tmp_path: Path) -> None:
    """A dialect may soften a requirement, or say that it does not apply, with its reason."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\ntype_from = [{ sse_event = true }]\n[events.token]\n[requirements]\n'
        '"t.soft" = { level = "SHOULD", why = "our clients do not care" }\n'
        '"t.none" = { applies = false, why = "we have no such thing" }\n'
    )
    found = judge(case("t.soft", failed), case("t.none", failed), dialect=load(path))
    assert (found["t.soft"].verdict, found["t.soft"].level) == (Verdict.WARNED, "SHOULD")
    assert found["t.none"].verdict is Verdict.NOT_APPLICABLE
    assert found["t.none"].reason == "we have no such thing"


def test_what_does_not_apply_asks_no_probe() -> None:
    """A requirement that the dialect has no mechanism for waits for nothing."""

    def look(a_run: Observation) -> None:
        raise AssertionError

    result = judge(case("resume.live-tail", look))["resume.live-tail"]
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert result.reason == "the dialect generic-data has no ids"


def test_what_presupposes_something_that_does_not_apply() -> None:
    """A requirement is judged, though the dialect has no mechanism for what it presupposes."""
    found = judge(case("t.child", met, "resume.live-tail"), case("resume.live-tail", failed))
    assert found["t.child"].verdict is Verdict.MET


def test_every_other_word() -> None:
    """A case, or a probe, may say not tested with an option, and not applicable with a reason."""
    found = judge(
        case("t.untested", raising(NotTested("no control", "map it"))),
        case("t.gone", raising(ServerGone("server gone", "see its log"))),
        case("t.none", raising(NotApplicable("no retry was sent"))),
    )
    assert [(r.verdict, r.reason, r.option) for r in found.values()] == [
        (Verdict.NOT_TESTED, "no control", "map it"),
        (Verdict.NOT_TESTED, "server gone", "see its log"),
        (Verdict.NOT_APPLICABLE, "no retry was sent", ""),
    ]


def test_a_small_sample_proves_nothing() -> None:
    """Below its minimum sample a case is not tested, also where its check would have passed."""

    def look(a_run: Observation) -> None:
        pass

    known = Known({"a_run": observed()})
    least = case("t.two", look, needs=sample(events=2))
    enough = case("t.one", look, needs=sample(events=1))
    found = judge(least, enough, known=known)
    assert found["t.two"].verdict is Verdict.NOT_TESTED
    assert found["t.two"].reason == "needs at least 2 events and saw 1 (scenarios: complete)"
    assert found["t.two"].option == "map a scenario whose run has at least 2 events"
    assert found["t.one"].verdict is Verdict.MET


def test_a_sample_is_that_of_one_run() -> None:
    """Two ids of two runs are no pair: the largest of the runs counts."""

    def look(a_run: list[Observation], b_run: Observation) -> None:
        pass

    known = Known({"a_run": [observed()], "b_run": observed()})
    found = judge(case("t.a", look, needs=sample(events=2)), known=known)
    assert found["t.a"].verdict is Verdict.NOT_TESTED


@pytest.mark.parametrize("check", [failed, raising(KeyError("x"))])
def test_one_cause_is_red_once(check: Callable[[], None]) -> None:
    """What presupposes a failed requirement is blocked by it, however far away the root is."""
    found = judge(
        case("t.child", met, "t.parent"),
        case("t.parent", met, "t.root"),
        case("t.root", check),
        case("t.other", met),
    )
    assert [r.verdict for r in found.values()][:2] == [Verdict.BLOCKED, Verdict.BLOCKED]
    assert {found["t.child"].blocked_by, found["t.parent"].blocked_by} == {"t.root"}
    assert found["t.child"].reason == "blocked by t.root"
    assert found["t.other"].verdict is Verdict.MET


def test_a_warning_blocks_too() -> None:
    """A SHOULD that is not met makes what rests on it unsound, so that it is not met either."""
    found = judge(case("t.child", met, "t.root"), case("t.root", failed, level=SHOULD))
    assert found["t.child"].verdict is Verdict.BLOCKED


@pytest.mark.parametrize("outcome", [NotTested("no"), NotApplicable("no")])
def test_what_was_not_judged_blocks_nothing(outcome: Exception) -> None:
    """A prerequisite that was not tested, or does not apply, blocks nothing."""
    found = judge(case("t.child", met, "t.root"), case("t.root", raising(outcome)))
    assert found["t.child"].verdict is Verdict.MET


BROKEN = ControlBroken("silence", "silence for 3 s", "an event after 1 s")


def test_a_broken_control_is_red_once() -> None:
    """The first case that finds a control broken is red; others that do are not tested."""
    found = judge(case("t.a", raising(BROKEN)), case("t.b", raising(BROKEN)))
    assert found["t.a"].verdict is Verdict.CONTROL_BROKEN
    assert (found["t.a"].expected, found["t.a"].actual) == ("silence for 3 s", "an event after 1 s")
    assert found["t.b"].verdict is Verdict.NOT_TESTED
    assert found["t.b"].reason == "the control of `silence` is broken, see t.a"
    assert found["t.b"].option == "mend the mapping: [tool.agentstream.scenarios] silence = …"


def test_two_broken_controls_are_two() -> None:
    """Each control that is broken is red once."""
    other = ControlBroken("crash", "a crash", "a success")
    found = judge(case("t.a", raising(BROKEN)), case("t.b", raising(other)))
    assert [r.verdict for r in found.values()] == [Verdict.CONTROL_BROKEN] * 2


@probe(scenarios=["silence"])
async def silent_run(preflight: object) -> object:
    """A run with a silence."""
    return preflight


@probe(runs=0)
async def silence_read_back(silent_run: object) -> object:
    """The same, read once more."""
    return silent_run


@probe(runs=0, optional=["silent_run"])
async def some_runs(a_run: object, silent_run: object) -> list[object]:
    """A run, and a silent one where there is one."""
    return [a_run, silent_run]


SILENT = Known({name: observed() for name in ("a_run", "silent_run", "silence_read_back")})


def test_nothing_is_met_on_a_broken_control() -> None:
    """What presupposes a case on a broken control, on that run itself, is not tested."""

    def look(silent_run: Observation) -> None:
        pass

    def look_back(silence_read_back: Observation) -> None:
        pass

    found = judge(
        case("t.grandchild", look_back, "t.child"),
        case("t.child", look, "t.a"),
        case("t.a", raising(BROKEN)),
        known=SILENT,
    )
    for slug in ("t.child", "t.grandchild"):
        assert found[slug].verdict is Verdict.NOT_TESTED
        assert found[slug].reason == "the control of `silence` is broken, see t.a"


def test_a_broken_control_keeps_nothing_else_from_being_judged() -> None:
    """Other runs than those of the broken control are judged, and so are all that there are."""

    def look(a_run: Observation) -> None:
        failed()

    def look_at_some(some_runs: list[Observation]) -> None:
        pass

    def look_at_silence(silent_run: Observation) -> None:
        pass

    found = judge(
        case("t.silence", look_at_silence, "t.some"),
        case("t.run", look, "t.some"),
        case("t.some", look_at_some, "t.a"),
        case("t.a", raising(BROKEN)),
        known=Known({**SILENT.values, "some_runs": [observed()]}),
    )
    assert found["t.some"].verdict is Verdict.MET
    assert found["t.run"].verdict is Verdict.FAILED
    assert found["t.silence"].reason == "the control of `silence` is broken, see t.a"


def test_a_case_that_breaks_is_our_error() -> None:
    """An exception in a case is an error that names the case, and no word on the server."""
    result = judge(case("t.a", raising(KeyError("x"))))["t.a"]
    assert result.verdict is Verdict.ERROR
    assert "test_judging.check broke: KeyError('x') (check, line " in result.reason


def test_a_probe_that_breaks_is_seen_where_it_is_needed() -> None:
    """A probe's failure is the error of the cases that look at it, and of no other."""

    def look_at_a(a_run: Observation) -> None:
        pass

    def look_at_b(b_run: Observation) -> None:
        pass

    known = Known({"a_run": ProbeError("the probe `a_run` broke"), "b_run": observed()})
    found = judge(case("t.a", look_at_a), case("t.b", look_at_b), known=known)
    assert (found["t.a"].verdict, found["t.a"].reason) == (Verdict.ERROR, "the probe `a_run` broke")
    assert found["t.b"].verdict is Verdict.MET


def timed(a_run: int) -> None:
    """Two is too slow, one is in doubt, zero is good; anything else breaks the check."""
    if a_run == 1:
        raise InDoubt("1.0 s, the limit is 1.0 s, and our own lag was 0.1 s")
    expect({0: True, 2: False}[a_run], expected="soon", actual="late")


@pytest.mark.parametrize(
    ("second", "verdict"),
    [
        (0, Verdict.MET),
        (1, Verdict.ERROR),
        (2, Verdict.FAILED),
        (3, Verdict.ERROR),
        (NotTested("no more runs"), Verdict.NOT_TESTED),
        (ProbeError("broke"), Verdict.ERROR),
    ],
)
def test_a_doubt_is_probed_once_more(second: object, verdict: Verdict) -> None:
    """A time within our own lag gets a second look at the same probes, which decides."""
    known = Known({"a_run": 1}, {"a_run": second})
    result = judge(case("t.a", timed), known=known)["t.a"]
    assert result.verdict is verdict
    assert known.asked_again == ["a_run"]


def test_still_in_doubt_says_both() -> None:
    """A second doubt is our error, which quotes the two."""
    result = judge(case("t.a", timed), known=Known({"a_run": 1}))["t.a"]
    assert result.reason.startswith("in doubt twice, for our own lag: 1.0 s, the limit is")


def test_a_doubt_behind_the_end_of_a_session() -> None:
    """Where nothing can be probed any more, one doubt is called one."""

    class Over(Known):
        def again(self, probes: Iterable[Probe]) -> Iterator[Results]:
            return iter(())

    result = judge(case("t.a", timed), known=Over({"a_run": 1}))["t.a"]
    assert result.verdict is Verdict.ERROR
    assert result.reason.startswith("in doubt (1.0 s, the limit is")
    assert result.reason.endswith("could not be probed again: the session has ended")


def test_each_case_is_judged_once() -> None:
    """A case that others presuppose is judged when it is first needed, and only then."""
    looked: list[str] = []

    def look() -> None:
        looked.append("root")

    judge(case("t.a", met, "t.root"), case("t.b", met, "t.root"), case("t.root", look))
    assert looked == ["root"]


def test_a_circle_is_told() -> None:
    """Requirements that presuppose each other are a mistake of ours, told by name."""
    circle = "t.a -> t.b -> t.a"
    with pytest.raises(LookupError, match=f"presuppose each other in a circle: {circle}"):
        judge(case("t.a", met, "t.b"), case("t.b", met, "t.a"))


def test_an_unknown_prerequisite_is_told() -> None:
    """A slug that no case has gets the nearest one."""
    with pytest.raises(
        LookupError, match=r"t.a presupposes t.roto, which no case has; did you mean"
    ):
        judge(case("t.a", met, "t.roto"), case("t.root", met))


def test_hostile_words_are_escaped_and_capped() -> None:
    """What a server said is harmless in every field of a result."""

    def check() -> None:
        expect(False, expected="x" * 10_000, actual="\x1b[2Jgone\u202e", also=("\x07",))

    result = judge(case("t.a", check))["t.a"]
    assert len(result.expected) == 600
    assert result.actual == "\\x1b[2Jgone\\u202e"
    assert result.also == ("\\x07",)


def test_a_result_survives_its_json() -> None:
    """A result is the same after it was sent as JSON, which is ASCII."""
    result = judge(case("t.a", failed))["t.a"]
    assert result.to_json().isascii()
    assert CaseResult.from_json(result.to_json()) == result


def test_a_result_as_people_read_it() -> None:
    """The lines name requirement, expectation, finding and hint, aligned."""
    assert judge(case("t.a", failed))["t.a"].lines() == [
        "t.a (MUST, core): failed",
        "  Requirement  It is so.",
        "  Expected     this",
        "  Actual       that",
        "  Hint         make it so",
    ]


def test_prerequisites_are_planned() -> None:
    """The probes of what a case presupposes are started with its own, each once."""

    def look_at_a(a_run: object) -> None:
        pass

    def look_at_both(a_run: object, b_run: object) -> None:
        pass

    root, child = case("t.root", look_at_both), case("t.a", look_at_a, "t.root")
    wanted = planned([child], {"t.root": root, "t.a": child})
    assert [one.name for one in wanted] == ["a_run", "b_run"]


def test_a_server_that_cannot_be_asked_again() -> None:
    """Where asking a recovered server breaks as well, that is an error of the case, and no more."""

    class Blocked(Known):
        def recover(self, probes: Iterable[Probe]) -> bool:
            raise ProbeError("the event loop was held for 9 s")

    def look(a_run: object) -> None:
        pass

    known = Blocked({"a_run": ServerGone("the server has gone")})
    result = judge(case("t.a", look), known=known)["t.a"]
    assert (result.verdict, result.reason) == (Verdict.ERROR, "the event loop was held for 9 s")
