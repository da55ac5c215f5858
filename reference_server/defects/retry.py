"""Defects of refusals, credentials and of starting a run once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reference_server.auth import ANYBODY, Auth
from reference_server.defects.defect import defect
from reference_server.defects.seams import entries, with_payload
from reference_server.intake import Intake
from reference_server.middleware import head, header, held, is_stream
from reference_server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.cursor import Cursor
    from reference_server.log import Entry
    from reference_server.parts import Parts

FAILED = (
    b'event: error\ndata: {"error_type":"bad_request","message":"The body is wrong.",'
    b'"retryable":false}\n\nevent: done\ndata: {"status":"error"}\n\n'
)
STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def _answers(*statuses: int, method: str = "") -> Callable[[Scope, Message], bool]:
    def when(scope: Scope, message: Message) -> bool:
        return message["status"] in statuses and method in ("", scope["method"])

    return when


def _instead(status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> Any:
    async def let_go(start: Message, messages: list[Message], send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return let_go


@defect(
    "bad-body-in-stream",
    "retry.before-stream-is-http",
    "A bad body gets 200 and an error event.",
)
def bad_body_in_stream(parts: Parts) -> Parts:
    return parts.behind(held(_answers(400, 422, method="POST"), _instead(200, STREAM, FAILED)))


@defect("bad-input-500", "retry.bad-input", "A bad body gets 500.")
def bad_input_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, _answers(400, 422, method="POST")))


@defect("auth-unchecked", "retry.auth", "Credentials are not asked for (needs --token).")
def auth_unchecked(parts: Parts) -> Parts:
    class Unchecked(Auth):
        def user(self, request: Request) -> str:
            try:
                return super().user(request)
            except Problem:
                return ANYBODY

    return replace(parts, auth=Unchecked)


@defect("auth-500", "retry.auth", "Missing credentials get 500 (needs --token).")
def auth_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, _answers(401)))


@defect(
    "auth-challenge-missing",
    "retry.auth-challenge",
    "A 401 has no WWW-Authenticate (needs --token).",
)
def auth_challenge_missing(parts: Parts) -> Parts:
    return parts.behind(header("www-authenticate", None, _answers(401)))


@defect("not-found-200", "retry.not-found", "An unknown run is an empty stream.")
def not_found_200(parts: Parts) -> Parts:
    return parts.behind(held(_answers(404), _instead(200, STREAM, b"")))


@defect("error-as-html", "retry.error-body", "HTTP errors are HTML.")
def error_as_html(parts: Parts) -> Parts:
    def when(scope: Scope, message: Message) -> bool:
        return bool(message["status"] >= 400)

    async def let_go(start: Message, messages: list[Message], send: Send) -> None:
        changed = {b"content-type": b"text/html", b"content-length": b"13"}
        headers = {**dict(start["headers"]), **changed}
        await send({**start, "headers": list(headers.items())})
        await send({"type": "http.response.body", "body": b"<h1>Oops</h1>"})

    return parts.behind(held(when, let_go))


@defect(
    "error-labelled-stream",
    "retry.error-not-a-stream",
    "HTTP errors are labelled text/event-stream.",
)
def error_labelled_stream(parts: Parts) -> Parts:
    def when(scope: Scope, message: Message) -> bool:
        return bool(message["status"] >= 400)

    return parts.behind(header("content-type", "text/event-stream", when))


@defect("retry-class-wrong", "retry.class-in-stream", "A retryable failure is called final.")
def retry_class_wrong(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        wrong = entry.type == "error" and entry.payload["retryable"]
        yield with_payload(entry, retryable=False) if wrong else entry

    return entries(parts, change)


@defect(
    "restarts-when-finished",
    "retry.after-terminal",
    "The start request with the cursor of a finished run starts a run.",
)
def restarts_when_finished(parts: Parts) -> Parts:
    finished: set[bytes] = set()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                block = message.get("body", b"")
                if block.startswith(b"event: done"):
                    finished.update(re.findall(rb"^id: (.*)$", block, re.MULTILINE))
                await send(message)

            headers = dict(scope.get("headers", ()))
            cursor = headers.get(b"last-event-id", b"")
            if cursor in finished and scope["path"] in ("/v1/runs", "/v1/stream"):
                del headers[b"last-event-id"]
                scope = {**scope, "headers": list(headers.items())}
            await app(scope, receive, noted)

        return wrapped

    return parts.behind(middleware)


@defect("key-ignored", "retry.duplicate-start", "The same idempotency key starts a second run.")
def key_ignored(parts: Parts) -> Parts:
    class Forgetful(Intake):
        def key(self, key: str | None) -> str | None:
            return None

    return replace(parts, intake=Forgetful)


@defect(
    "start-ignores-cursor",
    "resume.same-request",
    "Repeating the start request with Last-Event-ID starts again.",
)
def start_ignores_cursor(parts: Parts) -> Parts:
    class Ignoring(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            return super().cursor(request) if "run" in request.path_params else None

    return replace(parts, intake=Ignoring)


@defect(
    "refusal-with-id",
    "resume.error-does-not-poison",
    "A refused cursor gets a stream whose error event has the id `error`.",
)
def refusal_with_id(parts: Parts) -> Parts:
    def when(scope: Scope, message: Message) -> bool:
        refused = message["status"] in (400, 404, 409, 410) and not is_stream(scope, message)
        return refused and scope["method"] == "GET"

    return parts.behind(held(when, _instead(200, STREAM, b"id: error\n" + FAILED)))
