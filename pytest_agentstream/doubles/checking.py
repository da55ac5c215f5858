"""jsonschema's validators, with patterns that are matched in bounded time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import validators
from jsonschema.exceptions import ValidationError

from pytest_agentstream.doubles.patterns import Unreadable, matches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.doubles.patterns import Budget


def validator_of(declared: Any, budget: Budget) -> Any:
    """The class `declared`, with matches that take no more than the budget. They raise TooLong.

    A `pattern` that can't be read is taken to be met; its schema's examples are trusted then. Such
    a name in `patternProperties` raises Unreadable.
    """

    def pattern(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        try:
            if isinstance(instance, str) and not matches(value, instance, budget):
                yield ValidationError(f"{instance!r} does not match {value!r}")
        except Unreadable:
            return

    def named(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        for one, rule in value.items():
            for name, held in instance.items() if isinstance(instance, dict) else ():
                if matches(one, name, budget):
                    yield from validator.descend(held, rule, path=name, schema_path=one)

    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        known = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        for name, held in instance.items() if isinstance(instance, dict) else ():
            if name not in known and not any(matches(one, name, budget) for one in patterns):
                if value is False:
                    yield ValidationError(f"Additional property {name!r} is not allowed")
                else:
                    yield from validator.descend(held, value, path=name)

    changed = {"pattern": pattern, "patternProperties": named, "additionalProperties": additional}
    extend: Any = validators.extend  # which has no types
    return extend(declared, {k: v for k, v in changed.items() if k in declared.VALIDATORS})
