"""Payloads: strict where Python is not, and never in the way of the suite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.dialects.payload import DEEPEST, parse, parse_json
from pytest_agentstream.dialects.profile import Payload

PROBLEMS = {
    "NaN": ('{"a": NaN}', 'NaN is no JSON: "{\\"a\\": NaN}"'),
    "Infinity": ("[Infinity]", 'Infinity is no JSON: "[Infinity]"'),
    "minus Infinity": ("-Infinity", '-Infinity is no JSON: "-Infinity"'),
    "text": ("hello", 'no JSON: Expecting value at character 0: "hello"'),
    "two values": ("{} {}", 'no JSON: Extra data at character 3: "{} {}"'),
    "a raw tab": ('"a\tb"', 'no JSON: Invalid control character at at character 2: "\\"a\\tb\\""'),
    "a byte-order mark": (
        "\ufeff{}",
        'no JSON: Unexpected UTF-8 BOM (decode using utf-8-sig) at character 0: "\\ufeff{}"',
    ),
    "single quotes": (
        "{'a': 1}",
        ("no JSON: Expecting property name enclosed in double quotes at character 1: \"{'a': 1}\""),
    ),
    "a long number": ("[" + "9" * 5000 + "]", "a number of 5000 digits"),
    "deep lists": ("[" * 300 + "]" * 300, f"nested deeper than {DEEPEST} levels"),
    "deep objects": ('{"a":' * 300 + "1" + "}" * 300, f"nested deeper than {DEEPEST} levels"),
    "very deep lists": ("[" * 200_000, f"nested deeper than {DEEPEST} levels"),
}


@pytest.mark.parametrize(("data", "problem"), PROBLEMS.values(), ids=PROBLEMS)
def test_problem(data: str, problem: str) -> None:
    """What is no JSON, or more than a client takes, is said in one line."""
    assert parse_json(data).problem == problem


VALUES: dict[str, tuple[str, object]] = {
    "a duplicate name": ('{"a": 1, "a": 2}', {"a": 2}),
    "a big number": ("[1e999, 123456789012345678901234567890]", None),
    "256 levels": ("[" * 256 + "]" * 256, None),
    "many flat brackets": ("[" + ",".join(["{}"] * 1000) + "]", [{}] * 1000),
    "null": ("null", None),
    "U+2028": ('"\u2028"', "\u2028"),
}


@pytest.mark.parametrize(("data", "value"), VALUES.values(), ids=VALUES)
def test_legal(data: str, value: object) -> None:
    """What RFC 8259 allows is no problem, odd as it may be."""
    parsed = parse_json(data)
    assert parsed.problem is None
    assert value is None or parsed.value == value


@pytest.mark.parametrize(
    ("data", "lone"),
    [
        (r'{"a": ["\ud800"]}', True),
        (r'{"\uDFFF": 1}', True),
        (r'"\ud83d\ude00"', False),
        (r'"\\ud800"', False),
        ('"plain"', False),
    ],
)
def test_lone_surrogates(data: str, lone: bool) -> None:
    """Half a surrogate pair is a fact of its own, in values and names; a pair is a character."""
    parsed = parse_json(data)
    assert (parsed.problem, parsed.lone_surrogate) == (None, lone)


def test_payload_beside_its_problem() -> None:
    """What would be JSON but for NaN can still be judged otherwise."""
    parsed = parse_json('{"status": "completed", "cost": NaN}')
    assert parsed.problem is not None
    assert parsed.value["status"] == "completed"


def test_json_rpc() -> None:
    """A JSON-RPC payload says so."""
    kind = Payload(kind="jsonrpc")
    assert parse('{"jsonrpc": "2.0", "id": 1, "result": {}}', kind).problem is None
    problem = parse('{"id": 1}', kind).problem
    assert problem == 'no JSON-RPC message ("jsonrpc": "2.0"): {"id": 1}'


def test_text() -> None:
    """A payload of plain text is itself."""
    assert parse("{not JSON", Payload(kind="text")).value == "{not JSON"


@given(st.text())
def test_never_raises(data: str) -> None:
    """No text makes the parser raise."""
    parsed = parse_json(data)
    assert parsed.problem is None or "\n" not in parsed.problem
