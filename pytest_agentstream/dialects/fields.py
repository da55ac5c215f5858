"""Field tables: what a dialect's TOML says of an event's fields, as a JSON Schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_agentstream.dialects.profile import EventType, FieldRule

FIELD_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null", "any")


def types_of(declared: str) -> tuple[str, ...]:
    """Split `string|null` into its alternatives; raises ValueError for a type there is not."""
    types = tuple(part.strip() for part in declared.split("|"))
    for one in types:
        if one not in FIELD_TYPES:
            raise ValueError(one)
    return types


def schema_of(event: EventType) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) that an event's field tables mean; no tables, anything."""
    fields = {**event.required, **event.optional}
    if not fields and event.extra == "allow":
        return {}
    return {
        "type": "object",
        "properties": {name: _field(rule) for name, rule in fields.items()},
        "required": list(event.required),
        **({"additionalProperties": False} if event.extra == "forbid" else {}),
    }


def _field(rule: str | FieldRule) -> dict[str, Any]:
    if isinstance(rule, str):
        return _types(rule)
    schema = _types(rule.type)
    if rule.enum is not None:
        schema["enum"] = list(rule.enum)
    if rule.minimum is not None:
        schema["minimum"] = _whole(rule.minimum)
    if rule.maximum is not None:
        schema["maximum"] = _whole(rule.maximum)
    return schema


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _types(declared: str) -> dict[str, Any]:
    types = types_of(declared)
    return {} if "any" in types else {"type": list(types) if len(types) > 1 else types[0]}
