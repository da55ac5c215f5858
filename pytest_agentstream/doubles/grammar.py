"""The grammar of scripts: a table of steps, and how turns are made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pytest_agentstream.doubles.reading import Reader
from pytest_agentstream.doubles.script import (
    Cut,
    ErrorEvent,
    Every,
    Finish,
    Garbage,
    Html,
    Say,
    Script,
    Silence,
    Split,
    Splitting,
    Stall,
    Status,
    Tool,
    Turn,
)
from pytest_agentstream.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentstream.doubles.script import Action

MOST_WORDS = 100_000
LONGEST_NAME = 200

Setting: TypeAlias = "tuple[str, Any]"
"""What holds for a turn or the script: the name of a field, and its value."""


def parse(text: str, start: int) -> tuple[Script, int]:
    """Read the script whose first step is at `start`; return it and where it ends.

    Raises ScriptError; its characters are counted from the beginning of the text.
    """
    reader = Reader(text, start)
    building = _Building()
    while not reader.ahead("]]"):
        _read_step(reader, building)
        if not reader.take(";") and not reader.ahead("]]"):
            reader.fail("`;` or `]]` behind a step")
        reader.step += 1
    if building.blank:
        reader.fail(f"a step: {listed(STEPS)}")
    end = reader.at + 2
    return replace(building.script(), source=text[:end]), end


def _read_step(reader: Reader, building: _Building) -> None:
    while reader.takes("then"):
        pass
    at = reader.at
    joined = reader.takes("and")
    word = reader.peek()
    if word not in STEPS or (joined and word != "tool"):
        reader.fail("`tool` behind `and`" if joined else _one_of_steps(word))
    reader.take(word)
    made = STEPS[word](reader)
    problem = building.add(made, joined)
    if problem:
        reader.at = at
        reader.fail(problem)


def _one_of_steps(word: str) -> str:
    return f"one of {listed(STEPS)}{nearest(word, STEPS)}"


@dataclass(slots=True)
class _Building:
    """The turns so far, and what holds for all of them."""

    turns: list[Turn] = field(default_factory=lambda: [Turn()])
    settings: dict[str, Any] = field(default_factory=dict)
    first_every: float | None = None
    every: float | None = None
    split: Splitting | None = None
    blank: bool = True

    def add(self, made: Action | Setting, joined: bool) -> str:
        """Add a step; return what was expected instead, or an empty string."""
        self.blank = False
        turn = self.turns[-1]
        if isinstance(made, tuple) and made[0] in {"tag", "everywhere"}:
            if made[0] in self.settings:
                return f"`{made[0]}` only once"
            self.settings[made[0]] = made[1]
            return ""
        if turn.end:
            return "nothing behind the step that ends the answer, but `tag` and `everywhere`"
        if joined and not (turn.actions and isinstance(turn.actions[-1], Tool)):
            return "`and tool` right behind another `tool`"
        if turn.calls and not joined:
            turn = Turn(every=self.every or 0.0, split=self.split)
            self.turns.append(turn)
        if isinstance(made, tuple):
            name, value = made
            if name == "empty" and any(isinstance(one, Say) for one in turn.actions):
                return "no `empty` in a turn that says something"
            self.turns[-1] = replace(turn, **{name: value})
            return ""
        if isinstance(made, Say) and turn.empty:
            return "no `say` in a turn that is empty"
        said = [one for one in turn.actions if not isinstance(one, Every | Split)]
        changed = replace(turn, actions=(*turn.actions, made))
        if changed.headless and (said or turn.empty):
            return "nothing said before a step that comes instead of the head"
        self._hold(made)
        self.turns[-1] = changed
        return ""

    def _hold(self, made: Action) -> None:
        if isinstance(made, Every):
            self.every = made.seconds
            if self.first_every is None:
                self.first_every = made.seconds
        elif isinstance(made, Split):
            self.split = made.how

    def script(self) -> Script:
        """The whole script; its first `every` holds for what stands before it too."""
        first = self.first_every or 0.0
        turns: list[Turn] = []
        known = False
        for turn in self.turns:
            turns.append(turn if known else replace(turn, every=first))
            known = known or any(isinstance(one, Every) for one in turn.actions)
        return Script(tuple(turns), **self.settings)


def _say(reader: Reader) -> Say:
    if reader.ahead('"'):
        return Say(reader.quoted())
    expected = f"a number of words from 1 to {MOST_WORDS}, or a text in double quotes"
    count = reader.number(expected, 1, MOST_WORDS)
    if not reader.one_of(("words", "word")):
        reader.fail("`words` behind their number")
    return Say(" ".join(f"word{number}" for number in range(1, count + 1)))


def _tool(reader: Reader) -> Tool:
    name = reader.peek() or None
    if name:
        name = reader.word("")
    if reader.ahead("{"):
        return Tool(name, reader.json_object())
    if reader.ahead('"'):
        return Tool(name, reader.quoted())
    return Tool(name, "{}" if name else None)


def _status(reader: Reader) -> Status:
    status = _failing(reader, "")
    if not reader.takes("retry-after"):
        return Status(status)
    return Status(status, str(reader.number("whole seconds from 0 to 86400", 0, 86400)))


def _failing(reader: Reader, otherwise: str) -> int:
    return reader.number(f"a status from 400 to 599{otherwise}", 400, 599)


def _error_event(reader: Reader) -> ErrorEvent:
    return ErrorEvent(_failing(reader, " or nothing")) if reader.peek() else ErrorEvent()


def _html(reader: Reader) -> Html:
    if not reader.peek():
        return Html()
    return Html(200 if reader.takes("200") else _failing(reader, ", 200 or nothing"))


def _head(reader: Reader) -> Setting:
    if not reader.takes("after"):
        reader.fail("`head after` and a duration")
    return "head_after", reader.duration()


def _finish(reader: Reader) -> Setting:
    reasons = get_args(Finish)
    return "finish", reader.one_of(reasons) or reader.fail(listed(reasons))


def _tag(reader: Reader) -> Setting:
    return "tag", reader.word("a name")[:LONGEST_NAME]


def _content_type(reader: Reader) -> Setting:
    value = reader.word("a content type such as text/plain")
    if not value.isascii() or not value.isprintable():
        reader.fail("a content type of ASCII characters")
    return "content_type", value


STEPS: Mapping[str, Callable[[Reader], Action | Setting]] = {
    "say": _say,
    "every": lambda reader: Every(reader.duration()),
    "silence": lambda reader: Silence(reader.duration()),
    "head": _head,
    "tool": _tool,
    "empty": lambda _: ("empty", True),
    "finish": _finish,
    "no-finish": lambda _: ("says_finish", False),
    "no-done": lambda _: ("says_done", False),
    "split": lambda reader: Split("deltas" if reader.takes("deltas") else "bytes"),
    "garbage": lambda _: Garbage(),
    "content-type": _content_type,
    "cut": lambda reader: Cut(reader.one_of(("mid-chunk", "head"))),  # type: ignore[arg-type]
    "stall": lambda reader: Stall("head" if reader.takes("head") else ""),
    "error-event": _error_event,
    "status": _status,
    "html": _html,
    "tag": _tag,
    "everywhere": lambda _: ("everywhere", True),
}
"""How each step is read, by its first word."""
