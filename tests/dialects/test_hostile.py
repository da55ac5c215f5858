"""Whatever a server sends is read: nothing it can put in a stream makes a dialect raise."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentstream.dialects import builtin_names, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.recording import Run

    RunOf = Callable[..., Run]

FIELDS = ("text", "status", "tool_use_id", "percentage", "step", "num_turns", "content", "error")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["running", "completed", "tu_1", "\ud800", 10**400])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


@cache
def event_names() -> tuple[str, ...]:
    """Every event name of every built-in dialect, and one of none."""
    names = {name for one in builtin_names() for name in load(one).profile.events}
    return (*sorted(names), "new", "message")


lines = st.tuples(
    st.sampled_from(event_names()),
    values.map(json.dumps) | st.text(max_size=10).map(lambda text: text.replace("\n", "")),
    st.sampled_from(["", "1", "2", "x" * 22 + "/1", "x" * 22 + "/9" * 9]) | st.text(max_size=5),
)


@pytest.mark.parametrize("name", builtin_names())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exchanges=st.lists(st.lists(lines, max_size=8), max_size=3))
def test_any_stream(run_of: RunOf, name: str, exchanges: list[list[tuple[str, str, str]]]) -> None:
    """Any JSON under any event name, with any id, over any reconnects, is read and printable."""
    bodies = [
        "".join(
            f"event: {event}\nid: {cursor}\ndata: {data}\n\n" for event, data, cursor in told
        ).encode("utf-8", "replace")
        for told in exchanges
    ]
    reading = load(name).read(run_of(*bodies))
    for violation in reading.violations:
        assert f"{violation.expected}{violation.actual}".encode()
        assert violation.event in reading.events


HOSTILE = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "a huge number": '{"percentage": ' + "9" * 100_000 + ', "step": "a", "message": ""}',
    "a huge exponent": '{"percentage": 1e99999, "step": "a", "message": ""}',
    "many names": "{" + ",".join(f'"f{n}": {n}' for n in range(20_000)) + "}",
    "long text": '{"text": "' + "x" * 2_000_000 + '"}',
    "raw bytes": "\x00\x1b[2J\ufffd",
}


@pytest.mark.parametrize("name", builtin_names())
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_payload(run_of: RunOf, name: str, data: str) -> None:
    """A payload made to hurt is read in its turn, and what is said of it stays short."""
    names = ("token", "progress", "chunk", "done")
    body = "".join(f"event: {event}\ndata: {data}\n\n" for event in names) + f"data: {data}\n\n"
    reading = load(name).read(run_of(body))
    assert len(reading.events) == 5
    for violation in reading.violations:
        assert len(violation.expected) + len(violation.actual) < 1000
