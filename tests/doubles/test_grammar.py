"""The grammar of scripts: what each step means, and what a bad one is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentstream.doubles.finding import scripts_in
from pytest_agentstream.doubles.grammar import STEPS
from pytest_agentstream.doubles.script import (
    Action,
    Cut,
    ErrorEvent,
    Every,
    Garbage,
    Html,
    Say,
    Script,
    ScriptError,
    Silence,
    Split,
    Stall,
    Status,
    Tool,
    Turn,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "double.md"


def read(steps: str) -> Script:
    """The script of these steps; what is wrong with it is raised."""
    (found,) = scripts_in(f"[[agentstream: {steps}]]")
    if isinstance(found, ScriptError):
        raise found
    return found


def only_turn(steps: str) -> Turn:
    """The turn of a script that has one."""
    (turn,) = read(steps).turns
    return turn


@pytest.mark.parametrize(
    ("step", "action"),
    [
        ("say 2 words", Say("word1 word2")),
        ("say 1 word", Say("word1")),
        ('say "a\\n\\"b\\" \\u00e9"', Say('a\n"b" é')),
        ('say "it\\\'s"', Say("it's")),
        ('say "two\nlines"', Say("two\nlines")),
        ("every 20ms", Every(0.02)),
        ("silence 5s", Silence(5.0)),
        ("silence 0.25s", Silence(0.25)),
        ("silence 2m", Silence(120.0)),
        ("split", Split("bytes")),
        ("split deltas", Split("deltas")),
        ("garbage", Garbage()),
        ("tool", Tool(None, None)),
        ('tool {"a": 1}', Tool(None, '{"a": 1}')),
        ("tool search", Tool("search", "{}")),
        ('tool search { "a": [1] }', Tool("search", '{ "a": [1] }')),
        ('tool search{"a": "]] ; }"}', Tool("search", '{"a": "]] ; }"}')),
        ('tool search "{\\"bro"', Tool("search", '{"bro')),
        ("cut", Cut()),
        ("then cut", Cut()),
        ("cut mid-chunk", Cut("mid-chunk")),
        ("cut head", Cut("head")),
        ("stall", Stall()),
        ("stall head", Stall("head")),
        ("error-event", ErrorEvent(500)),
        ("error-event 429", ErrorEvent(429)),
        ("status 429 retry-after 1", Status(429, "1")),
        ("status 503", Status(503)),
        ("html", Html(502)),
        ("html 200", Html(200)),
    ],
)
def test_steps(step: str, action: Action) -> None:
    """Each step is read as the document says."""
    assert only_turn(step).actions == (action,)


@pytest.mark.parametrize(
    ("step", "name", "value"),
    [
        ("head after 2s", "head_after", 2.0),
        ("finish length", "finish", "length"),
        ("no-finish", "says_finish", False),
        ("no-done", "says_done", False),
        ("content-type text/plain", "content_type", "text/plain"),
        ("empty", "empty", True),
    ],
)
def test_settings_of_a_turn(step: str, name: str, value: object) -> None:
    """What is no action holds for its turn."""
    assert getattr(only_turn(step), name) == value


def test_settings_of_the_script() -> None:
    """A tag and `everywhere` hold for the whole script, also behind its end."""
    script = read("tag a-1; say 1 word; cut; everywhere")
    assert (script.tag, script.everywhere) == ("a-1", True)
    assert read("cut").everywhere is False


def test_white_space_and_an_empty_last_step() -> None:
    """White space does not matter, nor does a `;` at the end."""
    (found,) = scripts_in("[[ agentstream :say  2\nwords\n;\tcut ; ]]")
    assert found == read("say 2 words; cut")


def test_turns() -> None:
    """A tool ends its turn, `and tool` stays in it."""
    first, second, third = read(
        "say 1 word; tool a; and tool b; finish length; tool c; say 2 words"
    ).turns
    assert first.actions == (Say("word1"), Tool("a", "{}"), Tool("b", "{}"))
    assert (second.finish, second.actions) == ("length", (Tool("c", "{}"),))
    assert third.actions == (Say("word1 word2"),)


def test_the_first_pace_holds_for_what_is_before_it() -> None:
    """The first `every` is the pace of what stands before it too, and of later turns."""
    first, second, third = read(
        "tool a; say 1 word; every 20ms; say 1 word; every 1s; tool b; silence 1s"
    ).turns
    assert (first.every, second.every, third.every) == (0.02, 0.02, 1.0)


def test_splitting_goes_on() -> None:
    """`split` holds from where it stands."""
    first, second = read("tool a; split; tool b").turns
    assert (first.split, second.split) == (None, None)
    _, second = read("split; tool a; say 1 word").turns
    assert second.split == "bytes"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("", "step 1 of the script, at character 16: expected a step: say, every,"),
        ("sya 3 words", 'tag or everywhere; did you mean say?, found "sya 3 words"'),
        ("say", "at character 19: expected a number of words from 1 to 100000, or a text in"),
        ("say 0 words", 'found "0 words"'),
        ("say 100001 words", 'found "100001 words"'),
        ("say ٣ words", 'found "٣ words"'),
        ("say 3 wrods", 'expected `words` behind their number, found "wrods"'),
        ('say "a" "b"', 'expected `;` or `]]` behind a step, found "\\"b\\""'),
        ('say "a\\q"', "expected a JSON string"),
        ('say "a; cut', "expected a text with a closing quotation mark"),
        ("every 20", 'expected a duration of at most 10 minutes, such as 20ms or 5s, found "20"'),
        ("silence 11m", 'found "11m"'),
        ("head 2s", "expected `head after` and a duration"),
        ("finish soon", "expected stop, length or content_filter, found"),
        ("status", "expected a status from 400 to 599, found"),
        ("status 200", "expected a status from 400 to 599, found"),
        ("status 429 retry-after soon", "expected whole seconds from 0 to 86400, found"),
        ("html 204", "expected a status from 400 to 599, 200 or nothing, found"),
        ("tool a {b}", 'at character 23: expected a JSON object, found "{b}"'),
        ("tag", "expected a name"),
        ("tag a; tag b", "step 2 of the script, at character 23: expected `tag` only once"),
        ("cut; say 1 word", "expected nothing behind the step that ends the answer"),
        ("tool a; cut; cut", "step 3 of the script"),
        ("say 1 word; status 500", "expected nothing said before a step that comes instead"),
        ("silence 1s; stall head", "expected nothing said before a step that comes instead"),
        ("and tool a", "expected `and tool` right behind another `tool`"),
        ("say 1 word; and tool a", "expected `and tool` right behind another `tool`"),
        ("and say 1 word", "expected `tool` behind `and`"),
        ("empty; say 1 word", "expected no `say` in a turn that is empty"),
        ("say 1 word; empty", "expected no `empty` in a turn that says something"),
        ("content-type text/é", "expected a content type of ASCII characters"),
    ],
)
def test_bad_scripts(steps: str, message: str) -> None:
    """A bad script is told the place, what was found there and what was expected."""
    with pytest.raises(ScriptError) as raised:
        read(steps)
    assert message in str(raised.value)
    assert not raised.value.cut_short or '"a' in steps


@pytest.mark.parametrize(
    "text",
    [
        "[[agentstream:",
        "[[agentstream: say 4",
        "[[agentstream: say 4 wo… and so on]]",
        "[[agentstream: say 4 words; si...]]",
        '[[agentstream: say "an open te',
        '[[agentstream: tool a {"b": ',
    ],
)
def test_scripts_that_are_cut_short(text: str) -> None:
    """A script whose end was cut off is known as that."""
    (found,) = scripts_in(text)
    assert isinstance(found, ScriptError)
    assert found.cut_short or "and so on" in text


def test_every_step_is_documented() -> None:
    """The table of the document has every step, and no other."""
    tables = re.findall(r"^\| `(.*?)` ?[,|]", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    words = {word.removeprefix("and ").split()[0] for word in tables}
    assert set(STEPS) <= words


def test_every_documented_example_is_read() -> None:
    """Every example in the document's table of steps and in its blocks is a good script."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition("| step | what it does |")[2].partition("### Turns")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    steps = [one for row in rows for one in re.findall("`([^`]+)`", row.split(" | ")[0])]
    assert len(steps) > len(STEPS)
    for step in steps:
        read("tool first; " + step if step.startswith("and") else step.replace("…", "b"))
    blocks = re.findall(r"^    .*?(\[\[agentstream:.*?\]\])", text, re.MULTILINE)
    assert blocks
    for block in blocks:
        (found,) = scripts_in(block)
        assert isinstance(found, Script), found


SIGNS = [";", "]]", "[[", "\\", chr(34), "{", "}", "[[agentstream:", "\\u00e9", "&quot;", "…"]
PIECES = st.sampled_from(
    [*STEPS, *SIGNS, "5s", "3", "then", "and", "after", "words", " ", "\n", "\ud800"]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=20).map(" ".join))
def test_nothing_but_script_errors(steps: str) -> None:
    """Whatever stands in a script, it is a script or a ScriptError with a message."""
    for found in scripts_in(f"[[agentstream: {steps}"):
        assert isinstance(found, Script) or str(found)
