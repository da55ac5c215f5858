"""A mapping in the shape of the user's own `complete`: the same request, with other words in it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_agentstream.target import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.target import Target

TEXT_KEYS = ("message", "prompt", "content", "input", "text", "query", "question")
"""Keys under which agents usually take what a user says."""


def example(target: Target, name: str) -> str:
    """A mapping in the shape of the user's own `complete`, which asks for the scenario by name."""
    asked = "{prompt}" if name == "echo" else name
    complete = target.scenarios.get("complete", Scenario())
    parts = []
    for key, value in (
        ("method", complete.method),
        ("path", complete.path),
        ("query", complete.query or None),
        ("json", complete.json_body),
    ):
        if value is not None:
            body = asking(value, asked) if key in {"query", "json"} else value
            parts.append(f"{key} = {_toml(body)}")
    if complete.json_body is None and not complete.query:
        where = "query" if (complete.method or "").upper() == "GET" else "json"
        parts.append(f'{where} = {{ message = "{asked}" }}')
    return ", ".join(parts)


def asking(value: Any, asked: str) -> Any:
    """The same body with the user's words replaced: the first text, under TEXT_KEYS if any is."""
    texts = list(_texts(value, ()))
    usual = [place for place in texts if place and place[-1] in TEXT_KEYS]
    return _replaced(value, (usual or texts)[0], asked) if texts else value


def _texts(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    match value:
        case str() if "{env:" not in value:
            yield place
        case dict():
            for key, item in value.items():
                yield from _texts(item, (*place, key))
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _texts(item, (*place, number))


def _replaced(value: Any, place: tuple[str | int, ...], text: str) -> Any:
    if not place:
        return text
    first, *rest = place
    items = value.items() if isinstance(value, dict) else enumerate(value)
    changed = {k: _replaced(v, tuple(rest), text) if k == first else v for k, v in items}
    return changed if isinstance(value, dict) else list(changed.values())


def _toml(value: Any) -> str:
    """A value as it is written in an inline table; null, which TOML lacks, is left out."""
    match value:
        case dict():
            pairs = (f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
            return f"{{ {', '.join(pairs)} }}"
        case list() | tuple():
            return f"[{', '.join(_toml(item) for item in value if item is not None)}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
