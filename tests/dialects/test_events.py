"""Typed events: TOML and bytes in, events and what is wrong with each of them out."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import Role, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Recording

    Declared = Callable[[str], Dialect]
    Recorded = Callable[..., Recording]

BY_EVENT_LINE = """\
name = "mine"
unknown = "forbid"
type_from = [{ sse_event = true }]
[events.token]
required = { text = "string" }
extra = "forbid"
[events.step]
required.n = { type = "integer", minimum = 1, maximum = 9 }
required.kind = { type = "string", enum = ["a", "b"] }
optional = { note = "string", any = "any", maybe = "string|null" }
null_optionals = "forbid"
[events."x-*"]
role = "heartbeat"
ephemeral = true
"""
IN_DATA = """\
name = "mine"
unknown = ["ext-*"]
type_from = [{ json_path = "type" }]
[events.token]
[events.other]
"""
EQUAL = IN_DATA + '[framing]\nevent_line = "equals-type"\n'
FORBIDDEN = IN_DATA + '[framing]\nevent_line = "forbidden"\n'
REQUIRED = IN_DATA + '[framing]\nevent_line = "required"\n'
BY_KEY = """\
name = "mine"
unknown = "ignore"
type_from = [{ key_present = ["error", "content"] }]
payload = { sentinels = ["[DONE]"] }
order = { terminal = [{ event = "[DONE]", outcome = "success" }] }
[events.content]
[events.error]
role = "error"
"""

STRICT, KNOWN = "schema.json-strict", "schema.known-type"
FIELDS, EXTRA = "schema.required-fields", "schema.no-extra-fields"
NULLS, AGREE = "schema.no-null-optionals", "schema.type-agreement"

GOOD = [
    (BY_EVENT_LINE, 'event: token\ndata: {"text": "a"}', "token"),
    (BY_EVENT_LINE, 'event: step\ndata: {"n": 1, "kind": "a"}', "step"),
    (BY_EVENT_LINE, 'event: step\ndata: {"n": 9.0, "kind": "b", "note": "", "more": 1}', "step"),
    (BY_EVENT_LINE, 'event: step\ndata: {"n": 1, "kind": "a", "any": null, "maybe": null}', "step"),
    (BY_EVENT_LINE, "event: x-ping\ndata: 1", "x-ping"),
    (IN_DATA, 'data: {"type": "token"}', "token"),
    (IN_DATA, 'data: {"type": "ext-new"}', "ext-new"),
    (EQUAL, 'event: token\ndata: {"type": "token"}', "token"),
    (FORBIDDEN, 'data: {"type": "token"}', "token"),
    (FORBIDDEN, 'event: message\ndata: {"type": "token"}', "token"),
    (REQUIRED, 'event: anything\ndata: {"type": "token"}', "token"),
    (BY_KEY, 'data: {"content": "a", "error": null}', "content"),
    (BY_KEY, 'data: {"content": "a", "error": ""}', "content"),
    (BY_KEY, 'data: {"content": "", "error": ""}', "content"),
    (BY_KEY, 'data: {"content": "", "error": "x"}', "error"),
    (BY_KEY, 'data: {"error": ""}', "error"),
    (BY_KEY, 'data: {"content": "a", "error": false}', "content"),
    (BY_KEY, 'data: {"content": "", "error": "x"}', "error"),
    (BY_KEY, 'data: {"usage": {}}', None),
    (BY_KEY, "data: [DONE]", None),
]


@pytest.mark.parametrize(("toml", "block", "name"), GOOD)
def test_good(
    declared: Declared, recorded: Recorded, toml: str, block: str, name: str | None
) -> None:
    """An event that keeps to its dialect has its type and no violations."""
    (event,) = declared(toml).events(recorded(block + "\n\n"))
    assert (event.type, event.violations) == (name, ())


BAD = [
    (
        BY_EVENT_LINE,
        'event: token\ndata: {"text": NaN}',
        (STRICT, "JSON as RFC 8259 defines it", 'NaN is no JSON: "{\\"text\\": NaN}"'),
    ),
    (
        BY_EVENT_LINE,
        "event: token\ndata: hello",
        (
            STRICT,
            "JSON as RFC 8259 defines it",
            'no JSON: Expecting value at character 0: "hello"',
        ),
    ),
    (
        BY_EVENT_LINE,
        'data: {"text": "a"}',
        (KNOWN, "a type, said by an event line", '{"text": "a"}'),
    ),
    (
        BY_EVENT_LINE,
        'event: new\ndata: {"text": "a"}',
        (KNOWN, "a type of token, step or x-*", "new"),
    ),
    (
        BY_EVENT_LINE,
        'event: message\ndata: {"text": "a"}',
        (KNOWN, "a type of token, step or x-*", "message"),
    ),
    (BY_EVENT_LINE, "event: token\ndata: {}", (FIELDS, "`text` in `token`", "{}")),
    (
        BY_EVENT_LINE,
        'event: token\ndata: {"txt": "a"}',
        (FIELDS, "`text` in `token`", '{"txt": "a"}'),
    ),
    (
        BY_EVENT_LINE,
        'event: token\ndata: {"text": 1}',
        (FIELDS, "`text` of `token` to be string", "text = 1"),
    ),
    (
        BY_EVENT_LINE,
        'event: token\ndata: {"text": null}',
        (FIELDS, "`text` of `token` to be string", "text = null"),
    ),
    (BY_EVENT_LINE, "event: token\ndata: [1]", (FIELDS, "`token` to be object", "[1]")),
    (
        BY_EVENT_LINE,
        'event: token\ndata: {"text": "a", "more": 1}',
        (EXTRA, "no fields in `token` but text", 'also "more"'),
    ),
    (
        BY_EVENT_LINE,
        'event: step\ndata: {"n": 0, "kind": "a"}',
        (FIELDS, "`n` of `step` to be at least 1", "n = 0"),
    ),
    (
        BY_EVENT_LINE,
        'event: step\ndata: {"n": true, "kind": "a"}',
        (FIELDS, "`n` of `step` to be integer", "n = true"),
    ),
    (
        BY_EVENT_LINE,
        'event: step\ndata: {"n": 1, "kind": "c"}',
        (FIELDS, '`kind` of `step` to be "a" or "b"', 'kind = "c"'),
    ),
    (
        BY_EVENT_LINE,
        'event: step\ndata: {"n": 1, "kind": "a", "note": null}',
        (NULLS, "`note` of `step` left out, not null", "note = null"),
    ),
    (IN_DATA, "data: {}", (KNOWN, "a type, said by `type`", "{}")),
    (
        IN_DATA,
        'data: {"type": "new"}',
        (KNOWN, "a type of token, other or ext-*", "new"),
    ),
    (
        EQUAL,
        'event: other\ndata: {"type": "token"}',
        (AGREE, "event: token, as in the data", "event: other"),
    ),
    (
        EQUAL,
        'data: {"type": "token"}',
        (AGREE, "event: token, as in the data", "no event line"),
    ),
    (
        FORBIDDEN,
        'event: token\ndata: {"type": "token"}',
        (KNOWN, "no event line: the type is in the data", "event: token"),
    ),
    (
        REQUIRED,
        'data: {"type": "token"}',
        (KNOWN, "an event line, `event: token`", "none"),
    ),
    (
        IN_DATA,
        r'data: {"type": "token", "text": "\ud800"}',
        (
            "schema.no-lone-surrogates",
            "escaped surrogates in pairs only",
            r'{"type": "token", "text": "\ud800"}',
        ),
    ),
]


@pytest.mark.parametrize(("toml", "block", "violation"), BAD)
def test_bad(
    declared: Declared,
    recorded: Recorded,
    toml: str,
    block: str,
    violation: tuple[str, str, str],
) -> None:
    """One thing wrong with an event is one violation, with what was expected and what was sent."""
    (event,) = declared(toml).events(recorded(block + "\n\n"))
    found = [(one.requirement, one.expected, one.actual) for one in event.violations]
    assert found == [violation]


def test_facts_of_an_event(declared: Declared, recorded: Recorded) -> None:
    """An event has its role, its arrival, its block and its exchange."""
    recording = recorded("event: x-ping\ndata: 1\n\n")
    (event,) = declared(BY_EVENT_LINE).events(recording)
    assert (event.role, event.ephemeral, event.known) == (Role.HEARTBEAT, True, True)
    assert (event.payload, event.at) == (1, 0.2)
    assert event.exchange is recording
    assert event.block is recording.blocks[0]


def test_sentinel(declared: Declared, recorded: Recorded) -> None:
    """A sentinel is no JSON and needs no type; one that ends the run is a terminal."""
    (event,) = declared(BY_KEY).events(recorded("data: [DONE]\n\n"))
    assert (event.sentinel, event.role, event.problem) == ("[DONE]", Role.TERMINAL, None)


def test_blocks_that_dispatch_nothing(declared: Declared, recorded: Recorded) -> None:
    """Comments, blocks without data and an unterminated tail are no events."""
    body = ": hb\n\nid: 1\n\nevent: token\n\ndata: {}"
    assert declared(BY_EVENT_LINE).events(recorded(body)) == ()


def test_empty_data_is_no_second_fault(declared: Declared, recorded: Recorded) -> None:
    """Empty data is for framing.no-empty-data to judge, and not also no JSON and no field."""
    (event,) = declared(BY_EVENT_LINE).events(recorded("event: token\ndata:\n\n"))
    assert (event.problem, event.payload, event.violations) == ("the data is empty", None, ())


def test_priming(declared: Declared, recorded: Recorded) -> None:
    """Where the dialect primes with empty data, such an event needs no type."""
    toml = BY_EVENT_LINE + '[framing]\nempty_data = "priming"\n'
    (event,) = declared(toml).events(recorded("id: 1\ndata:\n\n"))
    assert event.violations == ()


SCHEMAS = {
    "token": {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "sub": {"$ref": "#/$defs/Sub"},
        },
        "required": ["text"],
        "$defs": {
            "Sub": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}},
                "required": ["n"],
                "additionalProperties": False,
            }
        },
    },
    "shared": {"type": "object", "properties": {"sub": {"$ref": "#/token/$defs/Sub"}}},
}
FILED = """\
name = "mine"
type_from = [{ sse_event = true }]
[events.token]
schema_file = "all.json#/token"
null_optionals = "forbid"
[events.shared]
schema_file = "all.json#/shared"
[events.draft7]
schema_file = "draft7.json"
"""


@pytest.mark.parametrize(
    ("block", "violations"),
    [
        ('event: token\ndata: {"text": "a", "sub": {"n": 1}}', []),
        ('event: token\ndata: {"text": "a", "sub": {}}', [(FIELDS, "`n` in `sub` of `token`")]),
        (
            'event: token\ndata: {"text": "a", "sub": {"n": 1, "z": 1}}',
            [(EXTRA, "no fields in `sub` of `token` but n and m")],
        ),
        (
            'event: token\ndata: {"text": "a", "note": null}',
            [(NULLS, "`note` of `token` left out, not null")],
        ),
        (
            'event: token\ndata: {"text": "a", "sub": {"n": 1, "m": null}}',
            [(NULLS, "`sub.m` of `token` left out, not null")],
        ),
        ('event: shared\ndata: {"sub": {}}', [(FIELDS, "`n` in `sub` of `shared`")]),
        ('event: shared\ndata: {"sub": null}', []),
        (
            'event: draft7\ndata: [1, "a"]',
            [(FIELDS, "`[1]` of `draft7` to be integer")],
        ),
    ],
)
def test_schema_files(
    tmp_path: Path, recorded: Recorded, block: str, violations: list[tuple[str, str]]
) -> None:
    """A JSON Schema file, or a part of one, judges as a table does; its own draft counts."""
    draft7 = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{"type": "integer"}, {"type": "integer"}],
    }
    (tmp_path / "all.json").write_text(json.dumps(SCHEMAS))
    (tmp_path / "draft7.json").write_text(json.dumps(draft7))
    (tmp_path / "mine.toml").write_text(FILED)
    (event,) = load(tmp_path / "mine.toml").events(recorded(block + "\n\n"))
    assert [(one.requirement, one.expected) for one in event.violations] == violations


def test_long_values_are_cut(declared: Declared, recorded: Recorded) -> None:
    """A sentence quotes at most 120 characters, on one line."""
    data = json.dumps({"text": ["\u2028\x1b[31m" * 1000]})
    (event,) = declared(BY_EVENT_LINE).events(recorded(f"event: token\ndata: {data}\n\n"))
    (violation,) = event.violations
    assert len(violation.actual) < 500
    assert violation.actual.isprintable()


def test_surrogate_in_a_type(declared: Declared, recorded: Recorded) -> None:
    """A type that no encoding can write is escaped, so that a report can."""
    (event,) = declared(IN_DATA).events(recorded(r'data: {"type": "\ud800"}' + "\n\n"))
    assert event.type == r"\ud800"


def test_long_event_lines_are_not_remembered(declared: Declared, recorded: Recorded) -> None:
    """What a server writes into event lines is kept no longer than its recording, if it is long."""
    dialect = declared(BY_EVENT_LINE)
    recordings = (recorded(f"event: {number:0100000}\ndata: {{}}\n\n") for number in range(50))
    tracemalloc.start()
    try:
        for each in recordings:
            dialect.events(each)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000
