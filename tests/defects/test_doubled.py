"""The matrix runs an LLM double for the rows that need one, and for no others."""

from __future__ import annotations

import pytest

from tests.defects.doubled import needs_double
from tests.defects.subjects import good, wrong

WRONG = {subject.name: subject for subject in wrong()}


@pytest.mark.parametrize("name", ["upstream-cut-is-completed", "cancel-ignored"])
def test_what_only_shows_behind_an_llm(name: str) -> None:
    """A defect in what is made of an LLM needs one."""
    assert needs_double(WRONG[name])


@pytest.mark.parametrize("name", ["status-202", "retry-after-soon", "disconnect-kills"])
def test_what_shows_without(name: str) -> None:
    """A defect that other runs show does without, also where an LLM could add to it."""
    assert not needs_double(WRONG[name])


def test_nothing_may_be_accused() -> None:
    """A server without a defect is judged by everything, a variation by what could accuse it."""
    plain = [subject for subject in good() if subject.is_plain]
    varied = {subject.name for subject in good() if needs_double(subject)} - {p.name for p in plain}

    assert all(needs_double(subject) for subject in plain)
    upstream = {"variation upstream-asked-again", "variation upstream-error-in-http"}
    early = {"variation closes-early", "variation closes-early (two processes)"}
    assert varied == upstream | early
