"""What a run looks like on the wire: head, framing, heartbeats, the end of every scenario."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from reference_server.protocol import native_schema
from reference_server.scenarios import SCENARIOS

if TYPE_CHECKING:
    from tests.reference_server.conftest import Client, Serve

QUICK = sorted({*SCENARIOS} - {"interrupt", "llm"})
PARAMETERS = {
    "silence": "seconds=0.01",
    "slow-start": "seconds=0.01",
    "block": "seconds=0.01",
    "flood": "events=20",
    "long": "events=50",
}


def _scenario(name: str) -> str:
    parameters = PARAMETERS.get(name, "seconds=0.01; count=3" if name == "pauses" else "")
    return f"{name}; {parameters}" if parameters else name


def test_the_head_says_everything(client: Client) -> None:
    """A stream's head has the type, forbids caching and buffering, and names run and log."""
    head = client.start().headers

    assert head["content-type"] == "text/event-stream"
    assert head["cache-control"] == "no-store"
    assert head["x-accel-buffering"] == "no"
    assert head["location"] == f"/v1/runs/{head['agentstream-run']}"
    assert head["agentstream-log"] == "volatile; retention=60; run-bytes=33554432"
    assert "content-length" not in head


@pytest.mark.parametrize("name", QUICK)
def test_every_scenario_keeps_the_protocol(client: Client, name: str) -> None:
    """Every event of every scenario has its schema; ids are contiguous; `done` is last, once."""
    schemas = native_schema()

    seen = client.start(_scenario(name))

    for event in seen.events:
        jsonschema.validate(event.payload, schemas[event.type])
    assert [e.id for e in seen.events] == [f"{seen.run}/{n + 1}" for n in range(len(seen.events))]
    assert seen.types.count("done") == 1
    assert seen.last.type == "done"
    assert seen.types[0] == ("error" if name == "crash-first" else "turn")
    failing = name in ("crash", "crash-first", "fail")
    assert seen.last.payload["status"] == ("error" if failing else "completed")
    assert ("error" in seen.types) == failing
    assert [e.retry for e in seen.events] == ["1000", *[None] * (len(seen.events) - 1)]
    if not failing:
        assert seen.last.payload["num_turns"] == seen.types.count("turn")


@pytest.mark.parametrize("name", ["complete", "tools", "crash", "long"])
def test_a_scenario_is_the_same_every_time(client: Client, name: str) -> None:
    """Two runs of a scenario differ in the run's name only."""
    one, other = client.start(name), client.start(name)

    assert [(e.type, e.data) for e in one.events] == [(e.type, e.data) for e in other.events]
    assert one.run != other.run


def test_tools_close_their_spans_and_progress_completes(client: Client) -> None:
    """Each tool call gets its result, and progress goes up to 100."""
    seen = client.start("tools")

    opened = [e.payload["tool_use_id"] for e in seen.events if e.type == "tool_use"]
    closed = [e.payload["tool_use_id"] for e in seen.events if e.type == "tool_result"]
    progress = [e.payload["percentage"] for e in seen.events if e.type == "progress"]
    assert opened == closed == ["call-1", "call-2"]
    assert progress == sorted(progress)
    assert progress[-1] == 100


@pytest.mark.parametrize(
    "scenario",
    ["silence; seconds=0.21", "slow-start; seconds=0.21", "tools; seconds=0.21"],
)
def test_a_silence_has_heartbeats(client: Client, scenario: str) -> None:
    """A silence of 3.5 H has a comment line every H/2, before the first event and in tools too."""
    seen = client.start(scenario)

    assert seen.comments == [": hb"] * len(seen.comments)
    assert 3 <= len(seen.comments) <= 7
    assert b": hb\n\n" not in seen.raw


def test_a_silence_begins_behind_its_marker(client: Client) -> None:
    """The token right before the silence has the text that was asked for."""
    seen = client.start('silence; seconds=0; marker="wait for it"')

    assert seen.events[3].payload == {"text": "wait for it"}
    assert len(seen.events) == 8


def test_a_busy_stream_has_no_heartbeats(client: Client) -> None:
    """A stream that never falls silent needs no heartbeat."""
    assert client.start("complete").comments == []


@pytest.mark.parametrize(
    "message",
    [
        "a\nb\rc\r\nd\n\ne",
        "\u0085 \u2028 \u2029 \ufeff \u0000 \x0b \x0c",
        "data: x\n\nevent: done\ndata: {}\n\n",
        "Zürich ☕ 🍰 👩‍👩‍👧 é",
        "",
        'quote " backslash \\ tab \t',
    ],
)
def test_echo_returns_the_message(client: Client, message: str) -> None:
    """Any text comes back as sent, whatever it would mean to the framing."""
    seen = client.start("echo", message)

    assert seen.text == message
    assert set(seen.types) <= {"turn", "token", "done"}


