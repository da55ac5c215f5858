"""Find scripts in the texts of a request, under whatever escapes programs have put on them."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

from pytest_agentstream.doubles.grammar import parse
from pytest_agentstream.doubles.script import Script, ScriptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARK = re.compile(r"\[\[\s*agentstream\s*:")
LONGEST = 262_144  # characters of a script, as it is written in the request
MOST_MARKS = 50  # of one text; the last ones
DEEPEST = 8  # levels of escapes

_FIRST_SIGN = re.compile(r'["\\&]')
_JSON_ESCAPE = re.compile(
    r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)|"', re.DOTALL
)
_HTML_ESCAPE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31});")


def scripts_in(text: str) -> Iterator[Script | ScriptError]:
    """Yield every script in a text, in order, or what is wrong with it."""
    starts = [found.start() for found in MARK.finditer(text)][-MOST_MARKS:]
    end = 0
    for start in starts:
        if start < end:
            continue  # it stands in a text that another script says
        found, length = _script_at(text[start : start + LONGEST])
        end = start + length
        yield found


def _script_at(text: str) -> tuple[Script | ScriptError, int]:
    """The script at the beginning of a text, and how many of its characters it takes."""
    plain, offsets = _plain(text)
    mark = MARK.match(plain)
    if mark is None:
        return ScriptError("an unreadable script", source=text[:20], cut_short=True), 1
    try:
        script, end = parse(plain, mark.end())
    except ScriptError as error:
        return error, mark.end()
    return script, offsets[end] if offsets else end


def _plain(text: str) -> tuple[str, list[int] | None]:
    """Undo the escapes around a script, and say where each character was; None is: where it is.

    In a script nothing is escaped outside of double quotes, so a `\\` or `&` before the first of
    them is a program's.
    """
    offsets: list[int] | None = None
    for _ in range(DEEPEST):
        sign = _FIRST_SIGN.search(text)
        closing = text.find("]]")
        if sign is None or sign[0] == '"' or 0 <= closing < sign.start():
            break
        undo, pattern = (
            (_json_character, _JSON_ESCAPE) if sign[0] == "\\" else (html.unescape, _HTML_ESCAPE)
        )
        text, places = _undone(text, pattern, undo)
        offsets = places if offsets is None else [offsets[place] for place in places]
    return text, offsets


def _undone(
    text: str, pattern: re.Pattern[str], undo: Callable[[str], str]
) -> tuple[str, list[int]]:
    parts: list[str] = []
    offsets: list[int] = []
    at = 0
    for found in pattern.finditer(text):
        parts.append(text[at : found.start()])
        offsets.extend(range(at, found.start()))
        at = found.start()
        if found[0] == '"':  # the end of the string around
            break
        character = undo(found[0])
        parts.append(character)
        offsets.extend([at] * len(character))
        at = found.end()
    else:
        parts.append(text[at:])
        offsets.extend(range(at, len(text)))
        at = len(text)
    return "".join(parts), [*offsets, at]


def _json_character(escape: str) -> str:
    try:
        return str(json.loads(f'"{escape}"'))
    except ValueError:
        return escape[1:]
