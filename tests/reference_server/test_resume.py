"""Cursors, resume, idempotency, cancel, input, disconnects: what survives a connection."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from reference_server.log import MemoryLog
from reference_server.parts import Parts
from reference_server.settings import Settings
from tests.reference_server.conftest import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.reference_server.conftest import Body, Client, Serve

FOREIGN = "A" * 32


def _events(count: int) -> Callable[[Body], bool]:
    return lambda body: len(body.events) >= count


def _comment(body: Body) -> bool:
    return bool(body.comments)


@pytest.mark.parametrize("scenario", ["tools", "crash"])
def test_a_finished_run_is_read_back_from_every_cursor(client: Client, scenario: str) -> None:
    """From cursor n come exactly the events behind n, as they were; behind the last comes 204."""
    first = client.start(scenario)
    sent = [event.identity for event in first.events]

    for n in range(len(sent)):
        again = client.read(first.run, f"{first.run}/{n}")
        assert [event.identity for event in again.events] == sent[n:]
        assert [e.retry for e in again.events] == ["1000", *[None] * (len(sent) - n - 1)]

    stop = client.read(first.run, first.last.id)
    assert stop.status == 204
    assert stop.raw == b""


@pytest.mark.parametrize("cursor", [None, ""])
def test_an_absent_cursor_is_the_start(client: Client, cursor: str | None) -> None:
    """Without a cursor, or with an empty one, a run is read from its start."""
    first = client.start()

    assert client.read(first.run, cursor).types == first.types


def test_a_live_run_is_resumed_without_gap_or_repeat(client: Client) -> None:
    """A stream that is cut goes on behind its cursor, live, up to the end."""
    cut = client.start("silence; seconds=0.1", until=_events(3))

    rest = client.read(cut.run, cut.last.id)

    whole = client.read(cut.run)
    assert [e.identity for e in [*cut.events, *rest.events]] == [e.identity for e in whole.events]
    assert rest.last.type == "done"


def test_a_live_run_whose_cursor_is_up_to_date_streams(client: Client) -> None:
    """An unfinished run answers 200, not 204, when nothing is new yet."""
    cut = client.start("silence; seconds=30", until=_comment)

    assert client.read(cut.run, cut.last.id, until=_comment).status == 200


def test_two_readers_each_get_everything(client: Client) -> None:
    """A reader of a live run takes nothing from another."""
    run = client.begin("silence; seconds=0.1")

    early = client.read(run, until=_events(2))
    one, other = client.read(run), client.read(run)
    assert [e.identity for e in one.events] == [e.identity for e in other.events]
    assert [e.identity for e in early.events] == [e.identity for e in one.events[:2]]


def test_the_query_is_a_cursor_and_the_header_wins(client: Client) -> None:
    """`last_event_id` means the same as the header; with both, the header counts."""
    first = client.start()
    early, late = f"{first.run}/2", f"{first.run}/5"

    by_query = client.read(first.run, query=f"?last_event_id={early}")
    by_both = client.read(first.run, late, query=f"?last_event_id={early}")
    assert by_query.events[0].id == f"{first.run}/3"
    assert by_both.events[0].id == f"{first.run}/6"


@pytest.mark.parametrize(
    "cursor",
    ["7", "/7", "x", "{run}", "{run}/", "{run}/-1", "{run}/01", "{run}/1 x", "{run}/1/2", "{run}/x",
     "{run}/1.0", "{run}/+1", "{run}/12345678901234567", "{run}/1é", "short/1", "0"],
)  # fmt: skip
def test_a_malformed_cursor_is_400(client: Client, cursor: str) -> None:
    """What is no cursor is refused, in the header even beside a valid query."""
    run = client.start().run
    text = cursor.replace("{run}", run)

    refused = client.ask(
        "GET",
        f"/v1/runs/{run}/events?last_event_id={run}/1",
        headers={"Last-Event-ID": text.encode()},  # type: ignore[dict-item]
    )
    assert refused.status == 400
    assert refused.problem["message"] == refused.problem["detail"]
    assert not refused.events
    assert client.ask("GET", f"/v1/runs/{run}/events", params={"last_event_id": text}).status == 400


def test_a_cursor_of_another_run_is_400_before_any_look_up(client: Client) -> None:
    """A foreign cursor is refused whether or not either run exists."""
    one, other = client.start().run, client.start().run

    assert client.read(one, f"{other}/1").status == 400
    assert client.read(FOREIGN, f"{one}/1").status == 400


def test_a_cursor_ahead_of_the_run_is_409(client: Client) -> None:
    """A cursor that the run has not reached is refused, live or finished."""
    first = client.start()
    live = client.begin("silence; seconds=30")

    assert client.read(first.run, f"{first.run}/1000").status == 409
    assert client.read(live, f"{live}/1000").status == 409


@pytest.mark.parametrize("run", [FOREIGN, "x", "../../etc", "%0d%0aX-Evil:1"])
def test_an_unknown_run_is_404(client: Client, run: str) -> None:
    """A run nobody knows is 404, with every method."""
    assert client.read(run).status == 404
    assert client.ask("DELETE", f"/v1/runs/{run}").status == 404


def test_an_expired_run_is_410_then_404(serve: Serve) -> None:
    """After its retention a run is gone, told apart from unknown until it is forgotten."""
    client = serve(retention=0.1)
    first = client.start(headers={"Idempotency-Key": "once"})
    statuses = []
    until = time.monotonic() + 5
    while time.monotonic() < until and 404 not in statuses:
        with suppress(httpx.RemoteProtocolError):  # it expired while it was read: the body is cut
            statuses.append(client.read(first.run, f"{first.run}/1").status)
        if statuses[-1:] == [410]:
            joined = client.start(headers={"Idempotency-Key": "once"}).status

    assert list(dict.fromkeys(statuses)) in ([200, 410, 404], [410, 404])
    assert joined in (410, 200)


def test_what_was_trimmed_is_410(serve: Serve) -> None:
    """A log that keeps the newest bytes of a run refuses cursors behind which events are gone."""
    client = serve(Parts(log=lambda settings: MemoryLog(run_bytes=10_000)))
    run = client.start("long; events=300", until=_events(300)).run
    last = next(n for n in range(1000) if client.read(run, f"{run}/{n}").status != 410)

    assert last > 200
    assert client.read(run).status == 410
    assert client.read(run, f"{run}/{last}").events[0].id == f"{run}/{last + 1}"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_repeating_the_start_with_a_cursor_resumes(client: Client, method: str) -> None:
    """The start request with Last-Event-ID continues that run, and starts none."""
    first = client.start()
    cursor = {"Last-Event-ID": f"{first.run}/4"}
    query = {"message": "hello", "key": "k"}

    if method == "POST":
        again = client.start(headers=cursor)
    else:
        again = client.ask("GET", "/v1/stream", cursor, params=query)
    assert again.run == first.run
    assert [e.identity for e in again.events] == [e.identity for e in first.events[4:]]
    assert client.start(headers={"Last-Event-ID": first.last.id}).status == 204
    assert client.start(headers={"Last-Event-ID": f"{FOREIGN}/1"}).status == 404
    assert client.start(headers={"Last-Event-ID": "nonsense"}).status == 400


def test_the_same_key_is_the_same_run(client: Client) -> None:
    """A start that is sent twice starts once; another key starts another run."""
    one = client.start(headers={"Idempotency-Key": "a"})
    again = client.start(headers={"Idempotency-Key": "a"})
    other = client.start(headers={"Idempotency-Key": "b"})

    assert [e.identity for e in again.events] == [e.identity for e in one.events]
    assert other.run != one.run
    assert client.start(headers={"Idempotency-Key": "a" * 257}).status == 400


def test_an_event_source_starts_with_a_key(client: Client) -> None:
    """GET starts a run once for each key; without key or message it is refused."""
    query = {"message": "hi", "key": "browser"}
    one = client.ask("GET", "/v1/stream", {"X-Agentstream-Scenario": "echo"}, params=query)
    again = client.ask("GET", "/v1/stream", params=query)

    assert one.text == "hi"
    assert again.run == one.run
    assert client.ask("GET", "/v1/stream", params={"message": "hi"}).status == 422
    assert client.ask("GET", "/v1/stream", params={"key": "k"}).status == 422
    assert client.ask("HEAD", "/v1/stream", params=query).status == 405


def test_respond_async_starts_without_a_stream(client: Client) -> None:
    """`Prefer: respond-async` gets 201 with the run's name and path, and the run runs."""
    answer = client.http.post(
        "/v1/runs", json={"message": "hello"}, headers={"Prefer": "respond-async"}
    )

    assert answer.status_code == 201
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["events"] == answer.headers["location"] + "/events"
    assert client.ask("GET", answer.json()["events"]).last.payload["status"] == "completed"


