"""What the official SDKs make of each ability of the double, in a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.doubles.conftest import script, tools, whole_characters

if TYPE_CHECKING:
    from tests.doubles.conftest import Running, Speaker

ENDS = {"openai-chat": "stop", "openai-responses": "completed", "anthropic": "end_turn"}
CALLS = {"openai-chat": "tool_calls", "openai-responses": "completed", "anthropic": "tool_use"}

ODD = ' \n\tspaced\r\n"b" ]] \\ ; Grüße ☕ 🍰🍰 \u2028 \u0085 data: x\n\nid: 7\n\n '

FAILURES = {
    "status 401": "AuthenticationError",
    "status 403": "PermissionDeniedError",
    "status 429 retry-after 1": "RateLimitError",
    "status 500": "InternalServerError",
    "html": "InternalServerError",
    "html 404": "NotFoundError",
    "cut head": "APIConnectionError",
}
"""Scripts that fail before there is a stream, and what an SDK raises."""


def test_words(speaker: Speaker, double: Running) -> None:
    """Words come one by one, with a natural end."""
    heard = speaker.ask(double.origin, script("say 40 words; every 1ms"))
    assert heard.failure is None
    assert heard.text == " ".join(f"word{number}" for number in range(1, 41))
    assert heard.reason == ENDS[speaker.dialect]


@pytest.mark.parametrize("steps", ["say {}", "split; say {}", "split deltas; say {}"])
def test_verbatim(speaker: Speaker, double: Running, steps: str) -> None:
    """A given text comes as it is, however it is cut."""
    heard = speaker.ask(double.origin, script(steps.format(json.dumps(ODD))))
    assert heard.failure is None
    assert whole_characters(heard.text) == ODD


def test_tool(speaker: Speaker, double: Running) -> None:
    """A tool is called with the given arguments, verbatim, and the turn ends with it."""
    arguments = '{"q": "caf\\u00e9 ☕ and more than one piece", "n": [1, 2]}'
    heard = speaker.ask(
        double.origin,
        script(f"say 2 words; tool search {arguments}; say 9 words"),
        tools=tools(speaker.dialect),
    )
    assert heard.failure is None
    assert heard.text == "word1 word2"
    assert heard.calls == [("search", arguments)]
    assert heard.reason == CALLS[speaker.dialect]


def test_two_tools_in_one_turn(speaker: Speaker, double: Running) -> None:
    """`and tool` calls another tool in the same turn."""
    steps = "tool search {}; and tool finish; say 2 words"
    heard = speaker.ask(double.origin, script(steps), tools=tools(speaker.dialect))
    assert heard.failure is None
    assert heard.calls == [("search", "{}"), ("finish", "{}")]


def test_whichever_tool(speaker: Speaker, double: Running) -> None:
    """A tool without a name is the first that is offered, with its smallest arguments."""
    heard = speaker.ask(double.origin, script("tool"), tools=tools(speaker.dialect))
    assert heard.calls == [("search", '{"q": "ok"}')]


def test_whichever_tool_of_none(speaker: Speaker, double: Running) -> None:
    """Where no tool is offered, a tool without a name is passed over."""
    heard = speaker.ask(double.origin, script("say 1 word; tool; say 2 words"))
    assert heard.failure is None
    assert (heard.text, heard.calls) == ("word1word1 word2", [])


def test_broken_arguments(speaker: Speaker, double: Running) -> None:
    """Arguments may be any text, JSON or not."""
    heard = speaker.ask(double.origin, script('tool search "{broken"'))
    assert heard.calls == [("search", "{broken")]


@pytest.mark.parametrize("steps", FAILURES)
def test_failures_before_the_stream(speaker: Speaker, double: Running, steps: str) -> None:
    """Errors, HTML pages and a cut before the head are what each SDK expects of them."""
    heard = speaker.ask(double.origin, script(steps))
    assert type(heard.failure).__name__ == FAILURES[steps]
    assert heard.chunks == []


@pytest.mark.parametrize(
    ("status", "anthropic"), [(503, "ServiceUnavailableError"), (529, "OverloadedError")]
)
def test_unavailable(speaker: Speaker, double: Running, status: int, anthropic: str) -> None:
    """503 and 529 have classes of their own at Anthropic, and are a server's error to OpenAI."""
    heard = speaker.ask(double.origin, script(f"status {status}"))
    expected = anthropic if speaker.dialect == "anthropic" else "InternalServerError"
    assert type(heard.failure).__name__ == expected


def test_retry_after(speaker: Speaker, double: Running) -> None:
    """Retry-After is sent in seconds."""
    failure: Any = speaker.ask(double.origin, script("status 429 retry-after 7")).failure
    assert failure.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("steps", ["say 3 words; cut", "say 3 words; then cut mid-chunk"])
