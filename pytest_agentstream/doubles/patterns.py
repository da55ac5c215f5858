"""Regular expressions as JSON schemas have them: read, matched in bounded time, and made to match.

They are not given to `re`, where a short pattern may take for ever. Read is what ECMA-262 and
Python have in common, without what looks back.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 10_000  # characters of a text that is matched
STEPS = 1_000_000  # places in texts that are looked at for one schema
MOST = 100_000  # repetitions of a part
NESTED = 50  # groups within groups
CHOICES = 8  # alternatives that are tried
REPEATED = 16  # repetitions that are lengthened

_PLAIN = "aA0-_ ok."
_DIGITS = "0123456789"
_WORDY = _DIGITS + "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACES = " \t\n\r\f\v\u00a0\u2028\u2029\ufeff"
_ENDS = "\n\r\u2028\u2029"
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_CLASSES = {"d": _DIGITS, "w": _WORDY, "s": _SPACES}

Fits: TypeAlias = "Callable[[str], bool]"


class Unreadable(Exception):
    """A pattern that is not read here, and why."""


class TooLong(Exception):
    """A match that would take too long."""


@dataclass(frozen=True, slots=True)
class One:
    """One character; `known` are some that fit."""

    fits: Fits
    known: str = ""


@dataclass(frozen=True, slots=True)
class At:
    """A place: `^`, `$`, `b` or `B`."""

    where: str


@dataclass(frozen=True, slots=True)
class Row:
    """One part behind the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Alternatives."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """A part again and again."""

    part: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What must, or must not, follow."""

    part: Node
    wanted: bool


