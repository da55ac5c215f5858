"""What is not known of a server that tells its clients to stay away for longer than they can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.verdicts import Verdict
from tests.defects.sessions import TIMEOUTS, session_with
from tests.defects.subjects import Subject

if TYPE_CHECKING:
    from pathlib import Path

HALF = ("--retry", str(TIMEOUTS["end"] / 2))
"""A client may wait so long once, and not twice."""

CUT = ("resume.live-tail", "resume.many-cuts")


def test_a_client_that_ran_out_of_patience_accuses_nobody(tmp_path: Path) -> None:
    """A run that could not be joined again in time is not tested, with what would help."""
    cases = [catalogue()[slug] for slug in CUT]
    with session_with(Subject("patient", HALF, "native"), tmp_path) as session:
        session.begin(cases)
        for case in cases:
            found = session.judge(case)
            assert found.verdict is Verdict.NOT_TESTED, found
            assert f"of {TIMEOUTS['end']} s for the whole run" in found.reason
            assert "shorter `retry`" in found.option
