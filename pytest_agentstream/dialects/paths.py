"""Paths into a payload: the small part of JSONPath that a dialect's TOML may use.

A path is names and indices, `a.b[0].c`, optionally written with `$.` in front. A name is any text
without `.`, `[` and `]`; there are no wildcards, filters or negative indices. `$` alone is the
payload itself, which only `text` may name.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

_PATH = re.compile(r"(?:\$\.)?([^.\[\]$][^.\[\]]*(?:\[\d{1,9}\])*)(?:\.[^.\[\]]+(?:\[\d{1,9}\])*)*")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


WHOLE: Final = "$"


class Missing:
    """What `find` returns where a path leads nowhere; None is a value that JSON has."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = Missing()


@lru_cache(maxsize=1024)
def steps(path: str) -> tuple[str | int, ...]:
    """Split a path into names and indices; raises ValueError for what is no path."""
    if _PATH.fullmatch(path) is None:
        raise ValueError(f"{path!r} is no path like a.b[0].c")
    found = _STEP.findall(path.removeprefix("$."))
    return tuple(name or int(index) for name, index in found)


def find(payload: Any, path: str) -> Any:
    """Return the value that a path leads to, or MISSING; never raises for any payload."""
    value = payload
    if path == WHOLE:
        return value
    for step in steps(path):
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return MISSING
            value = value[step]
        else:
            if not isinstance(value, list) or step >= len(value):
                return MISSING
            value = value[step]
    return value


def agrees(payload: Any, where: dict[str, Any]) -> bool:
    """Tell whether every path of `where` leads to its value; a list means one of its values."""
    return all(_is_one_of(find(payload, path), wanted) for path, wanted in where.items())


def _is_one_of(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list) and not isinstance(found, list):
        return any(_same(found, one) for one in wanted)
    return _same(found, wanted)


def _same(found: Any, wanted: Any) -> bool:
    # Python holds True == 1, JSON does not
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)