Node: TypeAlias = One | At | Row | Either | Times | Ahead


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    depth: int = 0

    def pattern(self) -> Node:
        made = self._either()
        if self.at < len(self.text):
            raise self._wrong("a ) without its (")
        return made

    def _wrong(self, why: str) -> Unreadable:
        return Unreadable(
            f"error in the pattern {shown(self.text)}, or the double can't read {why}"
        )

    def _took(self, sign: str) -> bool:
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) * found
        return found

    def _next(self) -> str:
        if self.at == len(self.text):
            raise self._wrong("its end")
        self.at += 1
        return self.text[self.at - 1]

    def _either(self) -> Node:
        self.depth += 1
        if self.depth > NESTED:
            raise self._wrong(f"more than {NESTED} groups in each other")
        parts = [self._row()]
        while self._took("|"):
            parts.append(self._row())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _row(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            part = self._part()
            bounds = self._bounds()
            if bounds:
                if isinstance(part, At | Ahead):
                    raise self._wrong("a repetition of a place")
                self._took("?")
                part = Times(part, *bounds)
                if self._bounds() or self._took("+"):
                    raise self._wrong("a repetition of a repetition")
            parts.append(part)
        return Row(tuple(parts))

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._took(sign):
                return bounds
        end = self.text.find("}", self.at)
        if not self.text.startswith("{", self.at) or end < 0:
            return None
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        told = [one for one in (low, high) if one]
        if not all(one.isascii() and one.isdigit() and len(one) < 7 for one in told) or not told:
            return None
        if not low:
            raise self._wrong("{,…}")
        self.at = end + 1
        least = int(low)
        most = int(high) if high else None if comma else least
        if max(least, most or 0) > MOST or (most is not None and most < least):
            raise self._wrong("its bounds")
        return least, most

    def _part(self) -> Node:
        sign = self._next()
        match sign:
            case "(":
                return self._group()
            case "[":
                return self._set()
            case "^" | "$":
                return At(sign)
            case ".":
                return One(lambda char: char not in _ENDS)
            case "*" | "+" | "?":
                raise self._wrong("a repetition of nothing")
            case "{":
                self.at -= 1
                if self._bounds():
                    raise self._wrong("a repetition of nothing")
                self.at += 1
            case "\\":
                if self._took("b"):
                    return At("b")
                if self._took("B"):
                    return At("B")
                return self._escape()
        return _just(sign)

    def _group(self) -> Node:
        ahead: bool | None = None
        if self._took("?="):
            ahead = True
        elif self._took("?!"):
            ahead = False
        elif self._took("?<") or self._took("?P<"):
            name, end, _ = self.text[self.at :].partition(">")
            if not end or not name.isidentifier():
                raise self._wrong("a group that looks back")
            self.at += len(name) + 1
        elif not self._took("?:") and self._took("?"):
            raise self._wrong("flags")
        made = self._either()
        if not self._took(")"):
            raise self._wrong("a ( without its )")
        return made if ahead is None else Ahead(made, ahead)

    def _set(self) -> Node:
        negated = self._took("^")
        parts: list[One] = []
        if self.text.startswith("]", self.at):
            raise self._wrong("an empty set")
        while not self._took("]"):
            low = self._member()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                high = self._member()
                if len(low.known) != 1 or len(high.known) != 1:
                    parts += [low, _just("-")]  # a class such as `\\w` begins no range
                    low = high
                elif low.known > high.known:
                    raise self._wrong("a range in a set")
                else:
                    low = _range(low.known, high.known)
            parts.append(low)
        known = "" if negated else "".join(part.known for part in parts)
        return One(lambda char: any(part.fits(char) for part in parts) != negated, known)

    def _member(self) -> One:
        sign = self._next()
        if sign == "[":
            raise self._wrong("a [ in a set")
        if sign == "\\":
            return _just("\b") if self._took("b") else self._escape()
        return _just(sign)

    def _escape(self) -> One:
        sign = self._next()
        if sign in _CONTROLS:
            if sign == "0" and self.text[self.at : self.at + 1].isdigit():
                raise self._wrong("an octal number")
            return _just(_CONTROLS[sign])
        if sign.lower() in _CLASSES:
            known = _CLASSES[sign.lower()]
            if sign.islower():
                return One(lambda char: char in known, known)
            return One(lambda char: char not in known)
        if sign in "xu":
            digits = self.text[self.at : self.at + (2 if sign == "x" else 4)]
            try:
                number = int(digits, 16) if digits.isalnum() else -1
                made = _just(chr(number))
            except ValueError:
                raise self._wrong(f"\\{sign}{digits}") from None
            self.at += len(digits)
            return made
        if sign in "pP" and self._took("{"):
            name, _, _ = self.text[self.at :].partition("}")
            self.at += len(name) + 1
            if name not in _CATEGORIES:
                raise self._wrong(f"\\{sign}{{{name}}}")
            wanted = sign == "p"
            return One(lambda char: unicodedata.category(char).startswith(name) == wanted)
        if sign.isalnum():
            raise self._wrong(f"\\{sign}")
        return _just(sign)


_CATEGORIES = {
    *("L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "Z", "Zs"),
    *("P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Zl", "Zp"),
}


def _just(sign: str) -> One:
    return One(lambda char: char == sign, sign)


def _range(low: str, high: str) -> One:
    return One(lambda char: low <= char <= high, low)


@lru_cache(maxsize=256)
def read(pattern: str) -> Node:
    """Read a pattern. Raises Unreadable."""
    return _Reader(pattern).pattern()


@dataclass(slots=True)
class Budget:
    """The steps that are left for all matches together."""

    left: int = STEPS


def matches(pattern: str, text: str, budget: Budget) -> bool:
    """Whether the pattern is somewhere in the text. Raises Unreadable, and TooLong."""
    node = read(pattern)
    if len(text) > LONGEST:
        raise TooLong(f"a text of {len(text)} characters is too long to be matched")
    return bool(_Match(text, budget).ends(node, set(range(len(text) + 1))))


@dataclass(slots=True)
class _Match:
    text: str
    budget: Budget

    def ends(self, node: Node, starts: set[int]) -> set[int]:
        """Where the node can end that starts at one of these places."""
        self.budget.left -= len(starts) + 1
        if self.budget.left < 0:
            raise TooLong("its patterns take too long to be matched")
        text = self.text
        match node:
            case One(fits):
                return {at + 1 for at in starts if at < len(text) and fits(text[at])}
            case At(where):
                return {at for at in starts if self._is(where, at)}
            case Row(parts):
                for part in parts:
                    if not starts:
                        break
                    starts = self.ends(part, starts)
                return starts
            case Either(parts):
                return set(chain.from_iterable(self.ends(part, starts) for part in parts))
            case Ahead(part, wanted):
                return {at for at in starts if bool(self.ends(part, {at})) == wanted}
            case Times(part, least, most):
                return self._times(part, least, most, starts)

    def _times(self, part: Node, least: int, most: int | None, starts: set[int]) -> set[int]:
        for _ in range(least):
            starts = self.ends(part, starts)
            if not starts:
                return starts
        found, new, count = set(starts), starts, least
        while new and (most is None or count < most):
            new = self.ends(part, new) - found
            found |= new
            count += 1
        return found

    def _is(self, where: str, at: int) -> bool:
        text = self.text
        if where == "^":
            return at == 0
        if where == "$":
            return at == len(text)
        before = at > 0 and text[at - 1] in _WORDY
        behind = at < len(text) and text[at] in _WORDY
        return (before != behind) == (where == "b")


def tame(pattern: str) -> bool:
    """Whether `re` can be trusted with it: read here, and with few repetitions, none in another."""
    try:
        node = read(pattern)
    except Unreadable:
        return False
    repeated = [one for one in _all(node) if isinstance(one, Times) and one.least != one.most]
    nested = any(isinstance(one, Times | Either) for each in repeated for one in _all(each.part))
    return len(repeated) <= 2 and not nested


def _all(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case Row(parts) | Either(parts):
            for part in parts:
                yield from _all(part)
        case Times(part) | Ahead(part):
            yield from _all(part)


def candidates(pattern: str, low: int, high: int) -> Iterator[str]:
    """Texts that may match, the plainest first. Raises Unreadable."""
    node = read(pattern)
    repeated = [one for one in _all(node) if isinstance(one, Times)][:REPEATED]
    for choice in range(CHOICES):
        maker = _Maker(high, choice)
        text = maker.make(node)
        lack = low - len(text)
        yield text
        for one in repeated:
            size = len(maker.make(one.part))
            most = MOST if one.most is None else one.most
            more = -(-max(lack, size) // size) if size else 0
            if more and one.least < most:
                yield _Maker(high, choice, {id(one): min(one.least + more, most)}).make(node)
        if lack > 0:
            every = {id(one): one.most for one in repeated if one.most is not None}
            yield _Maker(high, choice, every).make(node)
            yield text + "k" * lack
            yield "k" * lack + text


@dataclass(slots=True)
class _Maker:
    high: int
    choice: int
    counts: dict[int, int] = field(default_factory=dict)

    def make(self, node: Node) -> str:
        match node:
            case One():
                return _plainest(node)
            case Row(parts):
                return "".join(self.make(part) for part in parts)[: self.high + 1]
            case Either(parts):
                return self.make(parts[min(self.choice, len(parts) - 1)])
            case Times(part, least):
                count = min(self.counts.get(id(node), least), self.high + 1)
                return (self.make(part) * count)[: self.high + 1] if count else ""
            case At() | Ahead():
                return ""


def _plainest(one: One) -> str:
    printable = map(chr, range(0x20, 0x3000))
    for char in chain(_PLAIN, one.known, printable):
        if one.fits(char):
            return char
    return ""
