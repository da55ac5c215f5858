"""The reference client against raw sockets: start, follow, resume, and know when to stop."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.client import Client
from pytest_agentstream.dialects import load
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requesting import CannotResume, ForeignOrigin
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.setting_up import SetupFailed
from pytest_agentstream.target import Scenario, Target, Timeouts
from pytest_agentstream.templates import TemplateError
from pytest_agentstream.transport import HttpTransport
from pytest_agentstream.watching import after_events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pytest_agentstream.recording import Recording, Run
    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]

RUN = "run-0123456789-abcdefghij"
OTHER = {
    "post": '[resume]\nkind = "query"\nmethod = "POST"\nquery = "after"\n',
    "body": '[resume]\nkind = "body"\nmethod = "POST"\nquery = "options.after"\n',
    "location": '[resume]\nkind = "last-event-id"\npath = "{location}/stream"\n',
    "replay": '[resume]\nkind = "replay"\npath = "/chat/{uuid}/stream"\n',
}
HEAD = """
name = "other"
title = "Other"
verified_against = "nothing"
verified_on = "2026-11-21"
source = "these tests"
type_from = [{ sse_event = true }]
[start]
json = { id = "{uuid}", text = "{prompt}" }
[response]
status = [200, 202]
[cursor]
source = "sse-id"
[order]
terminal = [{ event = "done", outcome = "success" }]
[events.token]
[events.done]
role = "terminal"
"""


def token(number: int, *, text: str = "x") -> str:
    return f"id: {RUN}/{number}\nevent: token\ndata: {json.dumps({'text': text})}\n\n"


def done(number: int) -> str:
    return f'id: {RUN}/{number}\nevent: done\ndata: {{"status": "completed"}}\n\n'


def error(number: int, retryable: bool, after_ms: int | None = None) -> str:
    payload: dict[str, Any] = {"error_type": "x", "message": "x", "retryable": retryable}
    if after_ms is not None:
        payload["retry_after_ms"] = after_ms
    return f"id: {RUN}/{number}\nevent: error\ndata: {json.dumps(payload)}\n\n"


def events(*texts: str, cut: bool = False, **headers: str) -> Script:
    """Stream these, then end the body, or cut it."""

    async def script(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN, **headers)
        for text in texts:
            await peer.chunk(text)
        if not cut:
            await peer.end()

    return script


def answer(status: str, body: str = "", **headers: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.answer(status, body, **headers)

    return script


async def reset(peer: Peer) -> None:
    peer.reset()


def quickly() -> Backoff:
    return Backoff(Random(0), base=0.001, cap=0.001)


def play(
    raw_server: type[RawServer],
    *scripts: Script,
    call: Callable[[Client], Awaitable[Any]] | None = None,
    dialect: str | Path = "native",
    target: dict[str, Any] | None = None,
    path: str = "/v1/runs",
    env: dict[str, str] | None = None,
) -> tuple[Any, list[Peer]]:
    """Let a client do something (by default: a run) with a server that plays `scripts`."""

    async def main() -> tuple[Any, list[Peer]]:
        async with raw_server(scripts) as server:
            settings = Target(url=server.origin + path, **(target or {}))
            client = Client(settings, load(dialect), env=env or {})
            with anyio.fail_after(10):
                result = await (call or follow)(client)
            return result, server.peers

    return anyio.run(main)


async def follow(client: Client) -> Run:
    return await client.run(backoff=quickly())


def other(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "other.toml"
    path.write_text(HEAD + OTHER[name])
    return path


# Starting


def test_start_is_as_the_dialect_says(raw_server: type[RawServer]) -> None:
    """Without a mapping the dialect's start request is sent, with its prompt and own key."""
    run, (peer,) = play(raw_server, events(token(1), done(2)))
    assert (peer.method, peer.target) == ("POST", "/v1/runs")
    assert json.loads(peer.body) == {"message": "Hello"}
    assert peer.headers["accept"] == "text/event-stream"
    assert peer.headers["content-type"] == "application/json"
    assert peer.headers["idempotency-key"] == dict(run.captured)["uuid"]
    assert (run.scenario, run.control, run.synthetic) == ("complete", "default", "")
    assert run.first.end.kind is EndKind.COMPLETE


