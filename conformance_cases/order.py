"""In which order events may come: what is first, what opens and closes, what adds up at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance_cases.schema import DIALECT, expect_none
from pytest_agentstream.cases import requirement, sample
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation

READABLE = ("schema.json-strict", "schema.known-type")


def need_spans(runs: list[Observation], dialect: Dialect) -> None:
    """Raise `NotTested` unless a span was opened or closed: order over none proves nothing."""
    globs = [glob for span in dialect.profile.spans for glob in (span.open, *span.close)]
    if not any(
        dialect.matches_type(e.type, glob) for r in runs for e in r.events for glob in globs
    ):
        raise NotTested(
            "no span was seen (a tool call, for instance)",
            'map a scenario that calls a tool: tools = { json = { message = "…" } }',
        )


def need_progress(runs: list[Observation], dialect: Dialect) -> None:
    progress = dialect.profile.order.progress
    if progress and not any(run.reading.typed(progress.event) for run in runs):
        raise NotTested("no progress was seen", "map a `tools` scenario that reports progress")


@requirement(
    "order.first",
    MUST,
    tier="core",
    text="The first event is one that the dialect allows first.",
    source=DIALECT,
    breaks="clients that set up a run from its first event",
    hint="send the opening event before anything else, also when the agent fails at once",
    presupposes=[*READABLE, "heartbeat.invisible"],
    needs=sample(events=1),
)
def test_first(all_runs: list[Observation]) -> None:
    expect_none("order.first", all_runs)


@requirement(
    "order.spans-open-before-use",
    MUST,
    tier="core",
    text="Deltas and ends come only inside an open span.",
    source=DIALECT,
    breaks="clients that keep a table of open spans: @ag-ui/client rejects the run",
    hint="open each span before its first delta",
    presupposes=[*READABLE, "order.tool-results-match"],
    needs=sample(events=1),
)
def test_spans_open_before_use(all_runs: list[Observation], dialect: Dialect) -> None:
    need_spans(all_runs, dialect)
    expect_none("order.spans-open-before-use", all_runs)


@requirement(
    "order.spans-closed",
    MUST,
    tier="core",
    text="Spans that must close are closed before success.",
    source=DIALECT,
    breaks="user interfaces, which show a tool as running for ever",
    hint="close spans in a finally block",
    presupposes=READABLE,
    needs=sample(terminals=1),
)
def test_spans_closed(good_runs: list[Observation], dialect: Dialect) -> None:
    need_spans(good_runs, dialect)
    expect_none("order.spans-closed", good_runs)


@requirement(
    "order.no-double-open",
    MUST,
    tier="core",
    text="No span is opened twice.",
    source=DIALECT,
    breaks="clients that keep spans by id: one of the two is lost",
    hint="make a new id for each span",
    presupposes=READABLE,
    needs=sample(events=1),
)
def test_no_double_open(all_runs: list[Observation], dialect: Dialect) -> None:
    need_spans(all_runs, dialect)
    expect_none("order.no-double-open", all_runs)


@requirement(
    "order.tool-results-match",
    MUST,
    tier="core",
    text="A tool result names a call of its run.",
    source=DIALECT,
    breaks="clients that file a result with its call: it is lost, or fails the run",
    hint="carry the call's id to its result",
    presupposes=READABLE,
    needs=sample(events=1),
)
def test_tool_results_match(all_runs: list[Observation], dialect: Dialect) -> None:
    need_spans(all_runs, dialect)
    expect_none("order.tool-results-match", all_runs)


@requirement(
    "order.progress-monotonic",
    SHOULD,
    tier="core",
    text="The progress of one step does not go back.",
    source=DIALECT,
    breaks="progress bars",
    hint="keep the highest value",
    presupposes=READABLE,
    needs=sample(events=2),
)
def test_progress_monotonic(all_runs: list[Observation], dialect: Dialect) -> None:
    need_progress(all_runs, dialect)
    expect_none("order.progress-monotonic", all_runs)


@requirement(
    "order.progress-completes",
    SHOULD,
    tier="core",
    text="The progress of each step reaches its end before success.",
    source=DIALECT,
    breaks="progress bars, which stay at 70 % beside a finished answer",
    hint="report the end of each step",
    presupposes=READABLE,
    needs=sample(terminals=1),
)
def test_progress_completes(good_runs: list[Observation], dialect: Dialect) -> None:
    need_progress(good_runs, dialect)
    expect_none("order.progress-completes", good_runs)


@requirement(
    "order.counts-agree",
    SHOULD,
    tier="core",
    text="Totals in the terminal equal what was streamed.",
    source=DIALECT,
    breaks="whoever bills, or checks completeness, by the totals",
    hint="count where events are sent",
    presupposes=READABLE,
    needs=sample(terminals=1),
)
def test_counts_agree(good_runs: list[Observation], dialect: Dialect) -> None:
    fields = dialect.profile.order.counts
    ends = [event.payload for run in good_runs for event, _ in run.terminals]
    if not any(isinstance(end, dict) and field in end for end in ends for field in fields):
        raise NotTested(f"no terminal carried a total ({', '.join(fields)})")
    expect_none("order.counts-agree", good_runs)


@requirement(
    "order.sequence-contiguous",
    MUST,
    tier="core",
    text="Sequence numbers in payloads have no gap.",
    source=DIALECT,
    breaks="clients that tell from a gap that events were lost",
    hint="number events where they are sent",
    presupposes=READABLE,
    needs=sample(events=2),
)
def test_sequence_contiguous(all_runs: list[Observation]) -> None:
    expect_none("order.sequence-contiguous", all_runs)
