"""Bounds that Anthropic's SDK moves into descriptions, since the API takes none.

`Field(ge=3)` is sent as the description `{minimum: 3}`, and what parses the answer still demands it
(anthropic-sdk-python 2.11, `lib/_parse/_transform.py`).
"""

from __future__ import annotations

import re
from typing import Any

_TOLD = re.compile(r"\{([^{}]*)\}\s*\Z")
_BOUND = re.compile(
    r"(minItems|minLength|maxLength|minimum|maximum|exclusiveMinimum|exclusiveMaximum|multipleOf)"
    r": (-?[0-9]{1,15}(?:\.[0-9]{1,15})?)(?=, |\Z)"
)


def with_bounds(schema: Any) -> Any:
    """The schema with its bounds where they belong."""
    if isinstance(schema, list):
        return [with_bounds(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: with_bounds(value) for key, value in schema.items()}
    description = schema.get("description")
    told = _TOLD.search(description) if isinstance(description, str) else None
    for name, number in _BOUND.findall(told[1]) if told else ():
        made.setdefault(name, float(number) if "." in number else int(number))
    return made