MAPPED = Scenario(
    json={"q": "{prompt}", "deep": [{"thread": "{thread}"}], "n": 1},
    prompt="Grüße",
    method="put",
    path="/threads/{thread}/runs?a=b",
    query={"c": "{thread}"},
    headers={"X-Mine": "{uuid}", "authorization": "Basic {env:OTHER}"},
)


def test_scenario_replaces_what_the_dialect_sends(raw_server: type[RawServer]) -> None:
    """A mapped scenario decides on method, path, query, body and headers, with templates in all."""

    async def call(client: Client) -> Run:
        run = await client.once("crash", MAPPED, "mapped", headers={"User-Agent": None})
        assert client.secrets == {"token", "other"}
        return run

    run, (setup, peer) = play(
        raw_server,
        answer("201 Created", '{"thread": {"id": "a/b"}}'),
        events(done(1)),
        call=call,
        target={
            "headers": {"Authorization": "Bearer {env:TOKEN}"},
            "setup": [{"request": "POST /threads", "capture": {"thread": "json:thread.id"}}],
        },
        env={"TOKEN": "token", "OTHER": "other"},
    )
    assert (setup.method, setup.target) == ("POST", "/threads")
    assert setup.headers["authorization"] == "Bearer token"
    assert (peer.method, peer.target) == ("PUT", "/threads/a%2Fb/runs?a=b&c=a%2Fb")
    assert json.loads(peer.body) == {"q": "Grüße", "deep": [{"thread": "a/b"}], "n": 1}
    assert peer.headers["authorization"] == "Basic other"
    assert peer.headers["x-mine"] == dict(run.captured)["uuid"]
    assert "user-agent" not in peer.headers
    assert (run.scenario, run.control) == ("crash", "mapped")


def test_body_as_text(raw_server: type[RawServer]) -> None:
    """A body given as text is sent as it is, braces and all."""
    scenario = Scenario(body='{"a": {"m": "{prompt}"}}', headers={"Content-Type": "text/x"})
    _, (peer,) = play(raw_server, events(done(1)), call=lambda client: client.once("x", scenario))
    assert peer.body == b'{"a": {"m": "Hello"}}'
    assert peer.headers["content-type"] == "text/x"


def test_each_run_has_its_own_uuid(raw_server: type[RawServer]) -> None:
    """`{uuid}` is the same throughout a run, and another in the next."""

    async def call(client: Client) -> list[Run]:
        scenario = Scenario(json=["{uuid}", "{uuid}"])
        return [await client.run("x", scenario) for _ in range(2)]

    _, peers = play(raw_server, events(done(1)), call=call)
    first, second = (json.loads(peer.body) for peer in peers)
    assert first[0] == first[1] != second[0] == second[1]


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (Scenario(path="http://example.com/x"), ForeignOrigin),
        (Scenario(path="//example.com/x"), ForeignOrigin),
        (Scenario(path="https://127.0.0.1/x"), ForeignOrigin),
        (Scenario(json="{nobody}"), TemplateError),
        (Scenario(headers={"X": "{env:NOBODY}"}), TemplateError),
    ],
)
def test_nothing_is_sent_elsewhere(
    raw_server: type[RawServer], scenario: Scenario, error: type[Exception]
) -> None:
    """Another origin, and a template that can't be filled, are errors before anything is sent."""

    async def call(client: Client) -> None:
        with pytest.raises(error):
            await client.run("x", scenario)

    _, peers = play(raw_server, events(done(1)), call=call)
    assert peers == []


def test_own_origin_written_out(raw_server: type[RawServer]) -> None:
    """An absolute URL of the target's own origin is a path like any other."""

    async def call(client: Client) -> Recording:
        return await client.request("GET", f"{client.target.origin}/x")

    _, (peer,) = play(raw_server, answer("200 OK"), call=call)
    assert peer.target == "/x"


# Setup


