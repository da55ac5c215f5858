"""Calls that demand a form get the smallest valid answer, which the official SDKs parse."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from anthropic import Anthropic
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

from tests.doubles.conftest import Speaker, script, tools

if TYPE_CHECKING:
    from tests.doubles.conftest import Running


class Colour(Enum):
    """An enum with a first value."""

    RED = "red"
    BLUE = "blue"


class Step(BaseModel):
    """A nested object."""

    title: str
    cost: float


class Plan(BaseModel):
    """What a planner might want: nested, with alternatives, bounds and a reference to itself."""

    route: Literal["search", "answer"]
    colour: Colour
    steps: list[Step] = Field(min_length=2)
    best: Step | None
    score: int = Field(ge=3)
    rest: list[Plan]


EXPECTED = Plan(
    route="search",
    colour=Colour.RED,
    steps=[Step(title="ok", cost=0)] * 2,
    best=Step(title="ok", cost=0),
    score=3,
    rest=[],
)
ASKED: Any = [{"role": "user", "content": script("say 40 words; cut")}]


def test_chat_parse(double: Running) -> None:
    """The openai SDK parses a structured completion, sync and async."""
    asked: Any = {"model": "m", "messages": ASKED, "response_format": Plan}

    async def parse() -> Any:
        async with AsyncOpenAI(base_url=f"{double.origin}/v1", api_key="-") as openai:
            return await openai.chat.completions.parse(**asked)

    with OpenAI(base_url=f"{double.origin}/v1", api_key="-") as openai:
        for answer in (openai.chat.completions.parse(**asked), anyio.run(parse)):
            assert answer.choices[0].message.parsed == EXPECTED


def test_chat_stream_parse(double: Running) -> None:
    """A structured completion that streams is parsed as well."""
    with (
        OpenAI(base_url=f"{double.origin}/v1", api_key="-") as openai,
        openai.chat.completions.stream(model="m", messages=ASKED, response_format=Plan) as stream,
    ):
        assert stream.get_final_completion().choices[0].message.parsed == EXPECTED


def test_responses_parse(double: Running) -> None:
    """The openai SDK parses a structured response, in one piece and streamed."""
    with OpenAI(base_url=f"{double.origin}/v1", api_key="-") as openai:
        answer = openai.responses.parse(model="m", input=ASKED, text_format=Plan)
        assert answer.output_parsed == EXPECTED
        with openai.responses.stream(model="m", input=ASKED, text_format=Plan) as stream:
            assert stream.get_final_response().output_parsed == EXPECTED


def test_messages_parse(double: Running) -> None:
    """The anthropic SDK parses a structured message."""
    with Anthropic(base_url=double.origin, api_key="-") as anthropic:
        answer = anthropic.messages.parse(
            model="m", max_tokens=100, messages=ASKED, output_format=Plan
        )
        assert answer.parsed_output == EXPECTED


@pytest.mark.parametrize("stream", [True, False])
def test_a_forced_tool(speaker: Speaker, double: Running, stream: bool) -> None:
    """A tool that is demanded by name is called with minimal arguments, whatever the script."""
    choices = {
        "openai-chat": {"type": "function", "function": {"name": "search"}},
        "openai-responses": {"type": "function", "name": "search"},
        "anthropic": {"type": "tool", "name": "search"},
    }
    heard = speaker.ask(
        double.origin,
        script("say 2 words; cut"),
        tools=tools(speaker.dialect),
        tool_choice=choices[speaker.dialect],
        stream=stream,
    )
    assert heard.failure is None
    assert [(name, json.loads(told)) for name, told in heard.calls] == [("search", {"q": "ok"})]
    assert heard.text == ""


ANY: dict[str, list[Any]] = {
    "openai-chat": ["required", {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}],
    "openai-responses": ["required", {"type": "allowed_tools", "mode": "required", "tools": []}],
    "anthropic": [{"type": "any"}],
}


@pytest.mark.parametrize(
    ("steps", "calls"),
    [
        ("say 2 words", [("finish", "{}")]),
        ('tool search {"q":"x"}', [("search", '{"q":"x"}')]),
    ],
)
def test_any_tool(dialect: str, double: Running, steps: str, calls: list[tuple[str, str]]) -> None:
    """Where any tool is demanded, a script that calls one is played; else the last is called."""
    for choice in ANY[dialect]:
        heard = Speaker(dialect, False).ask(
            double.origin, script(steps), tools=tools(dialect), tool_choice=choice
        )
        assert (heard.failure, heard.calls) == (None, calls)


def test_any_tool_and_a_failure(dialect: str, double: Running) -> None:
    """Where any tool is demanded, a script that fails is played too."""
    heard = Speaker(dialect, False).ask(
        double.origin, script("status 500"), tools=tools(dialect), tool_choice=ANY[dialect][0]
    )
    assert type(heard.failure).__name__ == "InternalServerError"


def test_no_tool(speaker: Speaker, double: Running) -> None:
    """Where tools are barred, it is as if none were offered."""
    choice = {"type": "none"} if speaker.dialect == "anthropic" else "none"
    more = {"tools": tools(speaker.dialect), "tool_choice": choice}
    heard = speaker.ask(double.origin, script("tool; say 2 words"), **more)
    assert (heard.failure, heard.calls, heard.text.strip()) == (None, [], "word1 word2")


def test_json_mode(double: Running) -> None:
    """A JSON object without a schema is an empty one."""
    for dialect, more in (
        ("openai-chat", {"response_format": {"type": "json_object"}}),
        ("openai-responses", {"text": {"format": {"type": "json_object"}}}),
    ):
        heard = Speaker(dialect, False).ask(double.origin, script("say 2 words"), **more)
        assert heard.text == "{}"


def test_everywhere(double: Running) -> None:
    """`everywhere` plays the script where a form is demanded, as it stands."""
    more = {"response_format": {"type": "json_object"}}
    steps = script('everywhere; finish length; say "{\\"a"')
    heard = Speaker("openai-chat", False).ask(double.origin, steps, stream=False, **more)
    assert (heard.text, heard.reason) == ('{"a', "length")


def test_an_impossible_schema(dialect: str, double: Running) -> None:
    """A schema of which no instance is found is 400, with what would help."""
    schema = {"type": "string", "pattern": "^a(?=b)$"}
    told = {"type": "json_schema", "name": "s", "schema": schema}
    demands: dict[str, dict[str, Any]] = {
        "openai-chat": {"response_format": {"type": "json_schema", "json_schema": told}},
        "openai-responses": {"text": {"format": told}},
        "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
    }
    failure = Speaker(dialect, False).ask(double.origin, "Hello", **demands[dialect]).failure
    assert type(failure).__name__ == "BadRequestError"
    assert "give the schema one under `examples`" in str(failure)
