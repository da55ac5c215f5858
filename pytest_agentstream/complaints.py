"""Complaints: what pydantic says of a file, in sentences for the person who wrote it."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from pytest_agentstream.wording import listed, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_KINDS = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_parsing_size": "a whole number of fewer digits",
    "finite_number": "a finite number",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """One key that is wrong, dotted as in the file, and what is wrong with it."""

    key: str
    words: str

    def __str__(self) -> str:
        return f"{self.key} {self.words}"


def complaints(
    error: ValidationError, root: type[BaseModel], *, hidden: Collection[str] = ()
) -> list[Complaint]:
    """Return one complaint for each key that is wrong in what should have been a `root`.

    `hidden` are keys, in lower case, whose values are not quoted: they may be secrets.
    """
    found: dict[str, list[_Part]] = {}
    for detail in error.errors(include_url=False):
        key, model = _place(detail["loc"], root)
        found.setdefault(key, []).append(_part(key, model, detail, hidden))
    # where a table fits one member of a union but for a key, the others' complaints say nothing
    deepest = [key for key in found if not any(other.startswith(f"{key}.") for other in found)]
    return [Complaint(key, _words(found[key])) for key in deepest]


class _Part(NamedTuple):
    found: str
    expected: str
    hint: str = ""


def _words(parts: list[_Part]) -> str:
    # a value that fits no member of a union fails once for each: any of them was expected
    wanted = listed(dict.fromkeys(part.expected for part in parts))
    return f"{parts[0].found}; expected {wanted}{''.join(part.hint for part in parts)}"


def _part(
    key: str, model: type[BaseModel] | None, detail: ErrorDetails, hidden: Collection[str]
) -> _Part:
    kind, value = detail["type"], detail["input"]
    last = key.rpartition(".")[2]
    if kind == "missing":
        return _Part("is missing", _wanted(model, last))
    if kind == "extra_forbidden":
        known = _keys(model)
        return _Part("is no key that is known here", listed(known), nearest(last, known))
    concealed = any(part.strip('"').lower() in hidden for part in key.split("."))
    found = "has a value of the wrong kind" if concealed else f"is {shown(value)}"
    context: dict[str, Any] = detail.get("ctx", {})
    match kind:
        case "literal_error" | "enum":
            expected = str(context["expected"]).replace("'", '"')
            choices = [part.strip('" ') for part in expected.replace(" or ", ",").split(",")]
            hint = nearest(value, choices) if isinstance(value, str) else ""
            return _Part(found, expected, hint)
        case "greater_than":
            return _Part(found, f"a number above {context['gt']:g}")
        case "greater_than_equal":
            return _Part(found, f"a number not below {context['ge']:g}")
        case "less_than":
            return _Part(found, f"a number below {context['lt']:g}")
        case "less_than_equal":
            return _Part(found, f"a number not above {context['le']:g}")
    return _Part(found, (_KINDS.get(kind) or detail["msg"]) + _example(model, key))


def _example(model: type[BaseModel] | None, key: str) -> str:
    """What a value of the field may look like, where the field says so."""
    name = _field(model, key.rpartition(".")[2]) if model is not None else None
    examples = model.model_fields[name].examples if model is not None and name else None
    return f" such as {examples[0]}" if examples else ""


def _wanted(model: type[BaseModel] | None, key: str) -> str:
    name = _field(model, key) if model is not None else None
    if model is None or name is None:
        return "a value"
    match get_origin(model.model_fields[name].annotation):
        case origin if origin is dict:
            return "a table"
        case origin if origin is tuple:
            return "an array"
    return "text"


def _keys(model: type[BaseModel] | None) -> list[str]:
    fields = model.model_fields if model is not None else {}
    return [field.alias or name for name, field in fields.items()]


def _field(model: type[BaseModel], key: object) -> str | None:
    return next((n for n, f in model.model_fields.items() if key == (f.alias or n)), None)


def _place(loc: tuple[str | int, ...], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted key of a location, and the model in which its last part stands.

    A location also names the member of a union that was tried, which is no part of the key.
    """
    here: Any = root
    holder: type[BaseModel] | None = root
    dotted = ""
    for part in loc:
        here, tagged = _member(here, part)
        if tagged:
            continue
        dotted += f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}"
        holder = here if _is_model(here) else None
        here = _inside(here, part)
    return dotted.removeprefix("."), holder


def _member(here: Any, part: str | int) -> tuple[Any, bool]:
    if get_origin(here) not in (Union, types.UnionType):
        return here, False
    members = [one for one in get_args(here) if one is not type(None)]
    if len(members) == 1:
        return members[0], False
    named = [one for one in members if _is_model(one) and one.__name__ == part]
    return (named[0] if named else None), True


def _is_model(here: Any) -> bool:
    return isinstance(here, type) and issubclass(here, BaseModel)


def _inside(here: Any, part: str | int) -> Any:
    if _is_model(here):
        name = _field(here, part)
        return here.model_fields[name].annotation if name is not None else None
    arguments = get_args(here)
    if get_origin(here) is dict:
        return arguments[1]
    return arguments[0] if get_origin(here) is tuple else None


def _quoted(part: str) -> str:
    return part if part.replace("_", "a").replace("-", "a").isalnum() else f'"{part}"'