@pytest.mark.parametrize(
    ("script", "capture", "words"),
    [
        (answer("500 Oops", "x" * 1000), {}, ["expected 2xx", "500 Oops", "x" * 300]),
        (answer("200 OK", "[]"), {"t": "json:id"}, ["expected a text or number for t", "json:id"]),
        (answer("200 OK", "<html>"), {"t": "json:id"}, ["expected JSON", "<html>"]),
        (answer("200 OK"), {"t": "header:X-T"}, ["header:X-T"]),
        (answer("200 OK"), {"t": "xpath:/a"}, ["xpath:/a", "json:path.to.value"]),
        (reset, {}, ["reset"]),
    ],
    ids=["status", "path", "json", "header", "kind", "end"],
)
def test_failing_setup(
    raw_server: type[RawServer], script: Script, capture: dict[str, str], words: list[str]
) -> None:
    """A setup step that fails is one error with the step and the server's own words."""

    async def call(client: Client) -> str:
        with pytest.raises(SetupFailed) as caught:
            await client.run()
        assert caught.value.recording.request.url.endswith("/threads")
        return str(caught.value)

    message, peers = play(
        raw_server,
        script,
        call=call,
        target={"setup": [{"request": "POST /threads", "capture": capture}]},
    )
    assert len(peers) == 1
    for word in ["setup 'POST /threads'", *words]:
        assert word in message
    assert "x" * 301 not in message


def test_captures_feed_the_next_step(raw_server: type[RawServer]) -> None:
    """What a step captures, from a header or by an index, is known to the steps behind it."""
    _, peers = play(
        raw_server,
        answer("200 OK", x_tenant="t1"),
        answer("200 OK", '{"ids": [7, 8]}'),
        events(done(1)),
        target={
            "setup": [
                {"request": "GET /tenant", "capture": {"tenant": "header:X-Tenant"}},
                {
                    "request": "POST /{tenant}/threads",
                    "json": {"by": "{tenant}"},
                    "headers": {"X-By": "{tenant}"},
                    "capture": {"id": "json:ids[1]"},
                },
            ]
        },
        path="/threads/{id}/runs",
    )
    assert [peer.target for peer in peers] == ["/tenant", "/t1/threads", "/threads/8/runs"]
    assert (peers[1].body, peers[1].headers["x-by"]) == (b'{"by": "t1"}', "t1")


def test_callbacks_are_not_for_setup(raw_server: type[RawServer]) -> None:
    """What stops an exchange of the run never stops a setup step, whatever that answers."""
    run, _ = play(
        raw_server,
        answer("200 OK", done(1)),
        events(token(1), done(2)),
        call=lambda client: client.run(on_block=after_events(2)),
        target={"setup": [{"request": "POST /login"}]},
    )
    assert run.first.end.detail in {"2 events were seen", "the last chunk"}
    assert len(run.first.blocks) == 2


def test_cookies_last_for_a_run(raw_server: type[RawServer]) -> None:
    """Cookies set anywhere in a run are sent in all of it, its later requests too."""

    async def call(client: Client) -> None:
        run = await client.run(backoff=quickly())
        await client.resume(run, None)
        await client.request("DELETE", "/v1/runs/{run}", of=run)
        await client.request("GET", "/")

    _, peers = play(
        raw_server,
        answer("200 OK", set_cookie="a=1; Path=/"),
        events(token(1), cut=True, set_cookie="b=2; Path=/"),
        events(done(2)),
        call=call,
        target={"setup": [{"request": "POST /login"}]},
    )
    sent = [set(filter(None, peer.headers.get("cookie", "").split("; "))) for peer in peers]
    both = {"a=1", "b=2"}
    assert sent == [set(), {"a=1"}, both, both, both, set()]


# Following


