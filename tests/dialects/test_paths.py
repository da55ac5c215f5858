"""Paths into a payload, and comparisons at their ends."""

from __future__ import annotations

import pytest

from pytest_agentstream.dialects.paths import MISSING, agrees, find, steps

PAYLOAD = {"a": {"b": [{"c": 1}, None], "": 2}, "n": None, "tool-id": "x"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b[0].c", 1),
        ("$.a.b[0].c", 1),
        ("a.b[1]", None),
        ("n", None),
        ("tool-id", "x"),
        ("a.b[2]", MISSING),
        ("a.b.c", MISSING),
        ("a[0]", MISSING),
        ("n.a", MISSING),
        ("z", MISSING),
    ],
)
def test_find(path: str, found: object) -> None:
    """A path leads to a value, which may be null, or nowhere."""
    assert find(PAYLOAD, path) is found or find(PAYLOAD, path) == found


@pytest.mark.parametrize(
    "path", ["", "$", "$.", ".a", "a.", "a..b", "a[]", "a[-1]", "[0]", "a[0]b"]
)
def test_no_path(path: str) -> None:
    """What is no path is refused."""
    with pytest.raises(ValueError, match="is no path like"):
        steps(path)


@pytest.mark.parametrize(
    ("where", "agreed"),
    [
        ({}, True),
        ({"s": "x"}, True),
        ({"s": "x", "n": 1}, True),
        ({"s": "x", "n": 2}, False),
        ({"s": ["y", "x"]}, True),
        ({"s": ["y"]}, False),
        ({"l": [1]}, True),
        ({"n": True}, False),
        ({"t": 1}, False),
        ({"missing": "x"}, False),
    ],
)
def test_agrees(where: dict[str, object], agreed: bool) -> None:
    """All paths lead to their values, or to one of a list of values; true is not 1."""
    assert agrees({"s": "x", "n": 1, "l": [1], "t": True}, where) is agreed


@pytest.mark.parametrize("payload", [None, 1, "a", [], {}, True])
def test_any_payload(payload: object) -> None:
    """A payload of any shape is no error."""
    assert find(payload, "a.b[0].c") is MISSING
