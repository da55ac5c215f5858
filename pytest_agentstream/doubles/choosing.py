"""Choose what a call gets: the turn of its script, or a minimal answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_agentstream.doubles.instances import minimal
from pytest_agentstream.doubles.scalars import Impossible
from pytest_agentstream.doubles.script import Say, ScriptError, Tool, Turn
from pytest_agentstream.doubles.speaking import BadRequest
from pytest_agentstream.doubles.turns import Place, place

if TYPE_CHECKING:
    from pytest_agentstream.doubles.script import Script
    from pytest_agentstream.doubles.speaking import Asked, Offered

OK = "ok"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a call gets, of which script, whether it is played, and where the script is then."""

    turn: Turn
    script: Script | None = None
    played: bool = False
    after: Place | None = None


def choose(asked: Asked) -> Chosen:
    """Choose. Raises ScriptError for a bad script, BadRequest for what can't be answered."""
    here = place(asked.entries, asked.before)
    simple = not asked.streaming or asked.form is not None or asked.choice.name is not None
    if isinstance(here, ScriptError):
        if not (here.cut_short and simple):
            raise here
        here = None
    if here is None:
        return Chosen(_minimal(asked))
    turns = _playable(here.script, offers=bool(asked.tools))
    if 0 <= here.turn < len(turns):
        turn = turns[here.turn]
        failing = turn.calls or turn.end is not None
        if here.script.everywhere or not (simple or (asked.choice.any_tool and not failing)):
            made = _settled(turn, asked)
            return Chosen(made, here.script, played=True, after=here.after(made.calls))
    turn = _minimal(asked)
    return Chosen(turn, here.script, after=here.after(turn.calls))


def _playable(script: Script, *, offers: bool) -> list[Turn]:
    """The script's turns; where no tool is offered, without the calls of whichever is the first."""
    if offers:
        return list(script.turns)
    turns: list[Turn] = []
    passed: Turn | None = None
    for turn in script.turns:
        actions = [a for a in turn.actions if not (isinstance(a, Tool) and a.name is None)]
        kept = replace(turn, actions=tuple(actions))
        joined = _joined(passed, kept) if passed else kept
        passed = joined if turn.calls and not kept.calls else None
        if passed is None:
            turns.append(joined)
    return [*turns, passed] if passed else turns


def _joined(first: Turn, second: Turn) -> Turn:
    if second.headless:  # what it says before its end can't be said before a head
        return second
    return replace(
        second,
        actions=first.actions + second.actions,
        every=first.every,
        split=first.split,
        head_after=second.head_after or first.head_after,
        empty=second.empty and not any(isinstance(one, Say) for one in first.actions),
    )


def _settled(turn: Turn, asked: Asked) -> Turn:
    """The turn with its tools' names and arguments, and with something to say."""
    if turn.empty or turn.end or any(isinstance(one, Say | Tool) for one in turn.actions):
        actions = [_named(one, asked) if isinstance(one, Tool) else one for one in turn.actions]
        return replace(turn, actions=tuple(actions))
    return replace(turn, actions=(*turn.actions, Say(OK)))


def _named(tool: Tool, asked: Asked) -> Tool:
    if tool.name is not None:
        return tool
    first = asked.tools[0]
    return Tool(first.name, _smallest(first) if tool.arguments is None else tool.arguments)


def _minimal(asked: Asked) -> Turn:
    demanded = _demanded(asked)
    if demanded:
        return Turn((Tool(demanded.name, _smallest(demanded)),))
    if asked.form is None:
        return Turn((Say(OK),))
    try:
        return Turn((Say(json.dumps(minimal(asked.form), ensure_ascii=False)),))
    except Impossible as error:
        raise BadRequest(f"the double can't make an instance of the schema: {error}") from None


def _demanded(asked: Asked) -> Offered | None:
    name = asked.choice.name
    if name is not None:
        found = [tool for tool in asked.tools if tool.name == name]
        if not found:
            raise BadRequest(f"`tool_choice` demands the tool {name}, which is not among `tools`")
        return found[0]
    # the last one is where agent libraries put the tool that ends the run
    return asked.tools[-1] if asked.choice.any_tool and asked.tools else None


def _smallest(tool: Offered) -> str:
    try:
        return json.dumps(minimal(tool.schema), ensure_ascii=False)
    except Impossible as error:
        raise BadRequest(
            f"the double can't make arguments for the tool {tool.name}: {error}"
        ) from None
