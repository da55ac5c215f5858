"""Read which scenario a request asks for: `X-Agentstream-Scenario: NAME; key=value; key="quoted"`.

The header is a control for tests. Its grammar is that of a media type's parameters (RFC 9110,
5.6.6), with a name in place of the type. Everything is read and checked before the run starts, so
that a wrong control is an HTTP error and never a strange stream.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HEADER = "x-agentstream-scenario"

_NAME = re.compile(r"\s*([a-z][a-z0-9-]*)\s*")
_PARAMETER = re.compile(r""";\s*([a-z][a-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))\s*""")


class BadScenario(ValueError):
    """The header cannot be obeyed; the text says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the agent is asked to do; `task.scenario["seconds"]` is a parameter's value."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter may be: its default, what it must be in words, and how it is read."""

    default: str | float | bool
    must_be: str
    read: Callable[[str], str | float | bool]


def seconds(default: float) -> Parameter:
    """Describe a duration in seconds."""

    def read(text: str) -> float:
        if not 0 <= float(text) <= 3600:
            raise ValueError
        return float(text)

    return Parameter(default, "seconds between 0 and 3600", read)


def number(default: int, most: int) -> Parameter:
    """Describe a count."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
            raise ValueError
        return int(text)

    return Parameter(default, f"a whole number between 0 and {most}", read)


def flag(default: bool) -> Parameter:
    """Describe a yes or no."""
    return Parameter(
        default, "true or false", lambda text: _one_of(text, ("true", "false"))[0] == "t"
    )


def choice(*options: str) -> Parameter:
    """Describe one of several words; the first is the default."""
    return Parameter(
        options[0], f"one of {', '.join(options)}", lambda text: _one_of(text, options)
    )


def words(default: str) -> Parameter:
    """Describe any text."""
    return Parameter(default, "a text", str)


def _one_of(text: str, options: Iterable[str]) -> str:
    if text not in options:
        raise ValueError
    return text


def parse(header: str, known: Mapping[str, Mapping[str, Parameter]]) -> Scenario:
    """Read the header's value; raise BadScenario where it is not one of the known scenarios."""
    name = _NAME.match(header)
    if name is None:
        raise BadScenario("it must begin with the name of a scenario")
    if name[1] not in known:
        raise BadScenario(f"there is no scenario {name[1]!r}{nearest(name[1], known)}")
    parameters = known[name[1]]
    values = {key: parameter.default for key, parameter in parameters.items()}
    position = name.end()
    while position < len(header):
        match = _PARAMETER.match(header, position)
        if match is None:
            raise BadScenario(f"`; key=value` was expected at character {position + 1}")
        key, quoted, plain = match.groups()
        if key not in parameters:
            raise BadScenario(f"{name[1]} has no parameter {key!r}{nearest(key, parameters)}")
        text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        try:
            values[key] = parameters[key].read(text)
        except ValueError:
            raise BadScenario(f"{key} must be {parameters[key].must_be}, not {text!r}") from None
        position = match.end()
    return Scenario(name[1], values)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name that is most like this one, or nothing."""
    like = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean {like[0]!r}?" if like else ""
