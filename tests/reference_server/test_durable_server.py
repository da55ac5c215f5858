"""Servers on a log that outlives them: kills, restarts, replicas, shutdown, a Redis that goes."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.reference_server.processes import PATIENCE, server
from tests.services import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.reference_server.conftest import Answer, Body, Client
    from tests.reference_server.processes import Server
    from tests.services import Service

TOKEN = ("--token", "alice=alices-token")
ALICE = {"Authorization": "Bearer alices-token"}
LOST = ["error", "done"]


def _ends_lost(answer: Answer) -> bool:
    error, done = answer.events[-2:]
    return (
        error.payload["error_type"] == "producer_lost"
        and error.payload["retryable"] is True
        and done.payload == {"status": "error"}
    )


def test_what_was_seen_survives_a_kill(durable_log: str) -> None:
    """Killed and restarted, the server replays what it said, then ends the run, retryable.

    Keys, tickets and cookies of before count as well.
    """

    def four(body: Body) -> bool:
        return len(body.events) >= 4

    with server(durable_log, *TOKEN) as first:
        key = {**ALICE, "Idempotency-Key": "key"}
        seen = first.client.start("silence; seconds=60", headers=key, until=four)
        path = f"/v1/runs/{seen.run}"
        ticket = first.client.http.post(f"{path}/ticket", headers=ALICE).json()["ticket"]
        cookie = first.client.http.post("/v1/session", headers=ALICE).headers["set-cookie"]
        first.kill()

    with server(durable_log, *TOKEN) as second:
        whole = second.client.read(seen.run, headers=ALICE)
        assert whole.status == 200
        kept = "durable; retention=60; run-bytes=33554432; lease=0.6"
        assert whole.headers["agentstream-log"] == kept
        assert [e.identity for e in whole.events[:4]] == [e.identity for e in seen.events]
        assert whole.types[4:] == LOST
        assert _ends_lost(whole)
        assert [e.id for e in whole.events] == [f"{seen.run}/{n}" for n in range(1, 7)]

        rest = second.client.read(seen.run, seen.last.id, headers=ALICE)
        assert [e.identity for e in rest.events] == [e.identity for e in whole.events[4:]]
        assert second.client.read(seen.run, whole.last.id, headers=ALICE).status == 204
        assert second.client.start(headers=key).run == seen.run
        assert second.client.read(seen.run, query=f"?ticket={ticket}").status == 200
        cookies = {"Cookie": cookie.partition(";")[0]}
        assert second.client.read(seen.run, headers=cookies).status == 200


@contextmanager
def read_meanwhile(client: Client, run: str) -> Iterator[Future[Answer]]:
    """Read a run in a thread; yield its future answer once four events have come."""
    began = threading.Event()

    def noticed(body: Body) -> bool:
        if len(body.events) >= 4:
            began.set()
        return False

    with ThreadPoolExecutor(1) as reading:
        answer = reading.submit(client.read, run, None, noticed)
        assert began.wait(PATIENCE)
        yield answer


def test_a_replica_takes_over(durable_log: str) -> None:
    """A run of one replica is read at another, which ends it when the first one dies."""
    with server(durable_log) as one, server(durable_log) as other:
        run = one.client.begin("silence; seconds=60")
        with read_meanwhile(other.client, run) as answer:
            one.kill()
            seen = answer.result(PATIENCE)
        assert seen.types[4:] == LOST
        assert _ends_lost(seen)
        assert seen.comments, "the run lived, so it had heartbeats"


def test_a_replica_cancels_and_answers(durable_log: str) -> None:
    """DELETE and input work at any replica; what is refused is refused there as well."""
    with server(durable_log) as one, server(durable_log) as other:
        asking = one.client.begin("interrupt")

        def asked(body: Body) -> bool:
            return any(event.type == "input_required" for event in body.events)

        assert other.client.read(asking, until=asked).last.type == "input_required"

        def answer(request_id: str) -> int:
            body = {"request_id": request_id, "input": "yes"}
            return other.client.http.post(f"/v1/runs/{asking}/input", json=body).status_code

        assert [answer("input-2"), answer("input-1")] == [409, 204]
        assert other.client.read(asking).text.endswith("The answer was: yes")
        assert answer("input-1") == 409

        silent = one.client.begin("silence; seconds=60")
        for _ in range(2):
            assert other.client.http.delete(f"/v1/runs/{silent}").status_code == 204
        for replica in (one, other):
            assert replica.client.read(silent).last.payload == {"status": "cancelled"}


def test_a_frozen_producer_is_fenced(durable_log: str) -> None:
    """Who is stopped for longer than its lease says nothing more when it goes on."""
    with server(durable_log) as one, server(durable_log) as other:
        run = one.client.begin("pauses; seconds=0.05; count=1000")
        one.process.send_signal(signal.SIGSTOP)
        try:
            ended = other.client.read(run)
        finally:
            one.process.send_signal(signal.SIGCONT)
        assert _ends_lost(ended)
        for replica in (one, other):
            again = replica.client.read(run)
            assert [e.identity for e in again.events] == [e.identity for e in ended.events]


def test_while_it_goes_down_starts_are_refused(tmp_path: Path) -> None:
    """A start whose body comes behind SIGTERM gets 503; streams get their end; the exit is 0."""
    with server(f"sqlite:{tmp_path}/events.db", "--grace", "5") as going:
        address = ("127.0.0.1", going.client.http.base_url.port or 0)
        with socket.create_connection(address, PATIENCE) as slow:
            slow.sendall(b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{")
            silent = going.client.begin("silence; seconds=60")
            with ThreadPoolExecutor(1) as reading:
                answer = reading.submit(going.client.read, silent)
                going.process.terminate()
                ended = answer.result(PATIENCE)
            slow.sendall(b'"message": "hi"}')
            refused = slow.makefile("rb").read().lower()
        going.process.wait(PATIENCE)
    assert [event.payload for event in ended.events[-2:]] == [
        {"error_type": "shutdown", "message": "The server is going down.", "retryable": True},
        {"status": "error"},
    ]
    assert refused.startswith(b"http/1.1 503")
    assert b"retry-after: 1\r\n" in refused
    assert going.process.returncode == 0


def test_a_stream_of_another_replicas_run_is_cut(durable_log: str) -> None:
    """At a shutdown a run that goes on elsewhere gets no end: its reader goes on elsewhere too."""
    with server(durable_log) as one, server(durable_log) as going:
        run = one.client.begin("silence; seconds=60")
        with read_meanwhile(going.client, run) as answer:
            going.process.terminate()
            with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
                answer.result(PATIENCE)
        assert going.process.communicate(timeout=PATIENCE) == ("", "")
        assert going.process.returncode == 0
        assert one.client.http.delete(f"/v1/runs/{run}").status_code == 204
        assert one.client.read(run).last.payload == {"status": "cancelled"}


def _away(redis: Service, going: Server) -> Answer:
    """Start a run, take Redis away, return what its reader got."""
    began = threading.Event()

    def noticed(body: Body) -> bool:
        if len(body.events) >= 4:
            began.set()
        return False

    with ThreadPoolExecutor(1) as reading:
        answer = reading.submit(
            going.client.start, "pauses; seconds=0.05; count=1000", until=noticed
        )
        assert began.wait(PATIENCE)
        redis.kill()
        return answer.result(PATIENCE)


def test_redis_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Streams end in a retryable error, which is not stored; what was seen is there afterwards."""
    kept = ("--appendonly", "yes", "--dir", str(tmp_path))
    with redis_server(None, *kept) as redis, server(redis.url) as going:
        seen = _away(redis, going)
        error, done = seen.events[-2:]
        stored = seen.events[:-2]
        assert error.payload["error_type"] == "log_unavailable"
        assert error.payload["retryable"] is True
        assert done.payload == {"status": "error"}
        assert [error.id, done.id] == ["", ""], "what is not stored has no cursor"
        refused = going.client.start()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert going.client.read(seen.run, stored[-1].id).status == 503

        with redis_server(urlsplit(redis.url).port, *kept):
            whole = going.client.read(seen.run)
            assert [e.identity for e in whole.events[: len(stored)]] == [e.identity for e in stored]
            assert _ends_lost(whole)
            assert going.client.start().last.payload["status"] == "completed"


