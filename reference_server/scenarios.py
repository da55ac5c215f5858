"""The scripted agent: one async generator for each scenario, the same events every time.

A scenario's events, texts and order are fixed, so two runs of it differ in nothing but the run's
id; only pauses take time. The table of parameters is in docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from reference_server.llm import llm
from reference_server.protocol import (
    Creation,
    Error,
    Event,
    InputRequired,
    Progress,
    SubProgress,
    Thinking,
    Token,
    ToolResult,
    ToolUse,
    Turn,
)
from reference_server.scenario import Parameter, choice, flag, number, seconds, words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from reference_server.agent import Agent, Assignment

BEAT = 0.004
"""Seconds between two tokens: enough for each to be sent alone."""

WORDS = ("A café ", "in Zürich ", "serves ☕ ", "and 🍰 ", "to ", "everyone.")
LARGE = 48 * 1024
PIECE = 3
"""Code points in a token of `echo`: few, so that CR LF is now and then split over two."""


async def _tokens(*words: str) -> AsyncIterator[Event]:
    for word in words:
        await asyncio.sleep(BEAT)
        yield Token(text=word)


async def complete(task: Assignment) -> AsyncIterator[Event]:
    """Answer as any agent does when nothing goes wrong."""
    yield Turn(turn_number=1)
    yield Thinking(text="What was asked, and what is known about it?")
    yield Progress(step="answer", percentage=50, message="half way")
    async for event in _tokens(*WORDS):
        yield event
    yield Creation(creation_type="note", count=1)
    sub = SubProgress(current=1, total=1, item_title="note")
    yield Progress(step="answer", percentage=100, message="done", sub_progress=sub)


async def tools(task: Assignment) -> AsyncIterator[Event]:
    """Call two tools, the second of which takes `seconds`, in two turns."""
    yield Turn(turn_number=1, total_tools=2)
    yield Progress(step="research", percentage=0, message="starting")
    yield ToolUse(tool_name="search", tool_use_id="call-1", input_summary="cafés in Zürich")
    await asyncio.sleep(BEAT)
    yield ToolResult(tool_name="search", tool_use_id="call-1", output_summary="3 results")
    yield Progress(step="research", percentage=50, message="found")
    yield ToolUse(tool_name="read", tool_use_id="call-2", input_summary="the first result")
    await asyncio.sleep(task.scenario["seconds"])
    yield ToolResult(tool_name="read", tool_use_id="call-2", output_summary="one page")
    yield Progress(step="research", percentage=100, message="read")
    yield Turn(turn_number=2)
    async for event in _tokens(*WORDS):
        yield event


async def silence(task: Assignment) -> AsyncIterator[Event]:
    """Say a little, nothing for `seconds`, then the rest."""
    yield Turn(turn_number=1)
    async for event in _tokens(*WORDS[:2], task.scenario["marker"]):
        yield event
    await asyncio.sleep(task.scenario["seconds"])
    async for event in _tokens(*WORDS[3:]):
        yield event


async def slow_start(task: Assignment) -> AsyncIterator[Event]:
    """Say nothing for `seconds`, not even the first event."""
    await asyncio.sleep(task.scenario["seconds"])
    yield Turn(turn_number=1)
    async for event in _tokens(*WORDS):
        yield event


async def crash(task: Assignment) -> AsyncIterator[Event]:
    """Fail in a way nobody foresaw, immediately behind the last token."""
    kind = task.scenario["kind"]
    yield Turn(turn_number=1)
    async for event in _tokens(*WORDS[:3]):
        yield event
    if kind == "tool":
        yield ToolUse(tool_name="search", tool_use_id="call-1")
    await asyncio.sleep(BEAT)
    yield Token(text=task.scenario["marker"])
    raise CRASHES[kind](f"the agent failed at {task.scenario['secret']}")


CRASHES: dict[str, type[BaseException]] = {
    "exception": RuntimeError,
    "tool": RuntimeError,
    "cancelled": asyncio.CancelledError,
    "system-exit": SystemExit,
}


async def crash_first(task: Assignment) -> AsyncIterator[Event]:
    """Fail before the first event."""
    for _ in range(0):
        yield Turn(turn_number=1)
    raise RuntimeError(f"the agent failed at {task.scenario['secret']}")


async def echo(task: Assignment) -> AsyncIterator[Event]:
    """Send the message back: the tokens together are exactly its text."""
    text = task.message
    size = max(PIECE, len(text) // 1000)
    yield Turn(turn_number=1)
    for start in range(0, len(text), size):
        await asyncio.sleep(0)
        yield Token(text=text[start : start + size])


async def long(task: Assignment) -> AsyncIterator[Event]:
    """Send `events` small tokens within `seconds`, with one of 48 KiB in their middle."""
    events = task.scenario["events"]
    pause = max(0.001, task.scenario["seconds"] * 10 / max(events, 1))
    yield Turn(turn_number=1)
    for index in range(events):
        if index % 10 == 0:
            await asyncio.sleep(pause)
        if index == events // 2:
            yield Token(text="x" * LARGE)
        yield Token(text=f"{index} ")


async def flood(task: Assignment) -> AsyncIterator[Event]:
    """Send `events` tokens of `size` characters as fast as the log takes them."""
    size = task.scenario["size"]
    yield Turn(turn_number=1)
    for index in range(task.scenario["events"]):
        if index % 10 == 0:
            await asyncio.sleep(0)
        yield Token(text=f"{index} ".ljust(size, "x"))


async def fail(task: Assignment) -> AsyncIterator[Event]:
    """Report a failure the agent knows of, as it should."""
    retryable = task.scenario["retryable"]
    yield Turn(turn_number=1)
    async for event in _tokens(*WORDS[:2]):
        yield event
    yield Error(
        error_type="upstream_unavailable" if retryable else "request_refused",
        message="The model did not answer." if retryable else "The model refuses this request.",
        retryable=retryable,
        retry_after_ms=task.scenario["retry_after_ms"] if retryable else None,
    )


async def interrupt(task: Assignment) -> AsyncIterator[Event]:
    """Ask a person, wait for the answer, go on with it."""
    yield Turn(turn_number=1)
    async for event in _tokens(*WORDS[:2]):
        yield event
    task.inbox.expect("input-1")
    yield InputRequired(request_id="input-1", prompt="Shall the note be written?")
    answer = await task.inbox.answer("input-1")
    async for event in _tokens("The answer was: ", answer):
        yield event


async def block(task: Assignment) -> AsyncIterator[Event]:
    """Call a tool that blocks a worker thread for `seconds`, never the event loop."""
    yield Turn(turn_number=1, total_tools=1)
    yield ToolUse(tool_name="blocking", tool_use_id="call-1")
    stop = threading.Event()
    try:
        await asyncio.to_thread(stop.wait, task.scenario["seconds"])
    finally:
        stop.set()
    yield ToolResult(tool_name="blocking", tool_use_id="call-1")
    async for event in _tokens(*WORDS):
        yield event


async def pauses(task: Assignment) -> AsyncIterator[Event]:
    """Send `count` tokens, with `seconds` before each."""
    count = task.scenario["count"]
    yield Turn(turn_number=1)
    for index in range(count):
        await asyncio.sleep(task.scenario["seconds"])
        yield Token(text=f"{index + 1} of {count} ")


LLM = "llm"
"""The scenario in which an upstream is asked, so that it needs that upstream's SDK."""