@pytest.mark.parametrize("ending", ["cut", "clean", "reset"])
def test_a_broken_stream_is_joined_again(raw_server: type[RawServer], ending: str) -> None:
    """A run that breaks off is joined behind the last id seen, until its terminal."""

    async def broken(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(token(1))
        await peer.chunk(token(2))
        await peer.reader_has_all()
        if ending == "clean":
            await peer.end()
        elif ending == "reset":
            peer.reset()

    run, peers = play(raw_server, broken, events(token(3), done(4)))
    assert [(peer.method, peer.target) for peer in peers] == [
        ("POST", "/v1/runs"),
        ("GET", f"/v1/runs/{RUN}/events"),
    ]
    assert peers[1].headers["last-event-id"] == f"{RUN}/2"
    assert "idempotency-key" not in peers[1].headers
    assert "content-type" not in peers[1].headers
    assert peers[1].body == b""
    assert (len(run.exchanges), run.synthetic) == (2, "")


def test_what_is_sent_again_stays(raw_server: type[RawServer]) -> None:
    """Events that a server replays are recorded again; the client drops nothing."""
    run, _ = play(raw_server, events(token(1), cut=True), events(token(1), done(2)))
    assert [block.id for block in run.last.blocks] == [f"{RUN}/1", f"{RUN}/2"]


def test_credentials_go_with_a_resume(raw_server: type[RawServer]) -> None:
    """A resume carries the headers of the start, except the one that asks for a scenario."""
    scenario = Scenario(headers={"X-Agentstream-Scenario": "crash", "X-Tenant": "a"})
    _, peers = play(
        raw_server,
        events(token(1), cut=True),
        events(done(2)),
        call=lambda client: client.run("crash", scenario, backoff=quickly()),
        target={"headers": {"Authorization": "Bearer a"}},
    )
    assert peers[0].headers["x-agentstream-scenario"] == "crash"
    assert "x-agentstream-scenario" not in peers[1].headers
    assert (peers[1].headers["authorization"], peers[1].headers["x-tenant"]) == ("Bearer a", "a")


def test_many_cuts(raw_server: type[RawServer]) -> None:
    """Twenty cuts that each bring something are no reason to give up."""
    scripts = [events(token(number), cut=True) for number in range(1, 21)]
    run, _ = play(raw_server, *scripts, events(done(21)))
    assert (len(run.exchanges), run.synthetic) == (21, "")


def test_attempts_in_vain_end(raw_server: type[RawServer]) -> None:
    """A server that never brings anything new is given up, and the end is marked as made up."""

    async def call(client: Client) -> Run:
        return await client.run(backoff=Backoff(Random(0), base=0.001, attempts=3))

    run, peers = play(raw_server, events(token(1), cut=True), events(cut=True), call=call)
    assert len(peers) == 4
    assert run.synthetic.startswith("cut: ")
    assert "3 attempts in a row" in run.synthetic


def test_an_empty_id_clears_the_cursor(raw_server: type[RawServer]) -> None:
    """As in a browser, an empty id clears the cursor, and one without data counts."""
    first = token(1) + "id:\ndata: {}\n\n"
    second = token(2) + f"id: {RUN}/7\n\n"
    _, peers = play(raw_server, events(first, cut=True), events(second, cut=True), events(done(8)))
    assert [peer.headers.get("last-event-id") for peer in peers] == [None, None, f"{RUN}/7"]


def test_before_the_first_id(raw_server: type[RawServer]) -> None:
    """Cut before any id, a run that the head names is read from its start."""
    _, peers = play(raw_server, events(cut=True), events(token(1), done(2)))
    assert (peers[1].method, peers[1].target) == ("GET", f"/v1/runs/{RUN}/events")
    assert "last-event-id" not in peers[1].headers


def test_before_the_head(raw_server: type[RawServer]) -> None:
    """Cut before the head, a start with an idempotency key is safe to repeat with the same key."""
    run, peers = play(raw_server, reset, events(token(1), done(2)))
    assert [peer.method for peer in peers] == ["POST", "POST"]
    assert peers[0].headers["idempotency-key"] == peers[1].headers["idempotency-key"]
    assert peers[0].body == peers[1].body
    assert run.synthetic == ""


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        *((status, {}) for status in (400, 401, 403, 404, 405, 409, 410, 422)),
        (200, {"content_type": "text/html"}),
        (204, {}),
    ],
)
def test_final_answers_to_a_resume(
    raw_server: type[RawServer], status: int, headers: dict[str, str]
) -> None:
    """A refusal, an answer that is no stream, and 204 end the run, whose end says why."""
    script = answer(f"{status} Said", **headers)
    run, peers = play(raw_server, events(token(1), cut=True), script)
    assert len(peers) == 2
    assert str(status) in run.synthetic or "text/html" in run.synthetic


@pytest.mark.parametrize("status", ["429 Too Many", "503 Busy", "502 Bad"])
def test_passing_answers_to_a_resume(raw_server: type[RawServer], status: str) -> None:
    """A passing refusal of a resume is tried again with the same cursor."""
    run, peers = play(
        raw_server,
        events(token(1), cut=True),
        answer(status, 'id: poison\ndata: {"a": 1}\n\n', retry_after="0"),
        events(done(2)),
    )
    assert [peer.headers.get("last-event-id") for peer in peers[1:]] == [f"{RUN}/1"] * 2
    assert run.synthetic == ""


