"""Defects of the order in which an agent says things."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import agent, entries, with_payload
from reference_server.protocol import Event, Progress, Token, ToolResult, ToolUse

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


@defect("tool-left-open", "order.spans-closed", "A tool call never ends, and the run completes.")
def tool_left_open(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if not (isinstance(event, ToolResult) and event.tool_use_id == "call-2"):
                yield event

    return agent(parts, change, "tools")


@defect("tool-opened-twice", "order.no-double-open", "A tool call is opened twice.")
def tool_opened_twice(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield event
            if isinstance(event, ToolUse) and event.tool_use_id == "call-1":
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
