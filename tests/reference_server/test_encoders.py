"""How the other dialects say the same runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reference_server.encoders import ENCODERS
from reference_server.parts import Parts

if TYPE_CHECKING:
    from tests.reference_server.conftest import Client, Serve


@pytest.fixture(scope="module")
def typed(serve: Serve) -> Client:
    """Return the client of a server that speaks generic-typed."""
    return serve(Parts(encoder=ENCODERS["generic-typed"]))


@pytest.fixture(scope="module")
def plain(serve: Serve) -> Client:
    """Return the client of a server that speaks generic-data."""
    return serve(Parts(encoder=ENCODERS["generic-data"]))


@pytest.fixture(scope="module")
def older(serve: Serve) -> Client:
    """Return the client of a server that speaks agent-event-stream."""
    return serve(Parts(encoder=ENCODERS["agent-event-stream"]))


def test_agent_event_stream_has_the_nine_events_and_no_more(older: Client) -> None:
    """Its blocks are `event`, then one `data`, LF, without id, heartbeat or our own fields."""
    seen = older.start("fail")
    silent = older.start("silence; seconds=0.1")

    assert seen.raw.startswith(b"event: turn\ndata: {")
    assert not any(event.id for event in seen.events)
    assert silent.comments == []
    assert set(seen.events[-2].payload) == {"error_type", "message"}
    assert seen.last.data == "{}"
    assert "agentstream-run" not in seen.headers


def test_agent_event_stream_cannot_wait_for_a_person(older: Client) -> None:
    """A run that would wait says so as an error and ends."""
    assert older.start("interrupt").types[-2:] == ["error", "done"]


def test_generic_typed_ends_in_complete(typed: Client) -> None:
    """Chunks, job data, error, then always complete; an id on every event."""
    seen, failed = typed.start("tools"), typed.start("fail")

    assert set(seen.types) == {"chunk", "jobs_data", "complete"}
    assert seen.last.type == "complete"
    assert all(event.id for event in seen.events)
    assert failed.types[-2:] == ["error", "complete"]
    assert failed.events[-2].payload == {"content": "The model did not answer.", "retry": True}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_generic_typed_resumes_by_query(typed: Client, method: str) -> None:
    """`?lastEventId=` continues the run that it names."""
    first = typed.start()
    body = {"message": "x"} if method == "POST" else None

    again = typed.ask(method, "/chat", params={"lastEventId": first.events[2].id}, json=body)
    assert [e.identity for e in again.events] == [e.identity for e in first.events[3:]]
    assert typed.ask("GET", "/chat").status == 422


def test_generic_typed_has_comment_heartbeats(typed: Client) -> None:
    """A silence has comment lines."""
    assert typed.start("silence; seconds=0.1").comments


def test_generic_data_ends_in_its_sentinel(plain: Client) -> None:
    """Data only, always `[DONE]` at the end."""
    seen, failed = plain.start("complete"), plain.start("fail")

    assert set(seen.types) == {"message"}
    assert seen.last.data == "[DONE]"
    content = [json.loads(event.data)["content"] for event in seen.events[:-1]]
    assert "".join(content).startswith("A café")
    assert failed.events[-2].payload == {"error": "The model did not answer."}
    assert failed.last.data == "[DONE]"
    assert b"id:" not in seen.raw


def test_generic_data_says_heartbeat_and_interrupt(plain: Client) -> None:
    """Silences have heartbeat data; a run that would wait says interrupt and ends."""
    silent, asked = plain.start("silence; seconds=0.1"), plain.start("interrupt")

    assert '{"heartbeat":true}' in [event.data for event in silent.events]
    assert [event.data for event in asked.events[-2:]] == ['{"interrupt":true}', "[DONE]"]


def test_a_dialect_without_cursors_cancels_with_its_reader(older: Client) -> None:
    """What cannot be resumed is not worked on once nobody reads; refusals have `message`."""
    older.start("silence; seconds=30", until=lambda body: bool(body.events))

    refused = older.ask("POST", "/chat", content=b"x")
    assert refused.status == 400
    assert refused.problem["message"]
