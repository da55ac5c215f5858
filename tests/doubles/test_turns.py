"""Which step of a script applies follows from the messages, however agents arrange them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.doubles.script import ScriptError
from pytest_agentstream.doubles.turns import Entry, Place, carried, carry, place
from tests.doubles.conftest import Speaker, script, tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.doubles.conftest import Running

TWICE = '[[agentstream: tool search {"q": "1"}; tool search {"q": "2"}; say "done"]]'
OTHER = "[[agentstream: say 3 words]]"
ASKED = Entry("asked", (TWICE,))
CALLS = Entry("assistant", ("let me see",), calls=True)
RESULT = Entry("tool", ("42",))
SAYS = Entry("assistant", ("done",))
PLAIN = Entry("asked", ("And?",))


def turn_of(entries: Sequence[Entry]) -> int | None:
    """The turn that comes next; None where no script is being played."""
    found = place(entries)
    assert not isinstance(found, ScriptError), found
    return found.turn if found and found.playing else None


@pytest.mark.parametrize(
    ("entries", "turn"),
    [
        pytest.param([], None, id="no message"),
        pytest.param([PLAIN], None, id="no script"),
        pytest.param([ASKED], 0, id="the beginning"),
        pytest.param([ASKED, CALLS, RESULT], 1, id="a tool's result"),
        pytest.param([ASKED, CALLS, RESULT, RESULT], 1, id="two results of one turn"),
        pytest.param([ASKED, CALLS, RESULT, CALLS, RESULT], 2, id="two turns"),
        pytest.param([ASKED, SAYS, CALLS, RESULT], 1, id="text and call apart"),
        pytest.param([ASKED, CALLS, SAYS, RESULT], 1, id="call and text apart"),
        pytest.param([ASKED, CALLS, RESULT, PLAIN, RESULT], 1, id="a reminder between results"),
        pytest.param([ASKED, RESULT], 1, id="results only"),
        pytest.param([ASKED, RESULT, PLAIN, RESULT], 2, id="results only, twice"),
        pytest.param([ASKED, *[CALLS, RESULT] * 3], None, id="more calls than turns"),
        pytest.param([ASKED, CALLS, RESULT, CALLS, RESULT, SAYS], None, id="the end"),
        pytest.param([ASKED, SAYS, PLAIN], None, id="an answer ends it"),
        pytest.param([ASKED, CALLS, RESULT, ASKED], 1, id="repeated while it is played"),
        pytest.param([ASKED, ASKED, CALLS, RESULT], 1, id="in the system prompt too"),
        pytest.param([ASKED, SAYS, ASKED], 0, id="asked again afterwards"),
        pytest.param([ASKED, CALLS, Entry("tool", (TWICE,))], 1, id="repeated by a tool"),
        pytest.param([Entry("tool", (TWICE,))], 0, id="only in a tool's result"),
        pytest.param([ASKED, CALLS, RESULT, Entry("asked", (OTHER,))], 0, id="another script"),
        pytest.param([Entry("assistant", (TWICE,))], None, id="said by the assistant"),
        pytest.param([ASKED, CALLS, Entry("asked", (TWICE[:30],))], 1, id="repeated in part"),
        pytest.param([Entry("asked", (json.dumps(TWICE),)), CALLS, ASKED], 1, id="in JSON before"),
    ],
)
def test_turns(entries: Sequence[Entry], turn: int | None) -> None:
    """An assistant's turn with tool calls goes on by one turn, one without ends the script."""
    assert turn_of(entries) == turn


def test_the_last_script_counts() -> None:
    """Of several scripts in one message the last one counts."""
    found = place([Entry("asked", (TWICE, OTHER))])
    assert isinstance(found, Place)
    assert found.script.source == OTHER


@pytest.mark.parametrize("bad", ["[[agentstream: sya]]", "[[agentstream: say 3"])
def test_bad_scripts(bad: str) -> None:
    """A bad script is found, unless another one comes after it."""
    assert isinstance(place([Entry("asked", (bad,))]), ScriptError)
    assert isinstance(place([Entry("asked", (bad, OTHER))]), Place)


