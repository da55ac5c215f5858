"""The matrix says when a defect survives, and when it breaks more than it should."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.judging import CaseResult
from pytest_agentstream.verdicts import Verdict
from tests.defects.matrix import Row, judge_all, main, verdict_on
from tests.defects.server_hosting import Host, NotStarted
from tests.defects.subjects import Subject, good, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = next(one for one in good() if one.dialect == "generic-data")
KILLED = next(one for one in wrong() if one.name == "status-202")


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def test_rows_that_prove_what_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect that is caught by its case alone, beside a good server, makes exit code 0."""
    assert main([GOOD.name, KILLED.name]) == 0

    assert "1 defects killed, each by its own case; 1 other rows" in capsys.readouterr().out


def test_rows_that_prove_nothing_or_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    """A defect that survives, one that breaks more, and one that cannot start make exit code 1.

    Each of them is judged once more alone, in case the crowd was to blame.
    """
    survivor = Subject("survivor", GOOD.arguments, GOOD.dialect, "http.status-200")
    two = ("--defect", "cacheable", "--defect", "proxy-buffering")
    clumsy = Subject("clumsy", two, "native", "http.no-store")
    unknown = Subject("unknown", ("--defect", "unheard-of"), "native")

    assert verdict_on(judge_all([survivor, clumsy, unknown])) == 1

    said = capsys.readouterr().out
    assert "SURVIVED: http.status-200 is met" in said
    assert "COLLATERAL: http.no-proxy-buffering (warned: " in said
    assert "BROKE: NotStarted(" in said
    assert said.count("(once more, alone)") == 3
    assert "problems: clumsy, survivor, unknown" in said


def test_no_row_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no row has is said, and is no success."""
    assert main(["unheard-of"]) == 2

    assert "no row is named like unheard-of" in capsys.readouterr().out


def test_a_row_without_a_finding_is_no_problem() -> None:
    """A good server's row with nothing red is what it should be."""
    assert Row(GOOD).problem == ""


def test_an_error_is_no_kill() -> None:
    """A defect whose case only says `error` has survived."""
    found = CaseResult("ids.unique", "MUST", "resumable", Verdict.ERROR, "A sentence.")

    assert Row(replace(GOOD, breaks="ids.unique"), {"ids.unique": found}).problem.startswith(
        "SURVIVED: ids.unique is error"
    )


def test_a_server_that_does_not_start(host: Host) -> None:
    """What the server says instead of listening is told, and the host goes on."""
    with (
        pytest.raises(NotStarted, match="there is no defect 'unheard-of'"),
        host.server(["--defect", "unheard-of"]),
    ):
        pass

    with host.server(()) as url:
        assert url.startswith("http://127.0.0.1:")
