"""Say what the native protocol's events are: pydantic models, and one closed JSON Schema each.

The normative text is docs/protocol.md. `extra="forbid"` binds producers; clients ignore unknown
fields and unknown events. The event type stands in `event:` only, so no model carries it as a
field: `Event.type` is the class's.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, strict=True)]


class Closed(BaseModel):
    """A model that refuses fields it does not declare, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Event(Closed):
    """One event of a run, without its id: the log gives it that."""

    type: ClassVar[str]

    def payload(self) -> dict[str, JsonValue]:
        """Return the JSON object that stands in `data:`; what is not set is left out, not null."""
        return self.model_dump(mode="json", exclude_none=True)


class Token(Event):
    """A piece of the answer; any text, an empty one too."""

    type = "token"
    text: str


class Thinking(Event):
    """A piece of the agent's reasoning."""

    type = "thinking"
    text: str


class ToolUse(Event):
    """A tool call begins: opens the span `tool_use_id`, once in a run."""

    type = "tool_use"
    tool_name: Text
    tool_use_id: Text
    status: Literal["running"] = "running"
    input_summary: str | None = None


class ToolResult(Event):
    """A tool call ends: closes the span that a `tool_use` of the same run opened."""

    type = "tool_result"
    tool_name: Text
    tool_use_id: Text
    status: Literal["done", "error"] = "done"
    output_summary: str | None = None
    duration_ms: Count | None = None


class Turn(Event):
    """The agent's next turn begins; the first event of a run is turn 1."""

    type = "turn"
    turn_number: Annotated[int, Field(ge=1, strict=True)]
    total_tools: Count | None = None


class SubProgress(Closed):
    """Where a step with countable items is."""

    current: Count
    total: Count
    item_title: str


class Progress(Event):
    """How far one named step is, in whole percent; never back within a step."""

    type = "progress"
    step: Text
    percentage: Annotated[int, Field(ge=0, le=100, strict=True)]
    message: str
    sub_progress: SubProgress | None = None


class Creation(Event):
    """The agent made something that lasts."""

    type = "creation"
    creation_type: Text
    count: Count
    tool_use_id: Text | None = None
    items: list[dict[str, JsonValue]] | None = None


class Error(Event):
    """The run failed; only `done` with status error follows. Never carries exception text."""

    type = "error"
    error_type: Text
    message: Text
    retryable: bool
    retry_after_ms: Count | None = None
    details: dict[str, JsonValue] | None = None


Status = Literal["completed", "error", "cancelled", "interrupted"]


class Done(Event):
    """The terminal: always last, exactly once, and the only one."""

    type = "done"
    status: Status
    num_turns: Count | None = None
    tool_count: Count | None = None
    message_id: str | None = None
    duration_ms: Count | None = None
    model: str | None = None
    total_cost_usd: Annotated[float, Field(ge=0)] | None = None
    incomplete: Literal["length", "content_filter", "empty"] | None = None


class InputRequired(Event):
    """The run waits for a person; not terminal, the stream stays open."""

    type = "input_required"
    request_id: Text
    prompt: str


EVENTS: dict[str, type[Event]] = {
    model.type: model
    for model in (
        Token,
        Thinking,
        ToolUse,
        ToolResult,
        Turn,
        Progress,
        Creation,
        Error,
        Done,
        InputRequired,
    )
}


def native_schema() -> dict[str, dict[str, Any]]:
    """Return one closed JSON Schema (2020-12) for each event type.

    Optional fields are optional, not nullable: the protocol leaves them out. `done` says
    `num_turns` where the status is `completed`.
    """
    schemas = {name: _without_null(model.model_json_schema()) for name, model in EVENTS.items()}
    for name, model in EVENTS.items():
        schemas[name]["required"] = sorted(
            {*schemas[name].get("required", ()), *_always_sent(model)}
        )
    schemas["done"]["if"] = {"properties": {"status": {"const": "completed"}}}
    schemas["done"]["then"] = {"required": ["num_turns"]}
    return schemas


def _always_sent(model: type[Event]) -> set[str]:
    return {name for name, field in model.model_fields.items() if field.get_default() is not None}


def _without_null(schema: Any) -> Any:
    """Drop what pydantic adds for `| None`, and titles and defaults, which constrain nothing."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema and {"type": "null"} in schema["anyOf"]:
        kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return _without_null({**rest, **kinds[0]})
    return {
        key: {name: _without_null(value) for name, value in item.items()}
        if key in ("properties", "$defs")
        else _without_null(item)
        for key, item in schema.items()
        if key not in ("title", "default")
    }
