"""Minimal instances are small, and valid."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pytest_agentstream.doubles.instances import minimal
from pytest_agentstream.doubles.scalars import Impossible

TREE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                "more": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["name", "left", "more"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/Node",
}


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"type": "object"}, {}),
        (True, "ok"),
        ({}, "ok"),
        ({"type": "string"}, "ok"),
        ({"type": "string", "minLength": 5}, "okkkk"),
        ({"type": "string", "maxLength": 1}, "o"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "string", "pattern": "^[0-9]{3}$"}, "000"),
        ({"type": "string", "pattern": "^x-ray$", "examples": ["x-ray"]}, "x-ray"),
        ({"type": "string", "pattern": r"^[A-Z]{3}-\d{4}$"}, "AAA-0000"),
        ({"type": "string", "pattern": "^sk_[a-z]+$"}, "sk_a"),
        ({"type": "string", "pattern": "^sk_[a-z]+$", "minLength": 6}, "sk_aaa"),
        ({"type": "string", "pattern": "^sk_[a-z]*$", "maxLength": 3}, "sk_"),
        ({"type": "string", "pattern": "^never-heard-of$"}, "never-heard-of"),
        ({"type": "string", "pattern": "^(?:urn|url):[^:]+$"}, "urn:a"),
        ({"type": "string", "pattern": "(cat|dog)s?"}, "cat"),
        ({"type": "string", "pattern": "^[x-z]{2,}$", "minLength": 5}, "xxxxx"),
        ({"type": "string", "pattern": r"^(?=.*[A-Z])(?=.*\d).{8,}$"}, "2000-01-01T00:00:00Z"),
        ({"type": "string", "pattern": r"^(\w+)@\1$", "examples": ["a@a"]}, "a@a"),
        ({"type": "integer"}, 0),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "minimum": 1.5}, 2),
        ({"type": "number", "minimum": 0.5}, 0.5),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, 1),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "number", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "multipleOf": 0.5, "minimum": 0.7}, 1.0),
        ({"type": "boolean"}, False),
        ({"type": "null"}, None),
        ({"type": ["null", "string"]}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"enum": ["", "a", 3], "minLength": 1}, "a"),
        ({"enum": ["x", 3], "type": "integer"}, 3),
        ({"const": {"a": 1}}, {"a": 1}),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [0, 0]),
        ({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "uniqueItems": True}, [1, 2]),
        ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2, "items": {}}, [1, "ok"]),
        ({"type": "array", "contains": {"const": 7}}, [7]),
        ({"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 0}),
        ({"type": "object", "required": ["x"]}, {"x": "ok"}),
        ({"type": "object", "minProperties": 1}, {"ok1": "ok"}),
        ({"anyOf": [False, {"type": "integer"}]}, 0),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "ok"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 0.5),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, 0.5),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}], "not": {"type": "string"}}, 0),
        ({"$defs": {"A": {"$anchor": "here", "const": 1}}, "$ref": "#here"}, 1),
        ({"$defs": {"A b": {"const": 1}}, "$ref": "#/$defs/A%20b"}, 1),
        (
            {
                "patternProperties": {"^a+$": {"type": "integer"}},
                "additionalProperties": False,
                "properties": {"aa": {"type": "integer"}},
                "required": ["aa"],
            },
            {"aa": 0},
        ),
        (
            {
                "allOf": [
                    {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$defs": {"A": {"enum": ["x"]}}, "$ref": "#/$defs/A"}, "x"),
        ({"definitions": {"A/B": {"const": 1}}, "$ref": "#/definitions/A~1B"}, 1),
        (TREE, {"name": "ok", "left": None, "more": []}),
    ],
)
def test_instances(schema: Any, instance: Any) -> None:
    """An instance has what is required, and no more."""
    assert minimal(schema) == instance
    Draft202012Validator(schema).validate(instance)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "it allows nothing"),
        ({"type": "strange"}, "no JSON schema"),
        ({"$ref": "#"}, "itself|too deep"),
        ({"$ref": "https://example.com/schema"}, "refers to what is not in it"),
        ({"$ref": "#/$defs/A"}, "refers to what is not in it"),
        ({"type": "string", "pattern": "^a(?=b)$"}, "give the schema one under `examples`"),
        ({"type": "string", "pattern": r"(a)\1"}, "give the schema one under `examples`"),
        ({"multipleOf": float("nan")}, "nan is no JSON"),
        ({"type": "number", "minimum": float("-inf")}, "-inf is no JSON"),
        ({"$schema": 5}, "its \\$schema is 5"),
        ({"$schema": []}, "its \\$schema is"),
        ({"$ref": "#/x", "x": 7}, "refers to what is no schema"),
        ({"$ref": "#/x", "x": {"type": 7}}, "no JSON schema"),
        ({"$ref": "#nowhere"}, "refers to what is not in it"),
        ({"enum": ["a"], "type": "integer"}, "no value of its enum"),
        ({"patternProperties": {r"(a)\1": {}}, "required": ["a"]}, "can't read"),
        ({"type": "string", "pattern": "^[a-z]$", "const": "x" * 20_000}, "too long"),
        ({"type": "string", "pattern": "("}, "error"),
        ({"type": "array", "minItems": 10**9}, "at most 100000"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "within its bounds"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "too deep"),
        (
            {
                "$defs": {"A": {"type": "object", "required": ["a", "b"]}},
                "anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["a"]}] * 5,
            },
            "too deep",
        ),
        ({"type": "object", "properties": 7}, "no JSON schema"),
        ("string", "no JSON schema"),
    ],
)
def test_impossible(schema: Any, why: str) -> None:
    """A schema of which there is no instance, or none that is found, is said to be so."""
    with pytest.raises(Impossible, match=why):
        minimal(schema)


EVIL = "a" * 40 + "!"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a+)+$", "examples": [EVIL]},
        {"type": "string", "pattern": "(a|a)*$", "const": EVIL},
        {"type": "string", "pattern": "^" + "a*" * 30 + "b", "examples": [EVIL * 50]},
        {"type": "string", "pattern": "((a{0,999}){0,999}){0,999}!b", "examples": [EVIL * 50]},
        {"patternProperties": {"(a+)+$": {}}, "required": [EVIL]},
        {
            "patternProperties": {"(a+)+$": {}},
            "required": [EVIL],
            "additionalProperties": False,
            "properties": {EVIL: {}},
        },
        {"patternProperties": {"(a+)+$": {}}, "required": [EVIL], "unevaluatedProperties": False},
        {"properties": {"a": {"$schema": "x", "pattern": "(a+)+$", "const": EVIL}}},
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": {"a": {"type": "string", "pattern": "(a+)+$", "examples": [EVIL]}},
            "required": ["a"],
        },
    ],
)
def test_catastrophic_patterns(schema: Any) -> None:
    """A pattern that takes `re` for ever takes no longer here than another."""
    with suppress(Impossible):
        minimal(schema)


VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
KEYS = [
    *("type", "$ref", "enum", "const", "anyOf", "allOf", "items", "prefixItems", "properties"),
    *("required", "minItems", "minLength", "pattern", "minimum", "multipleOf", "uniqueItems"),
]
WORDS = st.sampled_from(["object", "array", "string", "integer", "number", "#", "#/items", "a"])
SCHEMAS = st.recursive(
    VALUES | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(SCHEMAS)
def test_any_schema(schema: Any) -> None:
    """Whatever is given for a schema, there is a valid instance or a reason why not."""
    try:
        instance = minimal(schema)
    except Impossible as error:
        assert str(error)  # noqa: PT017 - either is right
    else:
        Draft202012Validator(schema).validate(instance)