def test_cuts(speaker: Speaker, double: Running, steps: str) -> None:
    """What was said before a cut arrives, and the cut is an error of the connection."""
    heard = speaker.ask(double.origin, script(steps))
    assert heard.text == "word1 word2 word3"
    assert heard.reason is None
    name = "RemoteProtocolError" if speaker.dialect == "anthropic" else "APIConnectionError"
    assert type(heard.failure).__name__ == name


def test_garbage(speaker: Speaker, double: Running) -> None:
    """Malformed JSON makes every SDK fail, with what came before it."""
    heard = speaker.ask(double.origin, script("say 2 words; garbage; say 2 words"))
    assert heard.text == "word1 word2"
    assert type(heard.failure).__name__ == "JSONDecodeError"


def test_error_event(speaker: Speaker, double: Running) -> None:
    """An error in the stream is an error for the SDK, or a failed response."""
    heard = speaker.ask(double.origin, script("say 2 words; error-event"))
    assert heard.chunks
    if speaker.dialect == "openai-responses":
        assert heard.failure is None
        assert [chunk.type for chunk in heard.chunks[-2:]] == ["error", "response.failed"]
        assert heard.chunks[-1].response.error.code == "server_error"
    else:
        assert heard.text == "word1 word2"
        expected = "APIStatusError" if speaker.dialect == "anthropic" else "APIError"
        assert type(heard.failure).__name__ == expected


def test_error_event_of_a_kind(speaker: Speaker, double: Running) -> None:
    """An error in the stream says the kind that goes with its status."""
    heard = speaker.ask(double.origin, script("error-event 429"))
    told = str(heard.chunks[-1]) if speaker.dialect == "openai-responses" else repr(heard.failure)
    told += str(getattr(heard.failure, "body", ""))
    kind = "rate_limit_error" if speaker.dialect == "anthropic" else "rate_limit_exceeded"
    assert kind in told


@pytest.mark.parametrize(
    ("steps", "chat", "responses", "anthropic"),
    [
        ("finish stop", "stop", "completed", "end_turn"),
        ("finish length", "length", "max_output_tokens", "max_tokens"),
        ("finish content_filter", "content_filter", "content_filter", "refusal"),
        ("no-finish", None, None, None),
        ("no-finish; no-done", None, None, None),
        ("no-done", "stop", None, "end_turn"),
    ],
)
def test_finish_reasons(
    speaker: Speaker,
    double: Running,
    steps: str,
    chat: str | None,
    responses: str | None,
    anthropic: str | None,
) -> None:
    """A finish reason has each API's name; where it is left out, the stream still ends clean."""
    heard = speaker.ask(double.origin, script(f"{steps}; say 2 words"))
    expected = {"openai-chat": chat, "openai-responses": responses, "anthropic": anthropic}
    assert heard.failure is None
    assert heard.text == "word1 word2"
    assert heard.reason == expected[speaker.dialect]


def test_empty(speaker: Speaker, double: Running) -> None:
    """An empty result has no text, and ends well."""
    heard = speaker.ask(double.origin, script("empty"))
    assert (heard.failure, heard.text, heard.calls) == (None, "", [])
    assert heard.reason == ENDS[speaker.dialect]


def test_nothing_to_say(speaker: Speaker, double: Running) -> None:
    """A script that says nothing says ok."""
    heard = speaker.ask(double.origin, script("tag quiet; silence 1ms"))
    assert (heard.failure, heard.text) == (None, "ok")


def test_usage(speaker: Speaker, double: Running) -> None:
    """Tokens are counted: words that were asked, pieces that were said."""
    more: dict[str, Any] = {}
    if speaker.dialect == "openai-chat":
        more["stream_options"] = {"include_usage": True}
    usage = speaker.ask(double.origin, script("say 7 words"), **more).usage
    if speaker.dialect == "openai-chat":
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (6, 7, 13)
    else:
        assert (usage.input_tokens, usage.output_tokens) == (6, 7)


def test_bad_script(speaker: Speaker, double: Running) -> None:
    """A bad script is 400 in the API's own shape, with the place and the expectation."""
    failure: Any = speaker.ask(double.origin, script("say 3 words; pause 3s")).failure
    assert type(failure).__name__ == "BadRequestError"
    assert "step 2 of the script, at character 29: expected one of say, every," in str(failure)
    assert 'found "pause 3s"' in str(failure)


def test_the_same_bytes(speaker: Speaker, double: Running) -> None:
    """The same request gets the same answer, ids included; another one gets other ids."""
    first, second = (speaker.ask(double.origin, script("say 3 words")) for _ in range(2))
    other = speaker.ask(double.origin, script("say 4 words"))
    assert first.chunks == second.chunks
    assert first.id != other.id
