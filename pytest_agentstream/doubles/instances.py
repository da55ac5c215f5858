"""The smallest instance of a JSON schema: required properties, first values, few items."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from pytest_agentstream.doubles.checking import validator_of
from pytest_agentstream.doubles.patterns import Budget, TooLong, Unreadable, tame
from pytest_agentstream.doubles.scalars import WORD, Impossible, a_number, a_string, size
from pytest_agentstream.wording import capped, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jsonschema.protocols import Validator

DEPTHS = (4, 8, 16, 32)
"""How deep an instance may nest; the first depth at which there is one is taken."""

BUDGET = 20_000  # parts of the schema that are looked at

_KINDS: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def minimal(schema: Any) -> Any:
    """Return a minimal valid instance of a schema. Raises Impossible."""
    if not isinstance(schema, dict | bool):
        raise Impossible(f"it is no JSON schema: {shown(schema)}")
    try:
        return _minimal(schema)
    except Impossible:
        raise
    except RecursionError:
        raise Impossible("it nests too deep") from None
    except (TooLong, Unreadable) as error:
        raise Impossible(str(error)) from None
    except Exception as error:  # whatever jsonschema and we stumble over is in the schema
        raise Impossible(capped(f"{type(error).__name__}: {error}")) from None


def _minimal(schema: Any) -> Any:
    _look_over(schema)
    declared: Any = validator_for(schema, default=Draft202012Validator)
    _demand_schema(declared, schema)
    matching = Budget()
    # with a `$schema` jsonschema goes back to its own class
    root = (
        {key: value for key, value in schema.items() if key != "$schema"}
        if isinstance(schema, dict)
        else schema
    )
    validator = validator_of(declared, matching)(root, registry=Registry())
    wrong = Impossible("it nests too deep")
    budget = [BUDGET]
    for depth in DEPTHS:
        try:
            instance = _Maker(schema, validator, declared, budget, matching).make(schema, depth)
            _check(validator, instance)
            return instance
        except Impossible as error:
            wrong = error
    raise wrong


def _look_over(schema: Any) -> None:
    """Look for what nobody can work with. Raises Impossible."""
    patterns: list[str] = []
    trusting = False  # jsonschema gives patterns to `re` then, whatever we put in its place
    for part in _parts(schema):
        if isinstance(part, float) and not math.isfinite(part):
            raise Impossible(f"it is no JSON schema: {part} is no JSON")
        if not isinstance(part, dict):
            continue
        nested = part is not schema
        if not nested and not isinstance(part.get("$schema", ""), str):
            raise Impossible(f"it is no JSON schema: its $schema is {shown(part['$schema'])}")
        trusting |= "unevaluatedProperties" in part
        trusting |= nested and isinstance(part.get("$schema"), str)
        named = part.get("patternProperties")
        found = [part.get("pattern"), *(named if isinstance(named, dict) else ())]
        patterns += [one for one in found if isinstance(one, str)]
    for pattern in patterns if trusting else ():
        if not tame(pattern):
            raise Impossible(f"its pattern {shown(pattern)} could take for ever")


def _parts(schema: Any) -> Iterator[Any]:
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict | list):
            waiting.extend(part.values() if isinstance(part, dict) else part)


def _demand_schema(declared: Any, schema: Any) -> None:
    try:
        declared.check_schema(schema, FormatChecker(()))  # `pattern` may be of another language
    except SchemaError as error:
        raise Impossible(f"it is no JSON schema: {capped(error.message)}") from None


def _check(validator: Validator, instance: Any) -> None:
    try:
        problem = best_match(validator.iter_errors(instance))
    except Unresolvable as error:
        raise Impossible(f"it refers to what is not in it: {capped(str(error))}") from None
    if isinstance(problem, ValidationError):
        raise Impossible(f"{shown(instance)} was tried: {capped(problem.message)}")


class _Maker:
    def __init__(
        self,
        root: Any,
        validator: Validator,
        declared: Any,
        budget: list[int],
        matching: Budget,
    ) -> None:
        self._root = root
        self._validator = validator
        self._declared = declared
        self._budget = budget
        self._matching = matching
        self._found: dict[str, Any] = {}

    def make(self, schema: Any, depth: int) -> Any:
        self._spend()
        if depth < 0:
            raise Impossible("it nests too deep")
        if schema is False:
            raise Impossible("it allows nothing")
        if not isinstance(schema, dict):
            return WORD
        if "$ref" in schema:
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self.make(_merged([self._resolved(schema["$ref"]), rest]), depth - 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._enumerated(schema)
        if schema.get("allOf"):
            parts = [self._flat(part) for part in schema["allOf"]]
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.make(_merged([rest, *parts]), depth - 1)
        for choice in ("anyOf", "oneOf"):
            if schema.get(choice):
                rest = {key: value for key, value in schema.items() if key != choice}
                parts = [_merged([rest, self._flat(part)]) for part in schema[choice]]
                return self._first(parts, schema, depth)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._first([{**schema, "type": kind} for kind in kinds], schema, depth)
        return self._of_kind(kinds or _implied(schema), schema, depth)

    def _spend(self) -> None:
        self._budget[0] -= 1
        if self._budget[0] < 0:
            raise Impossible("it nests too deep")

    def _enumerated(self, schema: Mapping[str, Any]) -> Any:
        """The first value that meets the other rules."""
        rest = {key: value for key, value in schema.items() if key != "enum"}
        for value in schema["enum"]:
            self._spend()
            if self._valid(rest, value):
                return value
        raise Impossible(f"no value of its enum meets its other rules: {shown(schema)}")

    def _first(self, parts: Sequence[Any], schema: Any, depth: int) -> Any:
        """The first alternative that meets the whole schema, or else that can be made."""
        wrong = Impossible("none of its alternatives can be met")
        made: list[Any] = []
        for part in parts:
            try:
                value = self.make(part, depth - 1)
            except Impossible as error:
                wrong = error
                continue
            for one in _near(value):
                self._spend()
                if self._valid(schema, one):
                    return one
            made.append(value)
        if not made:
            raise wrong
        return made[0]

    def _valid(self, schema: Any, value: Any) -> bool:
        try:
            return self._validator.evolve(schema=schema).is_valid(value)
        except Unresolvable:
            return False

    def _of_kind(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return a_string(schema, self._matching)
            case "number" | "integer":
                return a_number(schema, whole=kind == "integer")
            case "boolean":
                return False
            case "null":
                return None
        raise Impossible(f"its type {shown(kind)} is unknown")

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        made = {
            name: self.make(
                properties.get(name, schema.get("additionalProperties", True)), depth - 1
            )
            for name in schema.get("required") or ()
        }
        lacking = size(schema.get("minProperties")) - len(made)
        spare = [name for name in (*properties, *_names(lacking)) if name not in made]
        for name in spare[: max(0, lacking)]:
            rule = properties.get(name, schema.get("additionalProperties", True))
            made[name] = self.make(rule, depth - 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fixed = schema.get("prefixItems") or ()
        rest = schema.get("items", True)
        length = size(schema.get("minItems"))
        if "contains" in schema:
            length = max(length, size(schema.get("minContains", 1)))
            rest = _merged([self._flat(rest), self._flat(schema["contains"])])
        rules = [fixed[n] if n < len(fixed) else rest for n in range(length)]
        made: list[Any] = []
        for rule in rules:
            one = self.make(rule, depth - 1)
            if schema.get("uniqueItems") and one in made:
                one = _another(self._flat(rule), made)
            made.append(one)
        return made

    def _flat(self, schema: Any) -> Any:
        for _ in range(DEPTHS[-1]):
            if not isinstance(schema, dict) or "$ref" not in schema:
                return schema
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = _merged([self._resolved(schema["$ref"]), rest])
        raise Impossible("it refers to itself")

    def _resolved(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Impossible(f"it refers to what is not in it: {shown(reference)}")
        if reference not in self._found:
            self._found[reference] = self._looked_up(reference)
        return self._found[reference]

    def _looked_up(self, reference: str) -> Any:
        missing = Impossible(f"it refers to what is not in it: {shown(reference)}")
        fragment = unquote(reference[1:])
        found = self._root
        if fragment and not fragment.startswith("/"):
            anchors = ("$anchor", "$dynamicAnchor")
            parts = [part for part in _parts(self._root) if isinstance(part, dict)]
            named = [part for part in parts if fragment in map(part.get, anchors)]
            if not named:
                raise missing
            return named[0]
        for part in fragment.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise missing from None
        if not isinstance(found, dict | bool):
            raise Impossible(f"it refers to what is no schema: {shown(reference)}")
        _demand_schema(self._declared, found)
        return found


def _merged(schemas: Sequence[Any]) -> Any:
    """One schema that demands what all of them do, as far as keys can be joined."""
    made: dict[str, Any] = {}
    for schema in schemas:
        if schema is False:
            return False
        for key, value in schema.items() if isinstance(schema, dict) else ():
            here = made.get(key)
            if isinstance(here, dict) and isinstance(value, dict):
                made[key] = {**here, **value}
            elif key == "required" and isinstance(here, list):
                made[key] = [*here, *(name for name in value if name not in here)]
            elif key == "enum" and isinstance(here, list):
                made[key] = [one for one in here if one in value]
            elif key.startswith(("min", "exclusiveMin")) and key in made:
                made[key] = max(here, value)
            elif key.startswith(("max", "exclusiveMax")) and key in made:
                made[key] = min(here, value)
            else:
                made[key] = value
    return made


def _near(value: Any) -> Iterator[Any]:
    """A value, and others of its kind, for alternatives that must not be met at once."""
    yield value
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield from (value + 0.5, value + 1, value - 0.5, value - 1)
    elif isinstance(value, str):
        yield from (f"{value}k", f"{value}kk")


def _implied(schema: Mapping[str, Any]) -> str:
    for kind, keys in _KINDS.items():
        if any(key in schema for key in keys):
            return kind
    return "string"


def _names(count: int) -> Iterator[str]:
    return (f"{WORD}{number}" for number in range(1, count + 1))


def _another(schema: Any, known: Sequence[Any]) -> Any:
    """A value that is not yet there, for arrays whose items must differ."""
    if isinstance(schema, dict):
        for value in schema.get("enum") or ():
            if value not in known:
                return value
        kind = schema.get("type") or _implied(schema)
        if kind in {"integer", "number"}:
            return max(one for one in known if isinstance(one, int | float)) + (
                schema.get("multipleOf") or 1
            )
        if kind != "string":
            raise Impossible("its items must differ, and the double can't make two of them")
    return f"{WORD}{len(known) + 1}"
