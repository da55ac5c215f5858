"""The agent that asks an LLM: its words become tokens, its tool calls are run, its failures said.

    ask -> (words | tool calls)* -> run the tools -> ask again ... -> the model stops

1. The call is the official SDK's, and belongs to the run: whatever ends the run closes it.
2. The SDK tries a call again once, and only before the first byte of its answer; everything is
   bounded by the run's deadline.
3. An answer that breaks off is a failure, never a short success; one that the model itself ended
   early (its length, a filter) or left empty is said in `done.incomplete`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from reference_server.agent import Incomplete
from reference_server.protocol import Error, Event, Token, ToolResult, ToolUse, Turn
from reference_server.upstream_failures import Failed
from reference_server.upstreams import CONVERSATIONS, Called, Stopped, Words, paired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reference_server.agent import Assignment

MOST_TURNS = 8
"""Calls of the LLM in one run: a model that calls tools for ever is stopped."""

ENDLESS = Error(
    error_type="too_many_turns", message="The model calls tools for ever.", retryable=False
)


async def llm(task: Assignment) -> AsyncIterator[Event]:
    """Send the message to the upstream and answer as its model does."""
    conversation = CONVERSATIONS[task.settings.upstream](
        task.message, task.settings.upstream_url, patience=task.scenario["timeout"]
    )
    said, calls = False, 0
    for number in range(1, MOST_TURNS + 1):
        yield Turn(turn_number=number)
        asked: list[Called] = []
        stopped = Stopped("unsaid")
        halves = Halves()
        async with aclosing(conversation.turn()) as pieces:
            async for piece in pieces:
                match piece:
                    case Words(text=text):
                        whole = halves.join(text)
                        said |= bool(whole)
                        if whole:
                            yield Token(text=whole)
                    case Called():
                        asked.append(piece)
                    case Stopped():
                        stopped = piece
                    case Failed():
                        yield failure(piece)
                        return
        if stopped.why == "unsaid":
            yield failure(Failed("upstream_short", "The model's answer broke off.", True))
            return
        if not asked:
            if stopped.why in ("length", "content_filter"):
                yield Incomplete(reason=stopped.why)
            elif not (said or calls):
                yield Incomplete(reason="empty")
            return
        for call in asked:
            calls += 1
            yield ToolUse(tool_name=call.name, tool_use_id=f"call-{calls}")
            result = run_tool(call)
            conversation.answer(call, result)
            yield ToolResult(
                tool_name=call.name, tool_use_id=f"call-{calls}", output_summary=result
            )
    yield ENDLESS


def run_tool(call: Called) -> str:
    """Run a tool, which does nothing but look at what it was given."""
    return f"{len(call.arguments)} characters of arguments"


def failure(failed: Failed) -> Error:
    """Return the error event of a failed call; nothing that the upstream said is in it."""
    after = None if failed.retry_after is None else round(failed.retry_after * 1000)
    return Error(
        error_type=failed.kind,
        message=failed.message,
        retryable=failed.retryable,
        retry_after_ms=after if failed.retryable else None,
    )


class Halves:
    """Hold back half a character until the other half comes."""

    def __init__(self) -> None:
        self._held = ""

    def join(self, text: str) -> str:
        """Return what is whole so far."""
        text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return paired(text)
