"""Controls: how a scenario is asked for, what is planted with it, and what would provide one."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.cases import case_of, requirement
from pytest_agentstream.controls import DOUBLE, ECHO_TEXT, HEADER, SCENARIOS, control_of
from pytest_agentstream.probing import probe
from pytest_agentstream.requirements import MUST
from pytest_agentstream.scripts import UPSTREAM
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.verdicts import NotTested, Verdict, expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from tests.conftest import Peer, RawServer
    from tests.core.conftest import Opened

    Serving = Callable[..., AbstractContextManager[RawServer]]

URL = "http://127.0.0.1:8000/chat"


def target(**options: Any) -> Target:
    return Target.model_validate({"url": URL} | options)


def test_a_mapping_is_the_control() -> None:
    """A mapped scenario is sent as it is mapped, also where the header would do."""
    mapped = {"crash": {"json": {"message": "boom"}, "secret": "srv/app"}}
    control = control_of(target(scenarios=mapped, control_header=True), "crash", None)
    assert control.name == "mapped"
    assert (control.scenario.json_body, control.scenario.secret) == ({"message": "boom"}, "srv/app")


def test_an_ordinary_run_needs_no_control() -> None:
    """`complete` without a mapping is the dialect's own start request."""
    assert control_of(target(), "complete", None).name == "default"


@pytest.mark.parametrize(
    "name", sorted(n for n in SCENARIOS if n != "complete" and not n.startswith(UPSTREAM))
)
def test_the_header_asks_for_every_scenario(name: str) -> None:
    """With `control_header` every scenario is asked for in the header of `complete`'s request."""
    mapped = {"complete": {"json": {"q": "hi"}, "headers": {"X-Tenant": "a"}}}
    control = control_of(target(scenarios=mapped, control_header=True), name, 0.2)
    assert control.name == "header"
    assert control.scenario.json_body == {"q": "hi"}
    assert control.scenario.headers["X-Tenant"] == "a"
    asked = "long; events=10000" if name == "huge" else name.partition("-")[0]
    assert control.scenario.headers[HEADER].startswith(asked)


def test_a_silence_is_long_enough() -> None:
    """The silence that is asked for lasts longer than 3.5 H."""
    planted = control_of(target(control_header=True), "silence", 2.0).scenario
    assert planted.seconds is not None
    assert planted.seconds > 7.0


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"control_header": True}, 12.0),
        ({"control_header": True, "scenarios": {"silence": {"seconds": 9}}}, 12.0),
        ({"scenarios": {"silence": {"prompt": "wait", "seconds": 9}}}, 9.0),
    ],
)
def test_a_silence_that_is_asked_for(options: dict[str, Any], seconds: float) -> None:
    """A silence lasts as long as a probe needs it where the suite plants it, and not if mapped."""
    planted = control_of(target(**options), "silence", 2.0, 12.0).scenario
    assert planted.seconds == seconds
    if seconds > 10:
        assert "seconds=12" in planted.headers[HEADER]


@pytest.mark.parametrize(
    ("declared", "prompt", "text"),
    [
        ({"verbatim": True}, ECHO_TEXT, ECHO_TEXT),
        ({"verbatim": True, "prompt": "say it"}, "say it", "say it"),
        ({"verbatim": True, "text": "fixed"}, None, "fixed"),
        ({}, None, None),
    ],
)
def test_what_an_echo_plants(
    declared: dict[str, Any], prompt: str | None, text: str | None
) -> None:
    """A verbatim scenario without a text of its own gets the suite's, and is to send it back."""
    planted = control_of(target(scenarios={"echo": declared}), "echo", None).scenario
    assert (planted.prompt, planted.text) == (prompt, text)


def suggested(name: str, complete: dict[str, Any], interval: float | None = 0.4) -> dict[str, Any]:
    """The scenario in the mapping that is suggested, read as TOML."""
    scenarios = {"complete": complete} if complete else {}
    with pytest.raises(NotTested) as caught:
        control_of(target(scenarios=scenarios), name, interval)
    start = "map it: [tool.agentstream.scenarios] "
    assert caught.value.option.startswith(start)
    mapping = caught.value.option.removeprefix(start).removesuffix(f"; or {DOUBLE}")
    found: dict[str, Any] = tomllib.loads(mapping)[name]
    Scenario.model_validate(found)
    return found


@pytest.mark.parametrize(
    ("complete", "expected"),
    [
        ({}, {"json": {"message": "fail"}}),
        ({"json": {"thread": "{thread}", "message": "Hi"}}, ("message", {"thread": "{thread}"})),
        ({"json": {"stream": True, "q": "Hi", "n": 1}}, ("q", {"stream": True, "n": 1})),
        ({"method": "GET", "query": {"q": "Hi"}}, {"method": "GET", "query": {"q": "fail"}}),
    ],
)
def test_the_suggestion_has_the_shape_of_complete(complete: dict[str, Any], expected: Any) -> None:
    """The suggested mapping is `complete`'s request, with the scenario's name as what is said."""
    found = suggested("fail", complete)
    if isinstance(expected, tuple):
        key, rest = expected
        expected = {"json": {key: "fail", **rest}}
    assert found == expected


def test_messages_keep_their_roles() -> None:
    """In a list of messages the content is replaced, not the model and not the role."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "x-y z": None}
    assert suggested("fail", {"json": body}) == {
        "json": {"model": "m", "messages": [{"role": "user", "content": "fail"}]}
    }


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("silence", {"seconds": 1.4}),
        ("slow-start", {"seconds": 0.8}),
        ("pauses", {"pause": 0.3}),
        ("echo", {"verbatim": True, "json": {"message": "{prompt}"}}),
    ],
)
def test_the_suggestion_declares_what_is_needed(name: str, declared: dict[str, Any]) -> None:
    """The suggestion has the declarations without which the scenario would prove nothing."""
    found = suggested(name, {})
    assert {key: found[key] for key in declared} == declared


@probe(scenarios=["echo"])
async def said_again(client: Driver) -> Observation:
    """A run that answers with what it was asked."""
    return await client.run("echo")


def test_an_echo_from_end_to_end(serving: Serving, session: Opened) -> None:
    """The planted text goes where {prompt} stands, and what comes back is compared with it."""

    @requirement("t.echo", MUST, tier="core", text="It is so.", source="this test")
    def look(said_again: Observation) -> None:
        for sent, came in said_again.planted_segments("\u2028\r"):
            expect(came == sent, expected=repr(sent), actual=repr(came))

    case = case_of(look)
    assert case is not None

    async def echo(peer: Peer) -> None:
        text = json.loads(peer.body)["say"]
        await peer.stream()
        await peer.chunk(f"data: {json.dumps({'content': text})}\n\ndata: [DONE]\n\n")
        await peer.end()

    scenarios = {
        "complete": {"json": {"say": "hi"}},
        "echo": {"json": {"say": "{prompt}"}, "verbatim": True},
    }
    with (
        serving(echo) as server,
        session(f"{server.origin}/chat", scenarios=scenarios) as opened,
    ):
        result = opened.judge(case)
        sent = json.loads(server.peers[-1].body)["say"]
    assert sent == ECHO_TEXT
    assert (result.verdict, result.actual) == (Verdict.MET, "")
