"""The built-in dialects, against streams as servers of each send them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import Outcome, Role, load
from reference_server.protocol import native_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.recording import Run

    RunOf = Callable[..., Run]

RUN = "abcdefghijklmnopqrstuv"


def native(*events: tuple[str, str]) -> str:
    """Write events as the native protocol does, with ids from 1."""
    return "".join(
        f"id: {RUN}/{seq}\nevent: {name}\ndata: {data}\n\n"
        for seq, (name, data) in enumerate(events, 1)
    )


def named(*events: tuple[str, str]) -> str:
    """Write events as agent-event-stream does: the event line, then one data line."""
    return "".join(f"event: {name}\ndata: {data}\n\n" for name, data in events)


def data(*lines: str) -> str:
    """Write events of data only."""
    return "".join(f"data: {line}\n\n" for line in lines)


TURN = ("turn", '{"turn_number":1}')
USE = ("tool_use", '{"tool_name":"search","tool_use_id":"tu_1","status":"running"}')
RESULT = ("tool_result", '{"tool_name":"search","tool_use_id":"tu_1","status":"done"}')
ERROR = ("error", '{"error_type":"agent","message":"The agent failed.","retryable":false}')
DONE = ("done", '{"status":"completed","num_turns":1}')
FAILED = ("done", '{"status":"error","num_turns":1}')

# The bytes that AgentStreamEmitter of agent-event-stream 0.1.0 makes of one call of each method.
EMITTED = named(
    ("thinking", '{"text": "Step 1"}'),
    (
        "tool_use",
        (
            '{"tool_name": "search", "tool_use_id": "tu_1", "input_summary": "query=foo", '
            '"status": "running"}'
        ),
    ),
    (
        "tool_result",
        (
            '{"tool_name": "search", "tool_use_id": "tu_1", "output_summary": "3 results", '
            '"duration_ms": 200, "status": "done"}'
        ),
    ),
    ("turn", '{"turn_number": 1, "total_tools": 0}'),
    ("progress", '{"step": "load", "percentage": 50, "message": "Half"}'),
    (
        "progress",
        (
            '{"step": "load", "percentage": 100, "message": "All", '
            '"sub_progress": {"current": 2, "total": 2, "item_title": "b"}}'
        ),
    ),
    (
        "creation",
        '{"creation_type": "file", "count": 1, "tool_use_id": "", "items": []}',
    ),
    ("token", '{"text": "Hello"}'),
    (
        "done",
        (
            '{"message_id": "", "num_turns": 0, "tool_count": 0, "duration_ms": 0, "model": "", '
            '"total_cost_usd": 0.0}'
        ),
    ),
)

GOOD = {
    "native, complete": (
        "native",
        native(
            TURN,
            ("thinking", '{"text":"hm"}'),
            USE,
            ("progress", '{"step":"s","percentage":100,"message":"all"}'),
            RESULT,
            ("creation", '{"creation_type":"file","count":1}'),
            ("token", '{"text":""}'),
            DONE,
        ),
        Outcome.SUCCESS,
    ),
    "native, a crash in a tool": ("native", native(TURN, USE, ERROR, FAILED), Outcome.FAILURE),
    "native, a crash before anything": (
        "native",
        native(ERROR, ("done", '{"status":"error","num_turns":0}')),
        Outcome.FAILURE,
    ),
    "native, cancelled": (
        "native",
        native(TURN, ("done", '{"status":"cancelled","num_turns":1}')),
        Outcome.CANCELLED,
    ),
    "native, nobody answered": (
        "native",
        native(
            TURN,
            ("input_required", '{"request_id":"r","prompt":"Yes?"}'),
            ("done", '{"status":"interrupted","num_turns":1}'),
        ),
        Outcome.INTERRUPT,
    ),
    "agent-event-stream, as emitted": ("agent-event-stream", EMITTED, Outcome.SUCCESS),
    "agent-event-stream, a handled failure": (
        "agent-event-stream",
        named(
            ("error", '{"error_type": "provider_error", "message": "failed", "details": {}}'),
            ("done", '{"message_id": ""}'),
        ),
        Outcome.FAILURE,
    ),
    "agent-event-stream, forgets done": (
        "agent-event-stream",
        named(("token", '{"text": "a"}')),
        None,
    ),
    "agent-event-stream, an event of its own": (
        "agent-event-stream",
        named(("citation", '{"url": null}'), ("done", "{}")),
        Outcome.SUCCESS,
    ),
    "generic-typed, complete": (
        "generic-typed",
        named(
            ("chunk", '{"content": "a", "agent": "planner"}'),
            ("jobs_data", '{"jobs": []}'),
            ("chart", "[1, 2]"),
            ("complete", '{"conversation_id": "c"}'),
        ),
        Outcome.SUCCESS,
    ),
    "generic-typed, failed": (
        "generic-typed",
        named(("error", '{"content": "no", "retry": true}'), ("complete", "{}")),
        Outcome.FAILURE,
    ),
    "generic-data, a plain app": (
        "generic-data",
        data('{"content": "Hello"}', '{"content": " there"}', "[DONE]"),
        Outcome.SUCCESS,
    ),
    "generic-data, heartbeats and other fields": (
        "generic-data",
        data('{"heartbeat": true}', '{"usage": 3}', '{"content": "a", "id": 1}', "[DONE]"),
        Outcome.SUCCESS,
    ),
    "generic-data, failed": (
        "generic-data",
        data('{"content": "a"}', '{"error": "no"}', "[DONE]"),
        Outcome.FAILURE,
    ),
    "generic-data, waits for a person": (
        "generic-data",
        data('{"interrupt": true}', "[DONE]"),
        Outcome.INTERRUPT,
    ),
    "generic-data, cut": ("generic-data", data('{"content": "a"}'), None),
}


@pytest.mark.parametrize(("name", "body", "outcome"), GOOD.values(), ids=GOOD)
def test_good(run_of: RunOf, name: str, body: str, outcome: Outcome | None) -> None:
    """A stream as a good server sends it has its outcome and no violations."""
    reading = load(name).read(run_of(body))
    assert (reading.outcome, reading.violations) == (outcome, ())


BAD = {
    "native, no turn first": (
        "native",
        native(("token", '{"text":"a"}'), ("done", '{"status":"completed","num_turns":0}')),
        "order.first",
    ),
    "native, a wrong total": (
        "native",
        native(TURN, ("done", '{"status":"completed","num_turns":2}')),
        "order.counts-agree",
    ),
    "native, a status that there is not": (
        "native",
        native(TURN, ("done", '{"status":"finished","num_turns":1}')),
        "schema.required-fields",
    ),
    "native, no status": ("native", native(TURN, ("done", "{}")), "schema.required-fields"),
    "native, a field too many": (
        "native",
        native(TURN, ("token", '{"text":"a","role":"x"}'), DONE),
        "schema.no-extra-fields",
    ),
    "native, a null": (
        "native",
        native(TURN, ("done", '{"status":"completed","num_turns":1,"model":null}')),
        "schema.no-null-optionals",
    ),
    "native, a new event": (
        "native",
        native(TURN, ("citation", "{}"), DONE),
        "schema.known-type",
    ),
    "native, a call without its result": (
        "native",
        native(TURN, USE, DONE),
        "order.spans-closed",
    ),
    "native, a result of no call": (
        "native",
        native(TURN, RESULT, DONE),
        "order.tool-results-match",
    ),
    "native, the run changes": (
        "native",
        native(TURN) + native(TURN, DONE)[len(native(TURN)) :].replace(RUN, RUN[::-1]),
        "schema.constant-identity",
    ),
    "native, 70 %": (
        "native",
        native(TURN, ("progress", '{"step":"s","percentage":70,"message":""}'), DONE),
        "order.progress-completes",
    ),
    "native, 101 %": (
        "native",
        native(TURN, ("progress", '{"step":"s","percentage":101,"message":""}'), DONE),
        "schema.required-fields",
    ),
    "agent-event-stream, no event line": (
        "agent-event-stream",
        'data: {"text": "a"}\n\n' + named(("done", "{}")),
        "schema.known-type",
    ),
    "agent-event-stream, NaN": (
        "agent-event-stream",
        named(("done", '{"total_cost_usd": NaN}')),
        "schema.json-strict",
    ),
    "generic-data, no text": (
        "generic-data",
        data('{"content": 1}', "[DONE]"),
        "schema.required-fields",
    ),
    "generic-data, no JSON": ("generic-data", data("Hello", "[DONE]"), "schema.json-strict"),
}


@pytest.mark.parametrize(("name", "body", "slug"), BAD.values(), ids=BAD)
def test_bad(run_of: RunOf, name: str, body: str, slug: str) -> None:
    """One fault of a server breaks one requirement."""
    assert [one.requirement for one in load(name).read(run_of(body)).violations] == [slug]


def test_native_tables_say_what_the_reference_server_says() -> None:
    """The field tables of the native dialect and the reference server's models name the same."""
    declared = load("native").profile.events
    schemas = native_schema()
    assert declared.keys() == schemas.keys()
    for name, schema in schemas.items():
        event = declared[name]
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == event.required.keys()
        assert schema["properties"].keys() == event.required.keys() | event.optional.keys()


def test_roles(run_of: RunOf) -> None:
    """Heartbeats, errors, questions and ends are known as what they are."""
    body = data('{"heartbeat": true}', '{"error": "x"}', '{"interrupt": true}', "[DONE]")
    events = load("generic-data").read(run_of(body)).events
    assert [event.role for event in events] == [
        Role.HEARTBEAT,
        Role.ERROR,
        Role.INPUT,
        Role.TERMINAL,
    ]
    assert events[0].ephemeral
