"""Complaints: what pydantic says of a profile, in sentences for the person who wrote the file."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from pytest_agentstream.dialects.profile import Profile
from pytest_agentstream.dialects.words import listed, nearest, shown

if TYPE_CHECKING:
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
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
}


def complaints(error: ValidationError) -> list[str]:
    """Return one sentence for each key that is wrong."""
    found: dict[str, list[_Complaint]] = {}
    for detail in error.errors(include_url=False):
        key, model = _place(detail["loc"])
        found.setdefault(key, []).append(_parts(key, model, detail))
    # where a table fits one member of a union but for a key, the others' complaints say nothing
    deepest = [key for key in found if not any(other.startswith(f"{key}.") for other in found)]
    return [_sentence(found[key]) for key in deepest]


class _Complaint(NamedTuple):
    found: str
    expected: str
    hint: str = ""


def _sentence(parts: list[_Complaint]) -> str:
    # a value that fits no member of a union fails once for each: any of them was expected
    wanted = listed(dict.fromkeys(part.expected for part in parts))
    return f"{parts[0].found}; expected {wanted}{''.join(part.hint for part in parts)}"


def _parts(key: str, model: type[BaseModel] | None, detail: ErrorDetails) -> _Complaint:
    kind, value = detail["type"], detail["input"]
    last = key.rpartition(".")[2]
    if kind == "missing":
        return _Complaint(f"{key} is missing", _wanted(model, last))
    if kind == "extra_forbidden":
        known = _keys(model)
        found = f"{key} is no key that is known here"
        return _Complaint(found, listed(known), nearest(last, known))
    found = f"{key} is {shown(value)}"
    context: dict[str, Any] = detail.get("ctx", {})
    match kind:
        case "literal_error" | "enum":
            expected = str(context["expected"]).replace("'", '"')
            choices = [part.strip('" ') for part in expected.replace(" or ", ",").split(",")]
            hint = nearest(value, choices) if isinstance(value, str) else ""
            return _Complaint(found, expected, hint)
        case "greater_than":
            return _Complaint(found, f"a number above {context['gt']:g}")
        case "greater_than_equal":
            return _Complaint(found, f"a number not below {context['ge']:g}")
    return _Complaint(found, _KINDS.get(kind) or detail["msg"])


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


def _place(loc: tuple[str | int, ...]) -> tuple[str, type[BaseModel] | None]:
    """Return the dotted key of a location, and the model in which its last part stands.

    A location also names the member of a union that was tried, which is no part of the key.
    """
    here: Any = Profile
    holder: type[BaseModel] | None = Profile
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
