"""The agent `llm`: what it makes of its model's words, calls and failures, and that it lets go."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
from anyio.from_thread import start_blocking_portal

from pytest_agentstream.doubles import LlmDouble
from reference_server.agent import Assignment, Inbox
from reference_server.llm import MOST_TURNS, llm
from reference_server.scenario import Scenario
from reference_server.settings import Settings
from reference_server.upstreams import missing, prepare

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from anyio.from_thread import BlockingPortal

    from pytest_agentstream.doubles import Call
    from reference_server.protocol import Event
    from tests.reference_server.conftest import Serve

    Sdk = Literal["openai", "anthropic"]

PATIENCE = 5.0
UPSTREAMS: tuple[Sdk, ...] = ("openai", "anthropic")
VARIABLE = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL"}
SLOW = "[[agentstream: tag slow; every 20ms; say 1000 words]]"


def asked(
    upstream: Sdk, steps: str, *, timeout: float = PATIENCE, url: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """What the agent says, where the double plays these steps: types and payloads."""

    async def ask() -> list[tuple[str, dict[str, Any]]]:
        async with LlmDouble() as double:
            settings = Settings(
                upstream=upstream, upstream_url=url or double.environment[VARIABLE[upstream]]
            )
            inbox = Inbox(PATIENCE, lambda: None, lambda: None)
            scenario = Scenario("llm", {"timeout": timeout})
            task = Assignment(f"Please: [[agentstream: {steps}]]", scenario, inbox, settings)
            events = cast("AsyncGenerator[Event]", llm(task))
            async with aclosing(events), asyncio.timeout(4 * PATIENCE):
                return [(event.type, dict(event.payload())) async for event in events]

    return asyncio.run(ask())


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_words_are_tokens(upstream: Sdk) -> None:
    """Each piece of the answer is a token, in the turn that it belongs to."""
    said = asked(upstream, 'say "a caf\u00e9 "; say 2 words')

    assert said[0] == ("turn", {"turn_number": 1})
    assert "".join(p["text"] for t, p in said if t == "token") == "a caf\u00e9 word1 word2"
    assert {kind for kind, _ in said} == {"turn", "token"}


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_tools_are_run(upstream: Sdk) -> None:
    """Every call has its result before the model is asked again; ids are unique in the run."""
    said = asked(upstream, 'tool; say "again "; tool f {"a": 1}; and tool g; say "end"')
    ids = [payload["tool_use_id"] for kind, payload in said if kind == "tool_use"]

    assert [kind for kind, _ in said] == [
        *("turn", "tool_use", "tool_result"),
        *("turn", "token", "tool_use", "tool_result", "tool_use", "tool_result"),
        *("turn", "token"),
    ]
    assert [p["tool_name"] for kind, p in said if kind == "tool_use"] == ["look_up", "f", "g"]
    assert (len(ids), len({*ids})) == (3, 3)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_arguments_that_are_no_json(upstream: Sdk) -> None:
    """A model that writes broken arguments is answered, and the run goes on."""
    said = asked(upstream, 'tool search "{broken"; say "end"')
    assert said[-1] == ("token", {"text": "end"})


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_model_that_calls_for_ever(upstream: Sdk) -> None:
    """After some turns the run ends in an error that no retry mends."""
    kind, payload = asked(upstream, "; ".join(["tool"] * (MOST_TURNS + 1)))[-1]
    assert (kind, payload["error_type"], payload["retryable"]) == ("error", "too_many_turns", False)


FAILURES = [
    ("status 400", "upstream_refused", False),
    ("status 401", "upstream_refused", False),
    ("status 429", "upstream_rate_limited", True),
    ("status 500", "upstream_unavailable", True),
    ("status 503 retry-after 1", "upstream_unavailable", True),
    ("status 529", "upstream_unavailable", True),
    ("html", "upstream_unavailable", True),
    ("html 200", "upstream_short", True),
    ("cut head", "upstream_unreachable", True),
    ("say 2 words; cut", "upstream_unreachable", True),
    ("say 2 words; cut mid-chunk", "upstream_unreachable", True),
    ("say 2 words; garbage", "upstream_garbled", True),
    ("say 2 words; no-finish; no-done", "upstream_short", True),
    ("say 2 words; error-event", "upstream_failed", True),
]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize(("steps", "error_type", "retryable"), FAILURES)
def test_failures_are_said(upstream: Sdk, steps: str, error_type: str, retryable: bool) -> None:
    """Every failure is one error event, last, with the class that its cause has."""
    said = asked(upstream, steps)
    kind, payload = said[-1]

    assert [event for event in said if event[0] == "error"] == [(kind, payload)]
    assert (payload["error_type"], payload["retryable"]) == (error_type, retryable)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_retry_after_is_handed_on(upstream: Sdk) -> None:
    """When the upstream says when to come back, the error says it too."""
    _, payload = asked(upstream, "status 429 retry-after 1")[-1]
    assert payload["retry_after_ms"] == 1000


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("steps", ["stall head", "say 2 words; stall"])
def test_a_model_that_hangs(upstream: Sdk, steps: str) -> None:
    """A model that is silent for longer than its timeout has failed, and may do better later."""
    _, payload = asked(upstream, steps, timeout=0.2)[-1]
    assert (payload["error_type"], payload["retryable"]) == ("upstream_timeout", True)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_nobody_there(upstream: Sdk) -> None:
    """An upstream that refuses connections can be reached later."""
    _, payload = asked(upstream, "say 1 word", url="http://127.0.0.1:9")[-1]
    assert (payload["error_type"], payload["retryable"]) == ("upstream_unreachable", True)


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ("say 2 words; finish length", "length"),
        ("say 2 words; finish content_filter", "content_filter"),
        ("empty", "empty"),
    ],
)
def test_an_answer_that_is_not_whole(upstream: Sdk, steps: str, reason: str) -> None:
    """Why the model stopped early is said last; it is no error."""
    assert asked(upstream, steps)[-1] == ("incomplete", {"reason": reason})


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("split", ["split", "split deltas"])
def test_characters_in_two_parts(upstream: Sdk, split: str) -> None:
    """A character whose halves come apart is put together, over two tokens if need be."""
    text = "Gr\u00fc\u00dfe \U0001f30d \U0001f680"
    said = asked(upstream, f"{split}; say {json.dumps(text)}")
    assert "".join(p["text"] for t, p in said if t == "token") == text


def test_without_its_sdk() -> None:
    """What has to be installed is named; what is installed lacks nothing."""
    assert "pip install 'pytest-agentstream[upstream]'" in (missing("no_such_sdk") or "")
    assert missing("openai") is None
    prepare("no_such_sdk")  # to prepare what is not there is no failure: nobody may ask for it


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def double(portal: BlockingPortal) -> Iterator[LlmDouble]:
    with portal.wrap_async_context_manager(LlmDouble()) as double:
        yield double


def ended(portal: BlockingPortal, double: LlmDouble) -> Call:
    """The call of the slow answer, once it is over."""

    async def wait() -> Call:
        return await double.wait_for("slow", ended=True, seconds=PATIENCE)

    return portal.call(wait)


def test_a_cancelled_run_lets_go(serve: Serve, portal: BlockingPortal, double: LlmDouble) -> None:
    """DELETE ends the run as cancelled and closes the call of its model."""
    client = serve(upstream_url=double.environment["OPENAI_BASE_URL"])
    run = client.begin("llm", message=SLOW)
    client.read(run, until=lambda body: len(body.events) > 2)

    assert client.http.delete(f"/v1/runs/{run}").status_code == 204
    assert ended(portal, double).cancelled is not None
    assert client.read(run).last.payload == {"status": "cancelled"}


def test_a_run_that_nobody_reads_lets_go(
    serve: Serve, portal: BlockingPortal, double: LlmDouble
) -> None:
    """With on_disconnect=cancel, the call is closed when the last reader has been gone a while."""
    client = serve(upstream_url=double.environment["OPENAI_BASE_URL"], retry=0.1)
    client.start("llm", SLOW, until=lambda body: len(body.events) > 2, on_disconnect="cancel")

    assert ended(portal, double).cancelled is not None


def test_a_deadline_lets_go(serve: Serve, portal: BlockingPortal, double: LlmDouble) -> None:
    """The run's own deadline ends it in a retryable error, and closes the call."""
    client = serve(upstream_url=double.environment["OPENAI_BASE_URL"])
    seen = client.start("llm; deadline=0.3", SLOW)

    assert [event.type for event in seen.events[-2:]] == ["error", "done"]
    assert seen.events[-2].payload["error_type"] == "deadline"
    assert ended(portal, double).cancelled is not None


def test_done_says_what_is_missing(serve: Serve, double: LlmDouble) -> None:
    """A truncated answer is completed and says that it is not whole; a whole one says nothing."""
    client = serve(upstream_url=double.environment["OPENAI_BASE_URL"])
    cut, whole = (
        client.start("llm", f"[[agentstream: say 2 words{more}]]").last.payload
        for more in ("; finish length", "")
    )

    assert (cut["status"], cut["incomplete"]) == ("completed", "length")
    assert (whole["status"], "incomplete" in whole) == ("completed", False)
