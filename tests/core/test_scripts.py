"""Scenarios behind the LLM double: what its script says, where it stands, what is planted."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.controls import DOUBLE, HEADER, SCENARIOS, control_of
from pytest_agentstream.doubles.grammar import parse
from pytest_agentstream.scripts import SCRIPTS, UPSTREAM
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.templates import render
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from pytest_agentstream.controls import Control

URL = "http://127.0.0.1:8000/chat"
H = 0.4


def target(**options: Any) -> Target:
    return Target.model_validate({"url": URL, "double": True} | options)


def sent(control: Control) -> Any:
    """The JSON of a control's request, with its prompt filled in."""
    prompt = control.scenario.prompt
    assert prompt is not None
    return render(control.scenario.json_body, {"prompt": prompt}, {})


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_every_script_is_good(name: str) -> None:
    """Each scenario's script is one that the double understands, with a tag of this run alone."""
    controls = [control_of(target(), name, H) for _ in range(2)]
    prompts = [control.scenario.prompt or "" for control in controls]
    scripts = [parse(prompt, prompt.index(":") + 1)[0] for prompt in prompts]

    assert [control.name for control in controls] == ["double", "double"]
    assert [script.tag for script in scripts] == [control.tag for control in controls]
    assert controls[0].tag != controls[1].tag
    assert all(control.scenario.deterministic for control in controls)


def test_every_upstream_scenario_has_a_script() -> None:
    """What is said of the LLM can be provoked: the double has a script for it."""
    assert {name for name in SCENARIOS if name.startswith(UPSTREAM)} <= SCRIPTS.keys()


@pytest.mark.parametrize(
    ("complete", "where"),
    [
        ({"json": {"thread": "{uuid}", "message": "Hi"}}, ("message",)),
        ({"json": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}},
         ("messages", 0, "content")),
        ({"json": {"messages": [{"content": "Be brief: {prompt}"}]}}, ("messages", 0, "content")),
    ],
)  # fmt: skip
def test_the_script_stands_where_the_users_words_stood(
    complete: dict[str, Any], where: tuple[str | int, ...]
) -> None:
    """The request is `complete`'s, with the script where its words, or its {prompt}, stood."""
    control = control_of(target(scenarios={"complete": complete}), "silence", H)
    script = control.scenario.prompt or ""
    text = render(control.scenario.json_body, {"prompt": script, "uuid": "u"}, {})
    for step in where:
        text = text[step]
    assert script
    assert text.endswith(script)


def test_the_dialects_own_start_has_a_place() -> None:
    """Without any mapping the script is the prompt of the dialect's start request."""
    control = control_of(target(), "upstream-cut", None)
    assert control.scenario.json_body is None
    assert control.scenario.prompt == (
        f"[[agentstream: tag {control.tag}; everywhere; every 20ms; say 5 words; cut]]"
    )


@pytest.mark.parametrize("name", ["error", "cut", "garbage", "stall"])
def test_an_outage_is_one_of_all_calls(name: str) -> None:
    """A server that asks again without a stream does not get a whole answer either."""
    prompt = control_of(target(), f"{UPSTREAM}{name}", None).scenario.prompt or ""
    assert parse(prompt, prompt.index(":") + 1)[0].everywhere


def test_a_slow_answer_outlasts_a_reconnecting_client() -> None:
    """The slow answer goes on for longer than a run waits for readers that come back after 3 s."""
    prompt = control_of(target(), "upstream-slow", 0.2).scenario.prompt or ""
    found = re.search(r"every 50ms; say (\d+) words", prompt)
    assert found
    assert int(found[1]) * 0.05 > 5.2 + 3 * 3.0


def test_no_place_for_a_script() -> None:
    """Where `complete` is mapped to something that holds no words, that is said."""
    scenarios = {"complete": {"json": {"n": 1}}}
    with pytest.raises(NotTested, match="no place for what `tools` says") as caught:
        control_of(target(scenarios=scenarios), "tools", H)
    assert "{prompt}" in caught.value.option


def test_complete_with_a_place_for_any_text_is_scripted() -> None:
    """A mapping of `complete` that says {prompt} leaves the words to the script; others do not."""
    scenarios = {"complete": {"json": {"q": "{prompt}"}}}
    assert sent(control_of(target(scenarios=scenarios), "complete", H))["q"].startswith("[[agents")
    mapped = {"complete": {"json": {"q": "Hi"}}}
    assert control_of(target(scenarios=mapped), "complete", H).name == "mapped"


@pytest.mark.parametrize(
    ("options", "name"), [({}, "double"), ({"control_header": True}, "header")]
)
def test_a_mapping_of_declarations_only(options: dict[str, Any], name: str) -> None:
    """What is only declared changes what is planted, and leaves the asking as it was."""
    scenarios = {"silence": {"seconds": 3.5}}
    control = control_of(target(scenarios=scenarios, **options), "silence", H)
    asked = f"{control.scenario.prompt} {control.scenario.headers}"
    assert (control.name, control.scenario.seconds) == (name, 3.5)
    assert "silence 3500ms" in asked or "seconds=3.5" in asked


def test_a_declared_deadline() -> None:
    """A deadline is the server's own, so that it is known only where it is declared."""
    assert control_of(target(), "upstream-stall", H).scenario.deadline is None
    declared = target(scenarios={"upstream-stall": {"deadline": 10}})
    control = control_of(declared, "upstream-stall", H)
    assert (control.name, control.scenario.deadline) == ("double", 10)


def test_a_test_build_with_a_double() -> None:
    """With the header too, it asks for the agent that asks the LLM, and says how long it may take.

    All else goes by the header alone.
    """
    both = target(control_header=True)
    stalled = control_of(both, "upstream-stall", H)
    assert stalled.name == "double"
    assert stalled.scenario.headers == {HEADER: f"llm; deadline={stalled.scenario.deadline:g}"}
    assert control_of(both, "upstream-cut", H).scenario.headers == {HEADER: "llm"}
    assert control_of(both, "silence", H).name == "header"


@pytest.mark.parametrize("name", ["silence", "upstream-cut"])
def test_what_would_make_it_testable(name: str) -> None:
    """Without a double, what it could do says so."""
    with pytest.raises(NotTested) as caught:
        control_of(target(double=False), name, H)
    assert caught.value.option.endswith(DOUBLE)


def test_what_a_script_plants() -> None:
    """What is verbatim in a script is declared of the run."""
    echo = control_of(target(), "echo", None).scenario
    assert isinstance(echo, Scenario)
    assert json.dumps(echo.text) in (echo.prompt or "")
    assert echo.verbatim
    slow = control_of(target(), "pauses", None).scenario
    assert (slow.pause, "every 200ms" in (slow.prompt or "")) == (0.2, True)
