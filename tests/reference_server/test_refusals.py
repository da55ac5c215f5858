"""What is refused, and how: bodies, scenarios, methods, credentials, CORS, a full log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reference_server.log import MemoryLog
from reference_server.parts import Parts

if TYPE_CHECKING:
    from tests.reference_server.conftest import Chooser, Client, Serve

ALICE = {"Authorization": "Bearer alices-token"}
BOB = {"Authorization": "bearer bobs-token"}
CORS = "https://front.example"


@pytest.fixture(scope="module")
def guarded(serve: Serve) -> Client:
    """Return the client of a server with two users and one allowed origin."""
    tokens = {"alices-token": "alice", "bobs-token": "bob"}
    return serve(tokens=tokens, origins=frozenset({CORS}))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b"9" * 10_000, 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"message": 1}', 422),
        (b'{"message": null}', 422),
        (b'{"message": "\\ud800"}', 422),
        (b'{"message": "x", "on_disconnect": "explode"}', 422),
        (b'{"message": "' + b"x" * 2**20 + b'"}', 413),
    ],
)
def test_a_bad_body_is_refused_in_http(client: Client, content: bytes, status: int) -> None:
    """What is wrong with a body is said before any stream, and never as a fault of ours."""
    refused = client.ask("POST", "/v1/runs", content=content)

    assert refused.status == status
    assert refused.problem["status"] == status
    assert refused.problem["message"]


def test_unknown_fields_are_ignored(client: Client) -> None:
    """A front end may send fields of its own."""
    assert client.start("echo", "hi", theme="dark").text == "hi"


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("complet", "did you mean 'complete'"),
        ("silence; second=3", "did you mean 'seconds'"),
        ("silence; seconds=soon", "seconds must be seconds between 0 and 3600, not 'soon'"),
        ("silence; seconds=nan", "not 'nan'"),
        ("silence seconds=3", "was expected at character"),
        ("long; events=1000000", "whole number between 0 and 100000"),
        ("crash; kind=loud", "one of exception, tool, cancelled, system-exit"),
        ("fail; retryable=perhaps", "true or false"),
        ("!", "name of a scenario"),
    ],
)
def test_a_bad_scenario_is_400_and_says_why(client: Client, header: str, hint: str) -> None:
    """A control that can't be obeyed is refused before the run, with the nearest name."""
    refused = client.start(header)

    assert refused.status == 400
    assert hint in refused.problem["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/runs", "POST"),
        ("GET", "/v1/runs", "POST"),
        ("POST", "/v1/stream", "GET"),
        ("GET", "/v1/runs/x", "DELETE"),
        ("OPTIONS", "/v1/runs/x/events", "GET"),
    ],
)
def test_a_wrong_method_is_405_with_allow(
    client: Client, method: str, path: str, allow: str
) -> None:
    """A method that a path does not have is refused with those it has."""
    refused = client.ask(method, path)

    assert refused.status == 405
    assert refused.headers["allow"] == allow


def test_an_unknown_path_is_a_problem(client: Client) -> None:
    """A route nobody has is 404 in the same form as every refusal."""
    assert client.ask("GET", "/nowhere").problem["status"] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic YTpi"},
        {"Cookie": "agentstream_session=x"},
    ],
)
def test_without_credentials_it_is_401_with_a_challenge(
    guarded: Client, headers: dict[str, str]
) -> None:
    """Missing and wrong credentials get a challenge, on start and on resume."""
    run = guarded.start(headers=ALICE).run

    for refused in (guarded.start(headers=headers), guarded.read(run, headers=headers)):
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Bearer ")
        assert refused.problem["message"]


def test_another_users_run_is_404(guarded: Client) -> None:
    """Whose run it is not, cannot read, cancel, answer or join it."""
    run = guarded.start(headers={**ALICE, "Idempotency-Key": "same"}).run

    assert guarded.read(run, headers=ALICE).status == 200
    assert guarded.read(run, headers=BOB).status == 404
    assert guarded.start(headers={**BOB, "Last-Event-ID": f"{run}/1"}).status == 404
    assert guarded.ask("DELETE", f"/v1/runs/{run}", BOB).status == 404
    assert guarded.ask("POST", f"/v1/runs/{run}/ticket", BOB).status == 404
    assert guarded.start(headers={**BOB, "Idempotency-Key": "same"}).run != run


