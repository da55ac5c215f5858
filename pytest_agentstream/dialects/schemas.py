"""Schemas: what a payload must look like, compiled once per dialect, and what is wrong with one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pytest_agentstream.dialects.reading import Violation
from pytest_agentstream.wording import capped, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REQUIRED = "schema.required-fields"
EXTRA = "schema.no-extra-fields"
NULL = "schema.no-null-optionals"
MOST = 5  # violations reported of one payload

_URI = "urn:agentstream:schema"
_NULL_OPTIONAL = "a null optional"
_EXTRAS = ("additionalProperties", "unevaluatedProperties")
_UNAPPLICABLE = (OverflowError, RecursionError, Unresolvable)


class Schema:
    """The compiled schema of one event type.

    `document` is a JSON Schema (2020-12 unless its `$schema` says otherwise), `pointer` the part of
    it that is meant. `nulls` is whether an optional field may be null although its type does not
    say so. The document must be valid: see `schema_files`.
    """

    def __init__(
        self, name: str, document: Mapping[str, Any], *, pointer: str = "", nulls: bool = False
    ) -> None:
        self._name = name
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        declared = validator_for(document, default=Draft202012Validator)
        strict: Any = extend(declared, {"properties": _properties_where(nulls)})  # type: ignore[no-untyped-call]
        self._validator = strict(
            {"$ref": f"{_URI}#{pointer}"} if pointer else document,
            registry=Registry().with_resource(_URI, resource),
        )

    def violations(self, payload: Any) -> tuple[Violation, ...]:
        """Return what is wrong with a payload, at most MOST of it; empty where it is good."""
        try:
            errors = list(islice(self._validator.iter_errors(payload), MOST))
        except _UNAPPLICABLE as error:
            why = f"{type(error).__name__} while it was checked: {shown(payload)}"
            return (Violation(REQUIRED, f"a payload of `{self._name}` within reason", capped(why)),)
        # a misspelt field is missing under one name and undeclared under another: one finding
        missing = any(error.validator == "required" for error in errors)
        return tuple(
            self._violation(best_match([error]) or error)
            for error in errors
            if not (missing and error.validator in _EXTRAS)
        )

    def _violation(self, error: ValidationError) -> Violation:
        path = _dotted(error)
        inside = f"`{path}` of `{self._name}`" if path else f"`{self._name}`"
        actual = f"{path} = {shown(error.instance)}" if path else shown(error.instance)
        instance: Any = error.instance
        rule: Any = error.validator_value
        match error.validator:
            case "required":
                names = [name for name in rule if name not in instance]
                wanted = listed((f"`{name}`" for name in names[:MOST]), "and")
                return Violation(REQUIRED, capped(f"{wanted} in {inside}"), capped(actual))
            case "additionalProperties" | "unevaluatedProperties":
                declared = _declared(error)
                extra = [shown(name) for name in instance if name not in declared]
                expected = f"no fields in {inside} but {listed(declared, 'and') or 'none'}"
                return Violation(EXTRA, capped(expected), capped(f"also {', '.join(extra)}"))
            case _ if error.validator == _NULL_OPTIONAL:
                return Violation(NULL, capped(f"{inside} left out, not null"), capped(actual))
        return Violation(REQUIRED, capped(f"{inside} to be {_wanted(error)}"), capped(actual))


def _wanted(error: ValidationError) -> str:
    value: Any = error.validator_value
    match error.validator:
        case "type":
            return listed([value] if isinstance(value, str) else [str(kind) for kind in value])
        case "enum":
            return listed(shown(one) for one in value)
        case "const":
            return shown(value)
        case "minimum":
            return f"at least {value}"
        case "maximum":
            return f"at most {value}"
    return f"as its schema says ({error.validator}: {shown(value)})"


def _dotted(error: ValidationError) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path]
    return "".join(parts).removeprefix(".")


def _declared(error: ValidationError) -> tuple[str, ...]:
    properties = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    return tuple(properties)


def _properties_where(nulls: bool) -> Any:
    def properties(
        validator: Any, declared: dict[str, Any], instance: Any, schema: dict[str, Any]
    ) -> Iterator[ValidationError]:
        if not isinstance(instance, dict):
            return
        for name, rule in declared.items():
            if name not in instance:
                continue
            value = instance[name]
            if value is None and name not in schema.get("required", ()) and not _says_null(rule):
                if not nulls:
                    yield ValidationError(
                        "null", validator=_NULL_OPTIONAL, path=[name], instance=value
                    )
                continue
            yield from validator.descend(value, rule, path=name, schema_path=name)

    return properties


def _says_null(rule: Any) -> bool:
    # `any`, or null by name. Not `anyOf`, which schemas made of a model say of every optional field
    return not isinstance(rule, dict) or not rule or "null" in (rule.get("type") or ())
