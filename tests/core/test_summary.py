"""The summary and the JSON: what people and programs read at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_agentstream.judging import CaseResult
from pytest_agentstream.reports.json_file import write_json
from pytest_agentstream.reports.terminal import write_summary
from pytest_agentstream.running import Facts
from pytest_agentstream.verdicts import Verdict

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Paper:
    """A terminal that keeps what is written."""

    lines: list[str] = field(default_factory=list)
    red: list[str] = field(default_factory=list)

    def section(self, title: str, sep: str = "=", **markup: bool) -> None:
        self.lines.append(title)

    def write_line(self, line: str | bytes, **markup: bool) -> None:
        text = line if isinstance(line, str) else line.decode()
        self.lines += text.splitlines() or [""]
        if markup.get("red"):
            self.red.append(text)


FACTS = Facts(url="http://127.0.0.1:8000/chat", dialect="native", runs=12, first_events="dialect x")


def result(slug: str, verdict: Verdict, **more: str) -> CaseResult:
    return CaseResult(slug, "MUST", "core", verdict, "It is so.", **more)  # type: ignore[arg-type]


def summary(*results: CaseResult, facts: Facts = FACTS) -> Paper:
    paper = Paper()
    write_summary(paper, {one.slug: one for one in results}, facts, {})
    return paper


def test_a_good_run_is_short() -> None:
    """Where all is met, the tier, the count and the number of runs are all there is to say."""
    assert summary(result("a.b", Verdict.MET)).lines == [
        "agentstream",
        "http://127.0.0.1:8000/chat",
        "dialect x",
        "",
        "core: reached",
        "  1 met",
        "",
        "runs started: 12",
    ]


def test_every_word_is_counted() -> None:
    """Every verdict is counted by its word; what is red is marked red, with what was found."""
    paper = summary(
        result("a.met", Verdict.MET),
        result("a.failed", Verdict.FAILED, actual="ids 5, 6 again"),
        result("a.control", Verdict.CONTROL_BROKEN, actual="no silence"),
        result("a.error", Verdict.ERROR, reason="the probe broke"),
        result("a.warned", Verdict.WARNED, actual="no Cache-Control"),
        result("a.none", Verdict.NOT_APPLICABLE, reason="no ids"),
        result("a.untested", Verdict.NOT_TESTED, reason="no control", option="map it"),
        result("a.blocked", Verdict.BLOCKED, reason="blocked by a.failed", blocked_by="a.failed"),
    )
    assert paper.lines[4:-2] == [
        "core: not reached",
        (
            "  1 met, 1 failed, 1 control broken, 1 error, 1 warned, 1 blocked, 1 not tested, "
            "1 not applicable"
        ),
        "  failed         a.failed: ids 5, 6 again",
        "  control broken a.control: no silence",
        "  error          a.error: the probe broke",
        "  warned         a.warned: no Cache-Control",
        "  blocked by a.failed: a.blocked",
        "  not tested: a.untested",
        "      no control",
        "      -> map it",
        "  not applicable: a.none",
        "      no ids",
    ]
    assert len(paper.red) == 3


def test_what_has_one_reason_is_one_group() -> None:
    """Cases with the same reason and option are listed together, in lines of 100 columns."""
    many = [
        result(f"family.rather-long-{n}", Verdict.NOT_TESTED, reason="why " * 40, option="-x " * 60)
        for n in range(20)
    ]
    lines = summary(*many).lines
    assert sum(line.startswith("  not tested: ") for line in lines) == 1
    assert sum(line.startswith("      -> ") for line in lines) == 1
    assert max(len(line) for line in lines if "-> " not in line) <= 100
    for one in many:
        assert any(one.slug in line for line in lines)


def test_long_words_of_a_server_are_capped() -> None:
    """However much a server said, a finding is one line of the summary."""
    lines = summary(result("a.b", Verdict.FAILED, actual="x" * 600)).lines
    assert max(map(len, lines)) <= 100


def test_overload_and_death_are_told() -> None:
    """What was waited out, and a server that is gone, are on the face of the summary."""
    paper = summary(facts=Facts(runs=3, throttled=2, gone="the server is gone"))
    assert paper.lines[-2:] == [
        "red, whatever the verdicts: the server is gone",
        "runs started: 3; waited out 2 answers 429 or 503",
    ]
    assert paper.red == ["red, whatever the verdicts: the server is gone"]


def test_what_was_not_recorded_is_told() -> None:
    """What is not known for want of memory is on the face of the summary, red."""
    paper = summary(facts=Facts(runs=3, unkept=["not recorded", "not judged"]))
    assert paper.lines[-3:] == ["not recorded", "not judged", "runs started: 3"]
    assert paper.red == ["not recorded", "not judged"]


def test_a_failed_preflight_is_all_there_is() -> None:
    """Behind a failed preflight no tier is named."""
    paper = summary(
        result("a.b", Verdict.MET), facts=Facts(runs=1, preflight="agentstream preflight: 401")
    )
    assert paper.lines == ["agentstream", "agentstream preflight: 401", "runs started: 1"]


def test_every_verdict_as_json(tmp_path: Path) -> None:
    """The JSON has a format, the session's facts, and all results by slug, in ASCII."""
    path = tmp_path / "report.json"
    first, last = result("a.a", Verdict.MET), result("b.b", Verdict.FAILED, actual="ü\u202e")
    write_json(path, {"b.b": last, "a.a": first}, FACTS)
    text = path.read_text(encoding="ascii")
    document = json.loads(text)
    assert document["format"] == 1
    assert document["session"]["runs"] == 12
    assert [one["slug"] for one in document["results"]] == ["a.a", "b.b"]
    assert CaseResult.from_json(json.dumps(document["results"][1])) == last


def test_a_worker_that_told_nothing() -> None:
    """Where verdicts came and no facts behind them, how many runs there were is not known."""
    lines = summary(result("a.b", Verdict.MET), facts=Facts()).lines
    assert lines[-1] == "runs started: not known, what asked for them was interrupted"


def test_a_known_failure() -> None:
    """A failure that is known is told with its reason, and not as a new one."""
    paper, known = Paper(), {"a.b": "until March"}
    failed = result("a.b", Verdict.FAILED, actual="too late")
    write_summary(paper, {"a.b": failed}, FACTS, {}, known)
    assert "  failed         a.b: known failure: until March" in paper.lines
    assert paper.red == []