SCENARIOS: dict[str, tuple[Agent, Mapping[str, Parameter]]] = {
    "complete": (complete, {}),
    "tools": (tools, {"seconds": seconds(0.02)}),
    "silence": (silence, {"seconds": seconds(1.0), "marker": words(WORDS[2])}),
    "slow-start": (slow_start, {"seconds": seconds(1.0)}),
    "crash": (
        crash,
        {
            "kind": choice(*CRASHES),
            "marker": words("the last word"),
            "secret": words("a secret place"),
        },
    ),
    "expired": (complete, {"retention": seconds(0.3)}),
    "crash-first": (crash_first, {"secret": words("a secret place")}),
    "echo": (echo, {}),
    "long": (long, {"events": number(300, most=100_000), "seconds": seconds(0.0)}),
    "flood": (flood, {"events": number(1500, most=100_000), "size": number(8000, most=60_000)}),
    "fail": (fail, {"retryable": flag(True), "retry_after_ms": number(1000, most=600_000)}),
    "interrupt": (interrupt, {}),
    "block": (block, {"seconds": seconds(1.0)}),
    "pauses": (pauses, {"seconds": seconds(0.2), "count": number(5, most=1000)}),
    LLM: (llm, {"deadline": seconds(3600.0), "timeout": seconds(60.0)}),
}
"""Each scenario that an agent plays, with the parameters it takes."""

OVERLOADED = "overloaded"
"""The scenario in which no agent begins: the start is refused with 429."""

PARAMETERS = {name: parameters for name, (_, parameters) in SCENARIOS.items()} | {OVERLOADED: {}}


def scripted(task: Assignment) -> AsyncIterator[Event]:
    """Be the agent that does what the assignment's scenario says."""
    agent, _ = SCENARIOS[task.scenario.name]
    return agent(task)
