"""Templates: `{prompt}`, `{uuid}`, `{env:NAME}` and captured values in whatever is sent.

1. `{name}` is a variable where `name` is an identifier (`-` and `.` allowed inside), `{env:NAME}` a
   variable of the environment.
2. `{{` before something that would be a template, and `}}` behind it, escape it: `{{name}}` is the
   text `{name}`.
3. Every other brace stands for itself, so that JSON can be written as text: `{"a": {}}`.
4. What a variable holds is never rendered again.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NAME = r"(?:env:)?[A-Za-z_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_TEMPLATE = re.compile(rf"\{{\{{({_NAME})\}}\}}|\{{({_NAME})\}}")


class TemplateError(ValueError):
    """A template names something that is not there."""


def render(value: Any, variables: Mapping[str, str], env: Mapping[str, str]) -> Any:
    """Return `value`, a text or JSON, with the templates in every text of it filled in.

    Keys of objects are rendered too. Raises `TemplateError` naming the unknown variable and the
    nearest known one, or the missing variable of the environment.
    """
    return _deep(
        value,
        lambda text: _TEMPLATE.sub(lambda match: _replacement(match, variables, env), text),
    )


def render_url(url: str, variables: Mapping[str, str], env: Mapping[str, str]) -> str:
    """Return `url` with its templates filled in, each value percent-encoded.

    `{location}` is a URL itself and stays as it is. Raises `TemplateError`.
    """
    raw = {"location"}
    return _TEMPLATE.sub(
        lambda match: (
            _replacement(match, variables, env)
            if match[1] or match[2] in raw
            else quote(_replacement(match, variables, env), safe="")
        ),
        url,
    )


def names(value: Any) -> frozenset[str]:
    """Return what the templates in `value` name, `env:NAME` for variables of the environment."""
    found: set[str] = set()

    def collect(text: str) -> str:
        found.update(match[2] for match in _TEMPLATE.finditer(text) if match[2])
        return text

    _deep(value, collect)
    return frozenset(found)


def environment_names(value: Any) -> frozenset[str]:
    """Return the variables of the environment that `value` uses; what they hold are secrets."""
    return frozenset(name.removeprefix("env:") for name in names(value) if name.startswith("env:"))


def _deep(value: Any, each: Callable[[str], str]) -> Any:
    match value:
        case str():
            return each(value)
        case dict():
            return {_deep(key, each): _deep(item, each) for key, item in value.items()}
        case list() | tuple():
            return [_deep(item, each) for item in value]
        case _:
            return value


def _replacement(match: re.Match[str], variables: Mapping[str, str], env: Mapping[str, str]) -> str:
    if match[1] is not None:
        return f"{{{match[1]}}}"
    name = match[2]
    if name.startswith("env:"):
        return _from_environment(name.removeprefix("env:"), env)
    if name not in variables:
        raise TemplateError(_unknown(name, sorted(variables)))
    return variables[name]


def _from_environment(name: str, env: Mapping[str, str]) -> str:
    if name not in env:
        raise TemplateError(
            f"the template {{env:{name}}} needs the environment variable {name}, which is not set"
        )
    return env[name]


def _unknown(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    meant = f"; did you mean {{{near[0]}}}?" if near else "."
    listed = ", ".join(f"{{{each}}}" for each in known) or "none"
    return (
        f"unknown variable in the template {{{name}}}{meant} Known here: {listed}, {{env:NAME}}. "
        f"Write {{{{{name}}}}} for the text {{{name}}}."
    )