@pytest.mark.parametrize("status", ["429 Too Many", "503 Busy", "401 Unauthorized", "500 Oops"])
def test_a_refused_start_is_reported_plainly(raw_server: type[RawServer], status: str) -> None:
    """A refused start is never sent again by the client, whatever the status."""
    run, peers = play(raw_server, answer(status, retry_after="0"))
    assert len(peers) == 1
    assert run.synthetic == status
    recording, _ = play(raw_server, answer(status), call=lambda client: client.start())
    assert recording.status == int(status[:3])


def test_nobody_listens(raw_server: type[RawServer]) -> None:
    """A server that isn't there is reported at once."""

    async def main() -> Run:
        async with raw_server((reset,)) as server:
            url = server.origin
        return await Client(Target(url=url), load("native")).run()

    run = anyio.run(main)
    assert run.first.end.kind is EndKind.REFUSED
    assert len(run.exchanges) == 1
    assert run.synthetic.startswith("refused: ")


@pytest.mark.parametrize(
    ("retryable", "exchanges"), [(True, 2), (False, 1)], ids=["retryable", "final"]
)
def test_errors_in_the_stream(raw_server: type[RawServer], retryable: bool, exchanges: int) -> None:
    """An in-stream error without a terminal decides whether the run is joined again."""
    run, peers = play(raw_server, events(error(1, retryable)), events(done(2)))
    assert len(peers) == len(run.exchanges) == exchanges
    assert ("can't help" in run.synthetic) == (not retryable)


class Waits(Backoff):
    """A backoff that keeps the floors that it was asked for, and waits for nothing."""

    def __init__(self) -> None:
        super().__init__(Random(0))
        self.floors: list[float | None] = []

    def next(self, floor: float | None = None) -> float:
        self.floors.append(floor)
        super().next(floor)
        return 0.0