def _refused(*options: str) -> str:
    """Start a server that must refuse its options with one line and exit code 2; return it."""
    command = [sys.executable, "-m", "reference_server", "--port", "0", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("reference_server: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr.strip()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no folder"),
        (b"no database at all, only text that is long enough to be looked at " * 20, "not a SQL"),
    ],
)
def test_a_file_that_cannot_be_the_log(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A folder that is missing, or another kind of file, is said in one line."""
    path = tmp_path / ("events.db" if content else "missing/events.db")
    if content:
        path.write_bytes(content)
    assert said in _refused("--log", f"sqlite:{path}")
    assert content is None or path.read_bytes() == content


def test_a_database_of_something_else(tmp_path: Path) -> None:
    """Another program's database is left alone."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (value)")
    assert "this database is something else's" in _refused("--log", f"sqlite:{path}")
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_redis_that_is_down() -> None:
    """A Redis that cannot be reached at the start is said in one line, without its password."""
    said = _refused("--log", "redis://user:pa55word@127.0.0.1:1/0")
    assert "redis://127.0.0.1:1/0: Redis cannot be used:" in said
    assert "pa55word" not in said


def test_who_takes_nothing_is_freed(tmp_path: Path) -> None:
    """A reader that stops reading in the middle of much loses its connection."""
    with server("memory", "--stalled", "1") as stalling:
        port = stalling.client.http.base_url.port or 0
        process = psutil.Process(stalling.process.pid)

        def connected() -> int:
            return sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections())

        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.settimeout(PATIENCE)
            lazy.connect(("127.0.0.1", port))
            lazy.sendall(
                b"POST /v1/runs HTTP/1.1\r\nHost: x\r\nX-Agentstream-Scenario: flood\r\n"
                b'Content-Length: 17\r\n\r\n{"message": "hi"}'
            )
            head = lazy.recv(1024)
            assert head.startswith(b"HTTP/1.1 200")
            assert connected() == 1
            give_up = time.monotonic() + PATIENCE
            while connected() and time.monotonic() < give_up:
                time.sleep(0.05)
            assert connected() == 0
