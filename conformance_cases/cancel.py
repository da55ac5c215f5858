"""Cancelling: a run that nobody wants any more stops, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance_cases.disconnect import expect_stopped
from conformance_cases.terminal import how_it_ended
from pytest_agentstream.cases import requirement
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.requirements import MUST
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from conformance_cases.probes.upstream import Stopped


@requirement(
    "cancel.explicit",
    MUST,
    tier="resilient",
    text="A cancelled run ends in a cancelled terminal, stops its LLM, and can be cancelled again.",
    source="the dialect's cancel; RFC 9110 9.2.2: DELETE is idempotent",
    breaks="users, who press stop; and whoever pays for the LLM",
    hint="write the terminal, then cancel the agent's task; a run that is over stays as it is",
    presupposes=["terminal.exactly-one"],
    timing=True,
)
def test_explicit(cancelled_run: Stopped) -> None:
    run = cancelled_run.run
    first, second = cancelled_run.answers
    expect(
        first.status is not None and 200 <= first.status < 300,
        expected="success (2xx) of the request that cancels a live run",
        actual=f"status {first.status}" if first.head else f"no answer ({first.end.kind})",
        at=first,
    )
    expect(
        run.outcome is Outcome.CANCELLED,
        expected="a terminal that says cancelled",
        actual=f"a terminal that says {run.outcome}" if run.terminals else how_it_ended(run),
        at=run.terminals[0][0] if run.terminals else run.last,
    )
    expect_stopped(cancelled_run, "the cancel")
    expect(
        second.status is not None and second.status < 500,
        expected="an answer that is no failure of the server to the same cancel again",
        actual=f"status {second.status}" if second.head else f"no answer ({second.end.kind})",
        at=second,
    )