@pytest.mark.parametrize(
    ("scripts", "floors"),
    [
        ([events(token(1), cut=True)], [None]),
        ([events("retry: 50\n" + token(1), cut=True)], [0.05]),
        ([events("retry: 50\n" + token(1), "retry: 70\n\n", cut=True)], [0.07]),
        ([events(error(1, True, 250))], [0.25]),
        ([events(token(1), cut=True), answer("503 Busy", retry_after="2")], [None, 2.0]),
        (
            [events("retry: 9000\n" + token(1), cut=True), answer("429 x", retry_after="2")],
            [9.0, 9.0],
        ),
        (
            [
                events(token(1), cut=True),
                answer("503 x", retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
            ],
            [None, 0.0],
        ),
        ([events(token(1), cut=True), answer("503 x", retry_after="soon")], [None, None]),
    ],
    ids=["nothing", "retry", "newest", "in-stream", "Retry-After", "longest", "date", "malformed"],
)
def test_servers_say_how_long_to_wait(
    raw_server: type[RawServer], scripts: list[Script], floors: list[float | None]
) -> None:
    """`retry`, Retry-After and an in-stream hint are waited for, the longest of them."""
    waits = Waits()
    play(
        raw_server,
        *scripts,
        events(done(2)),
        call=lambda client: client.run(backoff=waits),
    )
    assert waits.floors == floors


def test_a_wait_beyond_patience(raw_server: type[RawServer]) -> None:
    """A server that asks for a longer wait than the client has is given up, in words."""
    run, peers = play(
        raw_server,
        events(token(1), cut=True),
        answer("503 Busy", retry_after="3600"),
        call=lambda client: client.run(backoff=quickly(), patience=60),
    )
    assert len(peers) == 2
    assert run.synthetic == (
        "503 Busy; given up: the server asks for a wait of 3600 s, longer than 60 s"
    )
    assert run.unwaited == "the server asks for a wait of 3600 s, longer than 60 s"


def test_without_resume_a_cut_ends_the_run(raw_server: type[RawServer]) -> None:
    """In a dialect that can't resume a run is never posted again; its end is made up."""
    run, peers = play(raw_server, events(token(1), cut=True), dialect="agent-event-stream")
    assert len(peers) == 1
    assert run.synthetic.startswith("cut: ")
    assert "agent-event-stream has no way to resume" in run.synthetic


def test_once(raw_server: type[RawServer]) -> None:
    """A probe can have a single exchange, whose end is not hidden."""
    run, peers = play(
        raw_server, events(token(1), cut=True), call=lambda client: client.once("crash")
    )
    assert len(peers) == 1
    assert run.synthetic.startswith("cut: ")
    assert run.first.end.kind is EndKind.CUT


# Terminals


def test_read_on_behind_the_terminal(raw_server: type[RawServer]) -> None:
    """Behind the terminal the client reads on, then stops a stream that stays open."""

    async def left_open(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(done(1))
        await peer.chunk(token(2))
        await peer.left()

    run, _ = play(raw_server, left_open, call=lambda client: client.run(watch=0.1))
    assert run.synthetic == ""
    assert run.first.end.kind is EndKind.STOPPED
    assert run.first.end.detail == "read on for 0.1 s behind the terminal"
    assert len(run.first.blocks) == 2


def test_a_callback_stops_a_run(raw_server: type[RawServer]) -> None:
    """A run that the caller stops is over, and says so."""
    run, peers = play(
        raw_server,
        events(token(1), token(2), cut=True),
        call=lambda client: client.run(on_block=after_events(1)),
    )
    assert len(peers) == 1
    assert run.synthetic == "stopped: 1 events were seen"


def test_cancellation_keeps_finished_and_open_exchanges(raw_server: type[RawServer]) -> None:
    """A cancelled run leaves what it recorded in `kept`, the exchange it was in as well."""

    async def waits(peer: Peer) -> None:
        await peer.stream(agentstream_run=RUN)
        await peer.chunk(token(2))
        await peer.left()

    async def call(client: Client) -> list[Recording]:
        kept: list[Recording] = []
        with anyio.CancelScope() as scope:
            await client.run(
                backoff=quickly(),
                kept=kept,
                on_block=lambda block: scope.cancel() if b"/2" in block.raw else None,
            )
        return kept

    kept, _ = play(raw_server, events(token(1), cut=True), waits, call=call)
    assert [each.end.kind for each in kept] == [EndKind.CUT, EndKind.STOPPED]
    assert [len(each.blocks) for each in kept] == [1, 1]


# Resuming at will


def test_resume_at_any_cursor(raw_server: type[RawServer]) -> None:
    """Any text can be sent as cursor, in header and query, or none."""

    async def call(client: Client) -> None:
        run = await client.run()
        for cursor in ("junk", "", "Grüße", None):
            await client.resume(run, cursor)
        await client.resume(run, "a", query={"last_event_id": "b&c"})
        await client.resume(run, None, headers={"Authorization": None})
        await client.resume(run, "a", same_request=True)

    target = {"headers": {"Authorization": "x"}}
    _, peers = play(raw_server, events(token(1), done(2)), call=call, target=target)
    events_of = f"/v1/runs/{RUN}/events"
    cursors = [peer.headers.get("last-event-id") for peer in peers[1:]]
    assert cursors == ["junk", "", "Grüße".encode().decode("latin-1"), None, "a", None, "a"]
    assert peers[5].target == f"{events_of}?last_event_id=b%26c"
    assert ["authorization" in peer.headers for peer in peers[5:7]] == [True, False]
    assert (peers[7].method, peers[7].target) == ("POST", "/v1/runs")
    assert peers[7].body == peers[0].body


def test_white_space_around_a_cursor(raw_server: type[RawServer]) -> None:
    """As in a browser, an id with white space around it is sent back without."""
    first = events("id:  a b \nevent: token\ndata: {}\n\n", cut=True)
    _, peers = play(raw_server, first, events(done(2)))
    assert peers[1].headers["last-event-id"] == "a b"


def test_resume_where_there_is_no_way(raw_server: type[RawServer]) -> None:
    """To resume in a dialect that can't is an error that says so."""

    async def call(client: Client) -> None:
        run = await client.run()
        with pytest.raises(CannotResume, match="agent-event-stream has no way"):
            await client.resume(run, "1")

    play(raw_server, events(done(1)), call=call, dialect="agent-event-stream")


def joined(raw_server: type[RawServer], dialect: Path, first: Script) -> tuple[Run, Peer, Peer]:
    run, peers = play(raw_server, first, events(done(9)), dialect=dialect, path="/chat?a=b")
    start, resumed = peers
    return run, start, resumed


def test_cursor_in_the_query(raw_server: type[RawServer], tmp_path: Path) -> None:
    """Where the dialect has its cursor in the query, and no path, the start URL has it added."""
    _, _, peer = joined(raw_server, other(tmp_path, "post"), events(token(1), cut=True))
    assert (peer.method, peer.target) == (
        "POST",
        f"/chat?a=b&after={RUN}%2F1".replace("/1", "%2F1"),
    )
    assert json.loads(peer.body)["text"] == "Hello"
    assert "last-event-id" not in peer.headers


def test_the_start_is_not_repeated_without_a_cursor(
    raw_server: type[RawServer], tmp_path: Path
) -> None:
    """A start that would start a second run is not repeated."""
    run, peers = play(raw_server, events(cut=True), dialect=other(tmp_path, "post"))
    assert len(peers) == 1
    assert "start another run" in run.synthetic


def test_cursor_in_the_body(raw_server: type[RawServer], tmp_path: Path) -> None:
    """Where the dialect has its cursor in the body, it is put at its path."""
    _, start, peer = joined(raw_server, other(tmp_path, "body"), events(token(1), cut=True))
    body = json.loads(start.body)
    assert json.loads(peer.body) == {**body, "options": {"after": f"{RUN}/1"}}


def test_location_of_a_run(raw_server: type[RawServer], tmp_path: Path) -> None:
    """A start that answers 202 streams at its Location, which may be written out."""

    async def accepted(peer: Peer) -> None:
        await peer.answer("202 Accepted", "{}", location=f"http://{peer.headers['host']}/r/1")

    run, _, peer = joined(raw_server, other(tmp_path, "location"), accepted)
    assert (peer.method, peer.target) == ("GET", "/r/1/stream")
    assert (len(run.exchanges), run.synthetic) == (2, "")


def test_location_elsewhere(raw_server: type[RawServer], tmp_path: Path) -> None:
    """A Location on another origin is not followed, neither by a run nor by a resume."""

    async def call(client: Client) -> Run:
        run = await client.run()
        with pytest.raises(ForeignOrigin):
            await client.resume(run, None)
        return run

    run, peers = play(
        raw_server,
        answer("202 Accepted", location="http://example.com/r/1"),
        call=call,
        dialect=other(tmp_path, "location"),
    )
    assert len(peers) == 1
    assert "http://example.com/r/1/stream is not on the origin" in run.synthetic


def test_a_cursor_that_no_header_can_carry(raw_server: type[RawServer]) -> None:
    """An id that can't be sent back ends the run, and is no error of ours."""
    broken = events("id: a\x0bb\nevent: token\ndata: {}\n\n", cut=True)
    run, peers = play(raw_server, broken)
    assert [peer.method for peer in peers] == ["POST", ""]
    assert run.synthetic.startswith("cut: ")
    assert "can't be sent as HTTP" in run.synthetic


def test_replay_by_an_id_of_our_own(raw_server: type[RawServer], tmp_path: Path) -> None:
    """A dialect without cursors can read a run again by the `{uuid}` that its start had."""
    _, start, peer = joined(raw_server, other(tmp_path, "replay"), events(token(1), cut=True))
    assert peer.target == f"/chat/{json.loads(start.body)['id']}/stream"
    assert "last-event-id" not in peer.headers


# Redirects


@pytest.mark.parametrize(
    ("status", "location", "exchanges"),
    [
        ("307 x", "/v1/runs/", 2),
        ("308 x", "/v1/runs/", 2),
        ("302 x", "/v1/runs/", 1),
        ("303 x", "/v1/runs/", 1),
        ("307 x", "http://example.com/", 1),
    ],
)
def test_redirects_of_a_start(
    raw_server: type[RawServer], status: str, location: str, exchanges: int
) -> None:
    """A start is redirected only on its own origin, and only where it stays a POST."""
    run, peers = play(raw_server, answer(status, location=location), events(done(1)))
    assert len(peers) == exchanges
    if exchanges == 2:
        assert (peers[1].method, peers[1].body) == ("POST", peers[0].body)
        assert run.first.notes == (f"{status[:3]} at {run.first.request.url[:-1]}, followed",)
    else:
        assert run.first.status == int(status[:3])
        assert run.synthetic == status


def test_redirects_are_bounded(raw_server: type[RawServer]) -> None:
    """A loop of redirects ends."""
    run, peers = play(raw_server, answer("307 x", location="/v1/runs"))
    assert len(peers) == 6
    assert run.synthetic == "307 x"


# Other requests


def test_other_requests(raw_server: type[RawServer]) -> None:
    """Any method, path and body can be sent, with the target's headers or without one of them."""

    async def call(client: Client) -> None:
        run = await client.run()
        await client.request(
            "PATCH", "/v1/runs/{run}/{x}", of=run, json={"a": "{x}"}, values={"x": "y"}
        )
        await client.request("PUT", headers={"Authorization": None}, body=b"\xff", query={"q": "1"})

    target = {"headers": {"Authorization": "x"}}
    _, (_, patch, put) = play(raw_server, events(token(1), done(2)), call=call, target=target)
    assert (patch.method, patch.target, patch.body) == (
        "PATCH",
        f"/v1/runs/{RUN}/y",
        b'{"a": "y"}',
    )
    assert patch.headers["authorization"] == "x"
    assert (put.method, put.target, put.body) == ("PUT", "/v1/runs?q=1", b"\xff")
    assert "authorization" not in put.headers


def test_other_time_outs(raw_server: type[RawServer]) -> None:
    """A probe can bring waits of its own."""

    async def silent(peer: Peer) -> None:
        await peer.left()

    recording, _ = play(
        raw_server,
        silent,
        call=lambda client: client.request("GET", timeouts=Timeouts(head=0.05)),
    )
    assert recording.end.kind is EndKind.TIMEOUT


def test_another_transport(raw_server: type[RawServer]) -> None:
    """Another transport can take the place of the client's own."""

    class Counting(HttpTransport):
        count = 0

        async def exchange(self, *arguments: Any, **options: Any) -> Recording:
            self.count += 1
            return await super().exchange(*arguments, **options)

    async def main() -> int:
        transport = Counting()
        async with raw_server((events(done(1)),)) as server:
            await Client(Target(url=server.origin), load("native"), transport=transport).run()
        return transport.count

    assert anyio.run(main) == 1


def test_lag_reaches_recordings(raw_server: type[RawServer]) -> None:
    """What the client is told of the event loop's lag stands in every recording."""

    async def main() -> Run:
        async with raw_server((events(done(1)),)) as server:
            target = Target(url=server.origin)
            return await Client(target, load("native"), lag=lambda start: 0.5).run()

    assert anyio.run(main).first.lag == 0.5


ESCAPED = r'event: message\ndata: {"type": "d\u006fne"}\n\n'.replace(r"\n", "\n")


def test_a_terminal_in_disguise(raw_server: type[RawServer], tmp_path: Path) -> None:
    """A terminal whose name is escaped in JSON is one all the same."""
    path = tmp_path / "json.toml"
    typed = HEAD.replace("{ sse_event = true }", '{ json_path = "type" }')
    path.write_text(typed + OTHER["post"])
    run, peers = play(raw_server, events(ESCAPED), dialect=path)
    assert len(peers) == 1
    assert run.synthetic == ""


def test_cursors_in_payloads(raw_server: type[RawServer], tmp_path: Path) -> None:
    """Where cursors stand in payloads, the last one seen in any exchange is sent."""
    path = tmp_path / "json.toml"
    cursors = 'source = "json-path"\njson_path = "at.place"\n'
    path.write_text(HEAD.replace('source = "sse-id"\n', cursors) + OTHER["post"])
    _, peers = play(
        raw_server,
        events('event: token\ndata: {"at": {"place": 7}}\n\n', cut=True),
        events(": nothing\n\n", cut=True),
        events(done(9)),
        dialect=path,
        path="/chat",
    )
    assert [peer.target for peer in peers] == ["/chat", "/chat?after=7", "/chat?after=7"]
