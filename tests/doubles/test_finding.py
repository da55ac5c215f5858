"""Scripts are found wherever programs put the user's words, and mean the same there."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.doubles.finding import MOST_MARKS, scripts_in
from pytest_agentstream.doubles.script import Say, Script, ScriptError, Tool

if TYPE_CHECKING:
    from collections.abc import Callable

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=60)

WRAPPINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "embedded": lambda text: f"User said: {text}\n\nAnswer {{'briefly'}}: \"",
    "quoted": lambda text: f'The user asked "{text}"',
    "JSON": lambda text: json.dumps({"task": text, "more": 'a "b"'}),
    "JSON, as UTF-8": lambda text: json.dumps([text], ensure_ascii=False),
    "XML": lambda text: f"<task>{html.escape(text)}</task> &amp; more",
}


def said(text: str) -> list[str]:
    """What the scripts in a text say."""
    found = list(scripts_in(text))
    for one in found:
        assert isinstance(one, Script), one
    turns = [one.turns[0] for one in found if isinstance(one, Script)]
    return [action.text for turn in turns for action in turn.actions if isinstance(action, Say)]


# JSON around XML can't be told from XML around a text with backslashes
WITHIN = [name for name in WRAPPINGS if name != "XML"]


@given(
    ANY_TEXT,
    st.lists(st.sampled_from(WITHIN), max_size=3),
    st.lists(st.just("XML"), max_size=2),
    st.booleans(),
)
def test_any_text_verbatim(
    text: str, within: list[str], around: list[str], ascii_only: bool
) -> None:
    """Any text survives any wrapping, and wrappings of wrappings."""
    told = f"[[agentstream: say {json.dumps(text, ensure_ascii=ascii_only)}; every 1s]]"
    for wrapping in within + around:
        told = WRAPPINGS[wrapping](told)
    assert said(told) == [text]


@given(ANY_TEXT)
def test_any_text_is_searched(text: str) -> None:
    """A text without a script has none, whatever it is."""
    assert all(isinstance(one, Script | ScriptError) for one in scripts_in(text))


def test_python_quoting() -> None:
    """A message that is quoted as Python does keeps its apostrophes."""
    told = """[[agentstream: say "it's"]]"""
    assert said(repr(told)) == ["it's"]
    assert said(str([{"role": "user", "content": told}])) == ["it's"]


def test_arguments_in_json() -> None:
    """Arguments of tools survive being embedded."""
    (found,) = scripts_in(json.dumps({"task": '[[agentstream: tool f {"a": "\\n\\"x"}]]'}))
    assert isinstance(found, Script)
    assert found.turns[0].actions == (Tool("f", '{"a": "\\n\\"x"}'),)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_script_that_says_a_script(wrapping: str) -> None:
    """A script in the text of another one is a part of that text."""
    inner = '[[agentstream: say "inner"]]'
    told = WRAPPINGS[wrapping](f"[[agentstream: say {json.dumps(inner)}]] [[agentstream: cut]]")
    first, second = scripts_in(told)
    assert said(told) == [inner]
    assert isinstance(first, Script)
    assert isinstance(second, Script)


def test_several_scripts() -> None:
    """All scripts of a text are found, in order, at most the last fifty."""
    many = "".join(f'[[agentstream: say "{number}"]] ' for number in range(MOST_MARKS + 5))
    assert said(many) == [str(number) for number in range(5, MOST_MARKS + 5)]


def test_the_same_script_written_otherwise() -> None:
    """Scripts that do the same are equal, however they are written."""
    one, other = scripts_in(
        '[[agentstream:say "é";cut]] [[ agentstream: say "\\u00e9"; then cut; ]]'
    )
    assert one == other
