"""What a client's going means to a server that tells its clients to stay away for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance_cases.probes import upstream
from pytest_agentstream import scripts
from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.verdicts import Verdict
from tests.defects.sessions import session_with
from tests.defects.subjects import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentstream.judging import CaseResult

SLUG = "disconnect.cancels"
RETRY = ("--retry", "0.7")
IGNORED = (*RETRY, "--defect", "disconnect-ignored")
STOP = 0.5
"""Instead of 5 s and H: a slow answer lasts for 1.5 s where nothing else is asked for."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (upstream, scripts):
        monkeypatch.setattr(module, "stop_limit", lambda _h: STOP)


def judge(arguments: tuple[str, ...], directory: Path) -> CaseResult:
    """The result at the reference server with these arguments."""
    case = catalogue()[SLUG]
    with session_with(Subject("left", arguments, "native", SLUG), directory) as session:
        session.begin([case])
        return session.judge(case)


def test_a_run_that_waits_for_its_reader(tmp_path: Path) -> None:
    """A run is cancelled when its reader has been gone for three times the `retry` it was told."""
    assert judge(RETRY, tmp_path).verdict is Verdict.MET


def test_a_run_that_goes_on_for_nobody(tmp_path: Path) -> None:
    """One that goes on for longer is found, however long the `retry`: the answer outlasts that."""
    found = judge(IGNORED, tmp_path)
    assert (found.verdict, found.expected) == (
        Verdict.FAILED,
        "the end of the work, and of the call of the LLM, within 2.6 s of the client's going",
    )


def test_a_run_that_may_go_on_for_longer_than_it_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a reader may stay away for very long, nothing is known, and what would help is said."""
    monkeypatch.setattr(upstream, "LONGEST_GRACE", 0.2)
    found = judge(IGNORED, tmp_path)
    assert found.verdict is Verdict.NOT_TESTED
    assert "the work went on for 0.7 s after the client's going" in found.reason
    assert "shorter `retry`" in found.option