def test_places_in_ids() -> None:
    """An id carries a place; one of a long script doesn't, and other ids have none."""
    found = place([ASKED, CALLS])
    assert isinstance(found, Place)
    assert carried(carry(found)) == found
    over = found.after(calls=False)
    assert carried(carry(over)) == over
    long = place([Entry("asked", (f'[[agentstream: say "{"x" * 2000}"]]',))])
    assert isinstance(long, Place)
    assert carry(long) == ""
    for token in ("", "x", "é", "AAAA", carry(found)[:-9]):
        assert carried(token) is None


def conversation(dialect: str, calls: Sequence[Any], text: str) -> list[Any]:
    """The messages of an agent that has called those tools and has their results."""
    messages: list[Any] = [{"role": "user", "content": [{"type": _text(dialect), "text": text}]}]
    for number, (name, told) in enumerate(calls):
        key = f"call_{number}"
        match dialect:
            case "openai-chat":
                function = {"name": name, "arguments": told}
                call = {"id": key, "type": "function", "function": function}
                messages += [
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": key, "content": "found"},
                ]
            case "openai-responses":
                messages += [
                    {"type": "function_call", "call_id": key, "name": name, "arguments": told},
                    {"type": "function_call_output", "call_id": key, "output": "found"},
                ]
            case _:
                use = {"type": "tool_use", "id": key, "name": name, "input": json.loads(told)}
                result = {"type": "tool_result", "tool_use_id": key, "content": "found"}
                messages += [
                    {"role": "assistant", "content": [{"type": "text", "text": "I look"}, use]},
                    {"role": "user", "content": [result, {"type": "text", "text": "Go on."}]},
                ]
    return messages


def _text(dialect: str) -> str:
    return "input_text" if dialect == "openai-responses" else "text"


def test_an_agent(speaker: Speaker, double: Running) -> None:
    """An agent that runs tools until there is none left sees each turn once."""
    calls: list[Any] = []
    for _ in range(9):
        messages = conversation(speaker.dialect, calls, f"Please: {TWICE}")
        heard = speaker.ask(double.origin, messages, tools=tools(speaker.dialect))
        assert heard.failure is None
        if not heard.calls:
            break
        calls += heard.calls
    assert [json.loads(told) for _, told in calls] == [{"q": "1"}, {"q": "2"}]
    assert heard.text == "done"


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        ("openai-chat", {"messages": [{"role": "system", "content": script("say 2 words")}]}),
        ("openai-responses", {"instructions": script("say 2 words")}),
        ("anthropic", {"system": script("say 2 words")}),
        ("anthropic", {"system": [{"type": "text", "text": script("say 2 words")}]}),
    ],
)
def test_system_prompts(dialect: str, more: dict[str, Any], double: Running) -> None:
    """A script is found in system prompts and instructions."""
    messages = [*more.pop("messages", []), {"role": "user", "content": "Go."}]
    heard = Speaker(dialect, False).ask(double.origin, messages, **more)
    assert (heard.failure, heard.text) == (None, "word1 word2")


def test_input_as_text(double: Running) -> None:
    """The input of Responses may be one text."""
    speaker = Speaker("openai-responses", False)
    heard = speaker.ask(double.origin, "", input=script("say 2 words"))
    assert (heard.failure, heard.text) == (None, "word1 word2")


def test_previous_response(double: Running) -> None:
    """Where only the results are sent, the id of the response before says where the script is."""
    speaker = Speaker("openai-responses", False)
    heard = speaker.ask(double.origin, TWICE)
    said = []
    for number in range(3):
        result = {"type": "function_call_output", "call_id": f"call_{number}", "output": "42"}
        heard = speaker.ask(double.origin, [result], previous_response_id=heard.id)
        said.append(heard.text or heard.calls[0][1])
    assert said == ['{"q": "2"}', "done", "ok"]