def test_a_ticket_reads_one_run_and_nothing_else(guarded: Client) -> None:
    """A ticket in the query reads its run without a header, and opens no other door."""
    one, other = guarded.start(headers=ALICE).run, guarded.start(headers=ALICE).run
    answer = guarded.ask("POST", f"/v1/runs/{one}/ticket", ALICE)
    ticket = json.loads(answer.raw)["ticket"]

    assert answer.status == 201
    assert guarded.read(one, query=f"?ticket={ticket}").last.type == "done"
    assert guarded.read(other, query=f"?ticket={ticket}").status == 401
    assert guarded.ask("DELETE", f"/v1/runs/{one}?ticket={ticket}").status == 401


def test_the_session_cookie_counts_for_own_pages(guarded: Client) -> None:
    """The cookie lets own and allowed pages in, and foreign ones not."""
    run = guarded.start(headers=ALICE).run
    response = guarded.http.post("/v1/session", headers=ALICE)
    value = response.headers["set-cookie"]
    cookie = {"Cookie": value.partition(";")[0]}
    guarded.http.cookies.clear()
    own = str(guarded.http.base_url).rstrip("/")

    assert "HttpOnly" in value
    assert "SameSite=strict" in value
    assert guarded.read(run, headers=cookie).status == 200
    assert guarded.read(run, headers={**cookie, "Origin": own}).status == 200
    assert guarded.read(run, headers={**cookie, "Origin": CORS}).status == 200
    assert guarded.read(run, headers={**cookie, "Origin": "https://evil.example"}).status == 403
    assert guarded.read(run, headers={**cookie, "Sec-Fetch-Site": "cross-site"}).status == 403
    assert guarded.start(headers=cookie).status == 403
    assert guarded.start(headers={**cookie, "Origin": own}).status == 200


def test_cors_is_for_allowed_origins_on_refusals_too(guarded: Client) -> None:
    """An allowed origin may read everything it needs, errors as well; a foreign one nothing."""
    preflight = guarded.ask(
        "OPTIONS",
        "/v1/runs",
        {
            "Origin": CORS,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "last-event-id, content-type",
        },
    )
    refused = guarded.start(headers={"Origin": CORS})
    foreign = guarded.start(headers={**ALICE, "Origin": "https://evil.example"})

    assert preflight.status == 200
    assert "Last-Event-ID" in preflight.headers["access-control-allow-headers"]
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == CORS
    assert "Retry-After" in refused.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in foreign.headers
    over = guarded.start(headers=ALICE)
    nothing = guarded.read(over.run, over.last.id, headers={**ALICE, "Origin": CORS})
    assert nothing.status == 204
    assert nothing.headers["access-control-allow-origin"] == CORS


def test_a_full_log_says_when_to_come_back(serve: Serve) -> None:
    """A server that can keep no further run refuses it with Retry-After."""
    client = serve(Parts(log=lambda settings: MemoryLog(max_runs=1)))
    client.start()

    refused = client.start()
    assert refused.status == 503
    assert refused.headers["retry-after"] == "5"


def test_an_overloaded_start_says_when_to_come_back(client: Client) -> None:
    """The scenario `overloaded` refuses the start with 429 and Retry-After."""
    refused = client.start("overloaded")

    assert refused.status == refused.problem["status"] == 429
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize("value", [None, "soon", "-5"])
def test_a_defect_of_overload_changes_retry_after(defective: Chooser, value: str | None) -> None:
    """Three defects leave Retry-After out, or say what is neither seconds nor a date."""
    name = {None: "overload-says-nothing", "soon": "retry-after-soon", "-5": "retry-after-negative"}
    refused = defective(name[value]).start("overloaded")

    assert refused.status == 429
    assert refused.headers.get("retry-after") == value


def test_defects_of_bad_bodies_are_narrow(defective: Chooser) -> None:
    """Each is about one kind of body; the other kinds are refused as they should be."""
    invalid, empty = defective("invalid-utf-8-500"), defective("bad-body-empty-stream")

    assert invalid.ask("POST", "/v1/runs", content=b"\xff").status == 500
    assert invalid.ask("POST", "/v1/runs", content=b"{").status == 400
    assert empty.ask("POST", "/v1/runs", content=b"{").raw == b""
    assert empty.ask("POST", "/v1/runs", content=b"{}").status == 422