def test_separators_are_escaped(client: Client) -> None:
    """U+0085, U+2028 and U+2029 are never on the wire as they are."""
    raw = client.start("echo", "\u0085\u2028\u2029").raw

    assert not any(separator.encode() in raw for separator in "\u0085\u2028\u2029")
    assert b"\\u2028" in raw


def test_long_has_a_large_token(client: Client) -> None:
    """`long` has as many small tokens as asked for, and one of 48 KiB."""
    seen = client.start("long; events=20")

    sizes = [len(e.payload["text"]) for e in seen.events if e.type == "token"]
    assert len(sizes) == 21
    assert max(sizes) == 48 * 1024


@pytest.mark.parametrize("kind", ["exception", "tool", "cancelled", "system-exit"])
def test_a_crash_ends_in_error_and_done(client: Client, kind: str) -> None:
    """Whatever an agent raises, what it said before arrives, and nothing of its text."""
    seen = client.start(f'crash; kind={kind}; marker="last \\"word\\""; secret=srv/app')

    token, error, done = seen.events[-3:]
    assert token.payload == {"text": 'last "word"'}
    assert error.type == "error"
    assert error.payload["retryable"] is False
    assert done.payload == {"status": "error"}
    assert b"srv/app" not in seen.raw
    assert b"raised" not in seen.raw


def test_a_crash_before_the_first_event_says_so(client: Client) -> None:
    """A run that produced nothing consists of error and done."""
    assert client.start("crash-first; secret=srv/app").types == ["error", "done"]


def test_others_survive_a_crash(client: Client) -> None:
    """A run that is going on while another crashes completes."""
    run = client.begin("silence; seconds=0.1")
    client.start("crash; kind=system-exit")

    assert client.read(run).last.payload["status"] == "completed"


def test_a_blocking_tool_stalls_nobody(client: Client) -> None:
    """While one run blocks a worker thread, another one is served."""
    run = client.begin("block; seconds=0.3")

    client.start("complete")
    assert client.read(run, until=lambda body: bool(body.comments)).types[-1] == "tool_use"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("", {"error_type": "upstream_unavailable", "retryable": True, "retry_after_ms": 1000}),
        ("; retryable=false", {"error_type": "request_refused", "retryable": False}),
        ("; retry_after_ms=7", {"retryable": True, "retry_after_ms": 7}),
    ],
)
def test_a_reported_failure_says_its_class(
    client: Client, options: str, error: dict[str, object]
) -> None:
    """A failure that the agent reports has a class, and ends like any other."""
    seen = client.start(f"fail{options}")

    assert seen.types[-2:] == ["error", "done"]
    assert error.items() <= seen.events[-2].payload.items()
    assert ("retry_after_ms" in seen.events[-2].payload) == ("retry_after_ms" in error)


def test_pauses_are_kept(client: Client) -> None:
    """`pauses` sends as many tokens as asked for."""
    assert client.start("pauses; seconds=0.01; count=3").types.count("token") == 3


def test_a_deadline_ends_a_run(serve: Serve) -> None:
    """A run that takes too long ends in a retryable error."""
    seen = serve(deadline=0.1).start("silence; seconds=30")

    assert seen.events[-2].payload["error_type"] == "deadline"
    assert seen.events[-2].payload["retryable"] is True
    assert seen.last.payload == {"status": "error"}


def test_a_schema_is_closed_and_without_null() -> None:
    """Every schema refuses undeclared fields and null, and knows what is required."""
    schemas = native_schema()

    assert len(schemas) == 10
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
        assert "null" not in json.dumps(schema)
    assert schemas["tool_use"]["required"] == ["status", "tool_name", "tool_use_id"]
    assert schemas["error"]["required"] == ["error_type", "message", "retryable"]
    assert schemas["done"]["required"] == ["status"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"status": "completed"}, schemas["done"])


def test_the_schema_is_checked_in() -> None:
    """docs/protocol.schema.json is what the models generate."""
    path = Path(__file__).parents[2] / "docs" / "protocol.schema.json"

    assert json.loads(path.read_text()) == native_schema()


def test_a_run_goes_on_in_order_for_a_slow_reader(client: Client) -> None:
    """A reader that joins late gets everything, in order."""
    run = client.begin("long; events=1000")

    seqs = [int(e.id.rpartition("/")[2]) for e in client.read(run).events]
    assert all(later == earlier + 1 for earlier, later in pairwise(seqs))
    assert len(seqs) == 1003