def test_cancel_ends_a_run_once(client: Client) -> None:
    """DELETE is 204, again 204; the run ends as cancelled and stays readable."""
    run = client.begin("silence; seconds=30")
    client.read(run, until=_events(2))

    assert [client.ask("DELETE", f"/v1/runs/{run}").status for _ in range(3)] == [204] * 3
    seen = client.read(run)
    assert seen.last.payload == {"status": "cancelled"}
    assert seen.types.count("done") == 1
    assert "error" not in seen.types


def test_cancel_leaves_a_finished_run_alone(client: Client) -> None:
    """The first terminal wins."""
    first = client.start()

    assert client.ask("DELETE", f"/v1/runs/{first.run}").status == 204
    assert client.read(first.run).last.identity == first.last.identity


def _asked(client: Client) -> tuple[str, Any]:
    run = client.begin("interrupt")
    seen = client.read(run, until=lambda body: body.events[-1:] != [] and _is_question(body))
    return run, seen


def _is_question(body: Body) -> bool:
    return body.events[-1].type == "input_required"


def _give(client: Client, run: str, request_id: str, text: str = "yes") -> int:
    answer = {"request_id": request_id, "input": text}
    return client.ask("POST", f"/v1/runs/{run}/input", json=answer).status


def test_input_continues_a_run(client: Client) -> None:
    """A run that asks goes on with the answer in the same numbering; a second answer is 409."""
    run, seen = _asked(client)

    assert _give(client, run, "input-2") == 409
    assert _give(client, run, "input-1", "by all means") == 204
    assert _give(client, run, "input-1") == 409
    rest = client.read(run, seen.last.id)
    assert rest.text == "The answer was: by all means"
    assert rest.events[0].id == f"{run}/{len(seen.events) + 1}"
    assert rest.last.payload["status"] == "completed"
    assert _give(client, run, "input-1") == 409
    assert _give(client, FOREIGN, "input-1") == 404
    assert client.ask("POST", f"/v1/runs/{run}/input", json={}).status == 422


