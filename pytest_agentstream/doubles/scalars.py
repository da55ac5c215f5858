"""The plainest text and the plainest number that a JSON schema allows."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles.patterns import TooLong, Unreadable, candidates, matches
from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.doubles.patterns import Budget

WORD = "ok"
LONGEST = 100_000  # characters or items that a schema may demand
NEAR = 1e-9  # of a whole number of steps, where steps are fractions

FORMATS: Mapping[str, str] = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "ok@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}

# fmt: off
PATTERNED = (
    "", WORD, "a", "A", "0", "1", "-", "_", "a1", "A1", "Ok", "ab", "abc", "ABC", "true", "a-b",
    "a_b", "00", "000", "0000", "00000", "0.0", "1.0.0", "12:00", "+10000000000", "#000000",
    *FORMATS.values(), "Aa1!Aa1!", "Aa1!Aa1!Aa1!Aa1!",
)
"""Texts that are tried where a pattern is demanded, after the schema's own examples."""
# fmt: on


class Impossible(Exception):
    """A schema of which the double can't make an instance, and why."""


def size(value: Any) -> int:
    """A number of characters or items that is demanded. Raises Impossible beyond LONGEST."""
    number = int(value or 0)
    if number > LONGEST:
        raise Impossible(f"it demands {number} parts, and the double makes at most {LONGEST}")
    return number


def a_string(schema: Mapping[str, Any], budget: Budget) -> str:
    """A text within the bounds, of the format or the pattern. Raises Impossible."""
    low, high = size(schema.get("minLength")), schema.get("maxLength")
    pattern = schema.get("pattern")
    if pattern is None:
        most = len(WORD) if high is None else int(high)
        text = FORMATS.get(schema.get("format", ""), WORD[:most])
        return text + "k" * (low - len(text))
    told = [schema.get("default"), *(schema.get("examples") or ())]
    tried = [text for text in (*told, *PATTERNED) if isinstance(text, str)]
    tried += [sign * max(1, low) for sign in "a0A"]
    most = LONGEST if high is None else min(int(high), LONGEST)
    try:
        for text in chain(tried, candidates(pattern, low, most)):
            if low <= len(text) <= most and matches(pattern, text, budget):
                return text
    except Unreadable as error:
        for text in told:  # the schema's author can read it
            if isinstance(text, str) and low <= len(text) <= most:
                return text
        raise Impossible(f"{error}; give the schema one under `examples`") from None
    except TooLong as error:
        raise Impossible(str(error)) from None
    raise Impossible(
        f"no text that the double knows matches the pattern {shown(pattern)}; give the schema one "
        "under `examples`"
    )


def a_number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """Zero, or a number near the bounds. Raises Impossible."""
    bounds = ("minimum", "exclusiveMinimum", "exclusiveMaximum", "maximum")
    ends = [schema[name] for name in bounds if name in schema]
    tried = [0, *ends, *(end + 1 for end in ends), *(end - 1 for end in ends)]
    tried += [(one + other) / 2 for one in ends for other in ends]
    step = schema.get("multipleOf") or (1 if whole else None)
    if step:
        steps = [math.floor(one / step) for one in tried]
        tried = [(times + more) * step for times in steps for more in (0, 1, -1)]
    for one in tried:
        if _fits(schema, one):
            return int(one) if whole else one
    raise Impossible(f"no number that the double knows is within its bounds: {shown(schema)}")


def _fits(schema: Mapping[str, Any], number: float) -> bool:
    step = schema.get("multipleOf")
    return (
        schema.get("minimum", number) <= number <= schema.get("maximum", number)
        and ("exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or number < schema["exclusiveMaximum"])
        and (not step or abs(number / step - round(number / step)) < NEAR)
    )
