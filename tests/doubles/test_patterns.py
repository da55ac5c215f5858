"""Patterns match as `re` has it, and in bounded time."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.doubles.patterns import (
    Budget,
    TooLong,
    Unreadable,
    candidates,
    matches,
    read,
    tame,
)

TOKENS = st.sampled_from(
    [
        *"ab-^$.|()[]*+?",
        "(?:",
        "(?=",
        "(?!",
        "{2}",
        "{1,}",
        "{0,2}",
        r"\d",
        r"\W",
        r"\b",
        "[^a]",
        "[a-b]",
    ]
)


@given(st.lists(TOKENS, max_size=8).map("".join), st.text("ab1- ", max_size=6))
def test_as_re(pattern: str, text: str) -> None:
    """What both can read is matched alike."""
    try:
        found = matches(pattern, text, Budget())
        with warnings.catch_warnings(action="ignore"):
            expected = re.search(pattern, text)
    except (Unreadable, re.error):
        return
    assert found == bool(expected)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^\p{Lu}\P{L}$", "É1", True),
        (r"^[\w-.]+$", "a-.", True),
        (r"^\x41\u00e9\t$", "Aé\t", True),
        (r"^[\]\-]$", "-", True),
        (r"^a{,b$", "a{,b", True),
        ("^(?<year>[0-9]{4})$", "2000", True),
        ("^a$", "a\n", False),
        (r"^\d$", "٣", False),
    ],
)
def test_matches(pattern: str, text: str, found: bool) -> None:
    """Where `re` and ECMA-262 differ, it is as the latter says."""
    assert matches(pattern, text, Budget()) is found


@pytest.mark.parametrize(
    "pattern",
    [
        *("(", ")", "[", "[]", "[b-a]", "*", "a**", "a{2,1}", "a{,3}", "{3}", "^*", "\\", r"\1"),
        *("(?<=a)", "(?i)a", r"\xzz", r"\p{Greek}", "a{999999}", "(" * 60 + ")" * 60, "(?P<n"),
    ],
)
def test_unreadable(pattern: str) -> None:
    """What is no pattern, or none that is read here, is said to be so."""
    with pytest.raises(Unreadable, match="error in the pattern"):
        read(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "a*" * 30 + "b", "(a|a)*b", "((a{0,99}){0,99}){0,99}b"]
)
def test_bounds(pattern: str) -> None:
    """A match takes no more steps than it may, and says so."""
    assert not tame(pattern)
    with pytest.raises(TooLong, match="too long"):
        matches(pattern, "a" * 40, Budget(20))
    with pytest.raises(TooLong, match="too long"):
        matches(pattern, "a" * 20_000, Budget())


@pytest.mark.parametrize("pattern", ["^[a-z]+$", r"^\d{4}-\d{2}$", "^(a|b)-x*$"])
def test_tame(pattern: str) -> None:
    """Ordinary patterns can be left to `re`."""
    assert tame(pattern)


def test_candidates_are_capped() -> None:
    """A text that is made is no longer than it may be, whatever the pattern demands."""
    for text in candidates("^((a{9999}){9999}){9999}$", 0, 50):
        assert len(text) <= 51
