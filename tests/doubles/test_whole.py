"""Calls that don't stream: minimal answers, or the script where it asks for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.doubles.conftest import script, tools
from tests.doubles.test_streams import CALLS, ENDS, FAILURES

if TYPE_CHECKING:
    from tests.doubles.conftest import Running, Speaker


@pytest.mark.parametrize("text", ["Title?", script("say 40 words; cut"), "[[agentstream: say 4 w…"])
def test_minimal(speaker: Speaker, double: Running, text: str) -> None:
    """A call that doesn't stream gets `ok`, with a script, without one and with half of one."""
    heard = speaker.ask(double.origin, text, stream=False)
    assert (heard.failure, heard.text) == (None, "ok")
    assert heard.reason == ENDS[speaker.dialect]
    assert heard.usage is not None
    assert not double.calls[-1].played


def test_bad_script(speaker: Speaker, double: Running) -> None:
    """A whole script that is bad is 400 in any call."""
    heard = speaker.ask(double.origin, script("sya 3 words"), stream=False)
    assert type(heard.failure).__name__ == "BadRequestError"


def test_everywhere(speaker: Speaker, double: Running) -> None:
    """`everywhere` plays the script at once."""
    steps = script('everywhere; say "Grüße"; silence 1ms; tool search {"q": "x"}')
    heard = speaker.ask(double.origin, steps, stream=False, tools=tools(speaker.dialect))
    assert heard.failure is None
    assert heard.text == "Grüße"
    assert [(name, json.loads(told)) for name, told in heard.calls] == [("search", {"q": "x"})]
    assert heard.reason == CALLS[speaker.dialect]


@pytest.mark.parametrize("steps", FAILURES)
def test_failures(speaker: Speaker, double: Running, steps: str) -> None:
    """With `everywhere`, failures are the same as in a stream."""
    heard = speaker.ask(double.origin, script(f"everywhere; {steps}"), stream=False)
    assert type(heard.failure).__name__ == FAILURES[steps]


@pytest.mark.parametrize(
    ("steps", "failure"),
    [
        ("say 30 words; cut", "APIConnectionError"),
        ("say 30 words; cut mid-chunk", "APIConnectionError"),
        ("say 30 words; error-event 500", "InternalServerError"),
        ("say 30 words; garbage", "JSONDecodeError"),
    ],
)
def test_failures_within(speaker: Speaker, double: Running, steps: str, failure: str) -> None:
    """What happens in the middle of a stream happens in the middle of the body."""
    heard = speaker.ask(double.origin, script(f"everywhere; {steps}"), stream=False)
    assert type(heard.failure).__name__ == failure


@pytest.mark.parametrize(
    ("steps", "reasons"),
    [
        ("finish length", ("length", "max_output_tokens", "max_tokens")),
        ("finish content_filter", ("content_filter", "content_filter", "refusal")),
        ("empty", ("stop", "completed", "end_turn")),
        ("no-finish", (None, "in_progress", None)),
    ],
)
def test_finish(
    speaker: Speaker, double: Running, steps: str, reasons: tuple[str | None, ...]
) -> None:
    """Finish reasons are said in one piece as well."""
    heard = speaker.ask(double.origin, script(f"everywhere; {steps}"), stream=False)
    expected = dict(zip(("openai-chat", "openai-responses", "anthropic"), reasons, strict=True))
    assert heard.failure is None
    assert heard.reason == expected[speaker.dialect]
    assert heard.text == ("" if steps == "empty" else "ok")
