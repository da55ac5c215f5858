"""Defects of the order in which an agent says things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import agent, entries, with_payload
from reference_server.protocol import Event, Progress, Thinking, Token, ToolResult, ToolUse, Turn

if TYPE_CHECKING:
    from reference_server.log import Entry
    from reference_server.parts import Parts

Events = AsyncIterator[Event]


@defect("token-first", "order.first", "A `complete` run begins with a token, before any turn.")
def token_first(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        yield Token(text="So: ")
        async for event in events:
            yield event

    return agent(parts, change, "complete")


@defect("first-turn-missing", "order.first", "A `tools` run begins with its progress, no turn.")
def first_turn_missing(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if not (isinstance(event, Turn) and event.turn_number == 1):
                yield event

    return agent(parts, change, "tools")


@defect("tool-left-open", "order.spans-closed", "A tool call never ends, and the run completes.")
def tool_left_open(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if not (isinstance(event, ToolResult) and event.tool_use_id == "call-2"):
                yield event

    return agent(parts, change, "tools")


@defect(
    "tool-begun-at-the-end",
    "order.spans-closed",
    "The last thing that a run says before it completes is that a tool is called.",
)
def tool_begun_at_the_end(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
        yield ToolUse(tool_name="read", tool_use_id="call-3")

    return agent(parts, change, "tools")


@defect("tool-opened-twice", "order.no-double-open", "A tool call is opened twice.")
def tool_opened_twice(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, ToolUse) and event.tool_use_id == "call-1":
                yield event

    return agent(parts, change, "tools")


@defect(
    "tool-id-again",
    "order.no-double-open",
    "A second call has the id of the first one, which has ended.",
)
def tool_id_again(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if isinstance(event, ToolUse | ToolResult):
                yield event.model_copy(update={"tool_use_id": "call-1"})
            else:
                yield event

    return agent(parts, change, "tools")


@defect("foreign-tool-result", "order.tool-results-match", "A result names a call nobody made.")
def foreign_tool_result(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, ToolResult) and event.tool_use_id == "call-1":
                yield ToolResult(tool_name="search", tool_use_id="call-of-another-run")

    return agent(parts, change, "tools")


@defect(
    "result-without-calls",
    "order.tool-results-match",
    "There is a tool's result in a `complete` run, which calls no tool.",
)
def result_without_calls(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, Thinking):
                yield ToolResult(tool_name="search", tool_use_id="call-1")

    return agent(parts, change, "complete")


@defect(
    "tool-result-before-use",
    "order.spans-open-before-use",
    "A tool's result comes before the call it belongs to.",
)
def tool_result_before_use(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if isinstance(event, ToolUse) and event.tool_use_id == "call-1":
                yield ToolResult(tool_name=event.tool_name, tool_use_id=event.tool_use_id)
            yield event

    return agent(parts, change, "tools")


@defect(
    "tool-result-twice",
    "order.spans-open-before-use",
    "A tool's result comes a second time, when its call has ended.",
)
def tool_result_twice(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, ToolResult) and event.tool_use_id == "call-1":
                yield event

    return agent(parts, change, "tools")


@defect("progress-goes-back", "order.progress-monotonic", "A step's progress goes back once.")
def progress_goes_back(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, Progress) and event.percentage == 50:
                yield event.model_copy(update={"percentage": 40})

    return agent(parts, change, "tools")


@defect("progress-stops-at-70", "order.progress-completes", "A step ends at 70 %.")
def progress_stops_at_70(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            full = isinstance(event, Progress) and event.percentage == 100
            yield event.model_copy(update={"percentage": 70}) if full else event

    return agent(parts, change, "tools")


@defect("turns-miscounted", "order.counts-agree", "`num_turns` is one too many.")
def turns_miscounted(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        turns = entry.payload.get("num_turns") if entry.type == "done" else None
        yield entry if turns is None else with_payload(entry, num_turns=turns + 1)

    return entries(parts, change)
