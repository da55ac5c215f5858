"""The payload of an event, parsed as strictly as RFC 8259 says, whatever a server sends.

Python's own parser takes NaN and Infinity, which RFC 8259 section 6 excludes and browsers reject.
Duplicate names stay legal ("SHOULD be unique", section 4; the last one counts, as in browsers).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from pytest_agentstream.dialects.profile import Payload

DEEPEST = 256  # levels; section 9 lets a parser set limits, and Python's recursion is one
LONGEST_NUMBER = 1000  # digits; beyond a double anyway, and int() takes quadratic time

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the data said: `problem` is why it is not what the dialect declares, or None.

    A payload may stand beside a problem: NaN is no JSON, but the rest of it can still be judged.
    """

    value: Any = None
    problem: str | None = None
    lone_surrogate: bool = False


class _Unreadable(ValueError):
    pass


def parse(data: str, kind: Payload) -> Parsed:
    """Parse the data of one event as the dialect's kind of payload; never raises."""
    if kind.kind == "text":
        return Parsed(data)
    parsed = parse_json(data)
    if kind.kind == "jsonrpc" and parsed.problem is None:
        value = parsed.value
        if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
            return Parsed(value, f'no JSON-RPC message ("jsonrpc": "2.0"): {shown(value)}')
    return parsed


def parse_json(data: str) -> Parsed:
    """Parse one JSON text, no constants beyond RFC 8259, within the limits above."""
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        value = json.loads(data, parse_constant=constant, parse_int=_integer)
    except RecursionError:
        return Parsed(problem=f"nested deeper than {DEEPEST} levels")
    except json.JSONDecodeError as error:
        return Parsed(problem=f"no JSON: {error.msg} at character {error.pos}: {shown(data)}")
    except _Unreadable as error:
        return Parsed(problem=str(error))
    if data.count("[") + data.count("{") > DEEPEST and _too_deep(value):
        return Parsed(problem=f"nested deeper than {DEEPEST} levels")
    lone = _SURROGATE.search(data) is not None and _has_lone_surrogate(value)
    problem = f"{constants[0]} is no JSON: {shown(data)}" if constants else None
    return Parsed(value, problem, lone)


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise _Unreadable(f"a number of {len(digits)} digits")
    return int(digits)


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _has_lone_surrogate(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if any("\ud800" <= char <= "\udfff" for char in item):
                return True
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False
