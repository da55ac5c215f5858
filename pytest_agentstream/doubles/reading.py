"""A cursor over the text of a script: it takes one thing after another, or says what it found."""

from __future__ import annotations

import json
import re
from typing import NoReturn

from pytest_agentstream.doubles.script import ScriptError
from pytest_agentstream.wording import shown

LONGEST_WAIT = 600.0  # seconds
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
EXCERPT = 40  # characters of a script that an error quotes
ELLIPSES = ("…", "...")

_SPACE = re.compile(r"\s*")
_STEP = re.compile(r"(?:(?!\]\]|;)[^\n])*")
_WORD = re.compile(r"[^\s;\[\]\"{}]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m)")
_JSON = json.JSONDecoder(strict=False)


class Reader:
    """A place in a script. All that takes something raises ScriptError where it isn't there."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.at = start
        self.step = 1
        self.skip()

    def skip(self) -> None:
        """Pass over white space."""
        self.at = self._after(_SPACE)

    def ahead(self, sign: str) -> bool:
        """Whether that comes next."""
        return self.text.startswith(sign, self.at)

    def take(self, sign: str) -> bool:
        """Take that if it comes next."""
        if not self.ahead(sign):
            return False
        self.at += len(sign)
        self.skip()
        return True

    def peek(self) -> str:
        """The next word, or an empty string."""
        found = _WORD.match(self.text, self.at)
        return found[0] if found else ""

    def word(self, expected: str) -> str:
        """Take a word."""
        word = self.peek()
        if not word:
            self.fail(expected)
        self.take(word)
        return word

    def takes(self, word: str) -> bool:
        """Take that word if it is the next one."""
        return self.peek() == word and self.take(word)

    def one_of(self, words: tuple[str, ...]) -> str:
        """Take one of these words if it is next; otherwise an empty string."""
        word = self.peek()
        return word if word in words and self.take(word) else ""

    def number(self, expected: str, low: int, high: int) -> int:
        """Take a whole number within bounds."""
        word = self.peek()
        if not re.fullmatch("[0-9]{1,9}", word) or not low <= int(word) <= high:
            self.fail(expected)
        self.take(word)
        return int(word)

    def duration(self) -> float:
        """Take a duration, as seconds."""
        found = _DURATION.fullmatch(self.peek())
        seconds = float(found[1]) * UNITS[found[2]] if found else LONGEST_WAIT + 1
        if seconds > LONGEST_WAIT:
            self.fail("a duration of at most 10 minutes, such as 20ms or 5s")
        self.word("")
        return seconds

    def quoted(self) -> str:
        """Take a text in double quotes, a JSON string in which line ends may stand as they are."""
        found = _QUOTED.match(self.text, self.at)
        if not found:
            self.fail("a text with a closing quotation mark")
        try:
            text = _JSON.decode(re.sub(r"\\(.)", _plain_apostrophe, found[0], flags=re.DOTALL))
        except ValueError:
            self.fail("a JSON string, whose escapes are those of JSON")
        self.at = found.end()
        self.skip()
        return str(text)

    def json_object(self) -> str:
        """Take a JSON object, as it is written."""
        start = self.at
        try:
            _, self.at = _JSON.raw_decode(self.text, start)
        except (ValueError, RecursionError):
            self.fail("a JSON object")
        text = self.text[start : self.at]
        self.skip()
        return text

    def fail(self, expected: str) -> NoReturn:
        """Say what was expected here, and whether the script is only cut short."""
        over = self.at >= len(self.text)
        rest = self._rest()
        found = "the end of the text" if over else shown(rest[:EXCERPT])
        raise ScriptError(
            f"step {self.step} of the script, at character {self.at + 1}: expected {expected}, "
            f"found {found}",
            source=self.text[: self.at],
            cut_short=rest.endswith(ELLIPSES) or "]]" not in self.text[self.at :],
        )

    def _rest(self) -> str:
        found = _STEP.match(self.text, self.at)
        rest = found[0].strip() if found else ""
        return rest or self.text[self.at : self.at + 2]

    def _after(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        return found.end() if found else self.at


def _plain_apostrophe(escape: re.Match[str]) -> str:
    # what quotes a message as Python does escapes it
    return "'" if escape[1] == "'" else escape[0]