def test_a_waiting_run_has_heartbeats(client: Client) -> None:
    """While a person thinks, the stream does not look dead."""
    run, seen = _asked(client)

    assert client.read(run, seen.last.id, until=_comment).comments == [": hb"]
    _give(client, run, "input-1")


def test_nobody_answers(serve: Serve) -> None:
    """A run that gets no answer ends as interrupted; its deadline stood still meanwhile."""
    seen = serve(input_timeout=0.2, deadline=0.1).start("interrupt")

    assert seen.types[-2:] == ["input_required", "done"]
    assert seen.last.payload == {"status": "interrupted"}


def test_a_run_goes_on_without_readers(client: Client) -> None:
    """A run whose reader went away completes."""
    cut = client.start("silence; seconds=0.1", until=_events(2))

    assert client.read(cut.run).last.payload["status"] == "completed"


def test_a_run_may_end_with_its_readers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `on_disconnect: cancel` a run is cancelled after the grace, not before."""
    monkeypatch.setattr(Settings, "abandoned", property(lambda settings: 0.2))
    client = serve()
    run = client.start("silence; seconds=30", until=_events(4), on_disconnect="cancel").run
    back = client.read(run, until=_comment)
    assert "done" not in back.types

    until = time.monotonic() + PATIENCE
    while client.read(run, f"{run}/5").status == 409:  # refused, so it does not count as a reader
        assert time.monotonic() < until, "the run was not cancelled"
    assert client.read(run).last.payload == {"status": "cancelled"}


def test_the_grace_is_three_retries_and_a_second_at_least() -> None:
    """What a run is given that lost its last reader."""
    assert Settings(retry=0.1).abandoned == 1.0
    assert Settings(retry=2.0).abandoned == 6.0
