"""Defects of refusals: what is wrong before a stream begins, and how that is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reference_server.auth import ANYBODY, Auth
from reference_server.defects.defect import TOKEN, defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.intake import Intake, Order
from reference_server.middleware import head, header, held
from reference_server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from starlette.requests import Request
    from starlette.types import Message, Scope, Send

    from reference_server.parts import Parts

FAILED = (
    b'event: error\ndata: {"error_type":"bad_request","message":"The body is wrong.",'
    b'"retryable":false}\n\nevent: done\ndata: {"status":"error"}\n\n'
)
STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def answers(*statuses: int, method: str = "") -> Callable[[Scope, Message], bool]:
    def when(scope: Scope, message: Message) -> bool:
        return message["status"] in statuses and method in ("", scope["method"])

    return when


def instead(status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> Any:
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
    return parts.behind(held(answers(400, 422, method="POST"), instead(200, STREAM, FAILED)))


@defect(
    "bad-body-empty-stream",
    "retry.before-stream-is-http",
    "A body that is no JSON gets 200 and a stream that ends at once.",
)
def bad_body_empty_stream(parts: Parts) -> Parts:
    return parts.behind(held(answers(400, method="POST"), instead(200, STREAM, b"")))


@defect("bad-input-500", "retry.bad-input", "A bad body gets 500.")
def bad_input_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, answers(400, 422, method="POST")))


def _start_body(parts: Parts, check: Callable[[bytes], Awaitable[None]]) -> Parts:
    class Checking(Intake):
        async def start(self, request: Request) -> Order:
            if request.method == "POST":
                await check(await request.body())
            return await super().start(request)

    return replace(parts, intake=Checking)


@defect("invalid-utf-8-500", "retry.bad-input", "A body that is not UTF-8 gets 500.")
def invalid_utf_8_500(parts: Parts) -> Parts:
    async def check(raw: bytes) -> None:
        try:
            raw.decode()
        except UnicodeDecodeError:
            raise Problem(500, "The server failed; its log says why.") from None

    return _start_body(parts, check)


@defect("empty-body-hangs", "retry.bad-input", "A start with an empty body gets no answer.")
def empty_body_hangs(parts: Parts) -> Parts:
    async def check(raw: bytes) -> None:
        if not raw:
            await asyncio.sleep(WATCHED)

    return _start_body(parts, check)


@defect("auth-unchecked", "retry.auth", "Credentials are not asked for.", options=TOKEN)
def auth_unchecked(parts: Parts) -> Parts:
    class Unchecked(Auth):
        def user(self, request: Request) -> str:
            try:
                return super().user(request)
            except Problem:
                return ANYBODY

    return replace(parts, auth=Unchecked)


@defect("auth-500", "retry.auth", "Missing credentials get 500.", options=TOKEN)
def auth_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, answers(401)))


@defect(
    "auth-challenge-missing",
    "retry.auth-challenge",
    "A 401 has no WWW-Authenticate.",
    options=TOKEN,
)
def auth_challenge_missing(parts: Parts) -> Parts:
    return parts.behind(header("www-authenticate", None, answers(401)))


@defect(
    "auth-challenge-for-some",
    "retry.auth-challenge",
    "A 401 to credentials that are wrong, not missing, has no WWW-Authenticate.",
    options=TOKEN,
)
def auth_challenge_for_some(parts: Parts) -> Parts:
    def wrong(scope: Scope, message: Message) -> bool:
        return message["status"] == 401 and b"authorization" in dict(scope["headers"])

    return parts.behind(header("www-authenticate", None, wrong))


@defect("not-found-200", "retry.not-found", "An unknown run is an empty stream.")
def not_found_200(parts: Parts) -> Parts:
    return parts.behind(held(answers(404), instead(200, STREAM, b"")))


@defect("not-found-500", "retry.not-found", "An unknown run gets 500.")
def not_found_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, answers(404)))


@defect("overload-says-nothing", "retry.overload-says-when", "A 429 has no Retry-After.")
def overload_says_nothing(parts: Parts) -> Parts:
    return parts.behind(header("retry-after", None, answers(429)))


@defect("retry-after-soon", "retry.retry-after-valid", "A 429 says `Retry-After: soon`.")
def retry_after_soon(parts: Parts) -> Parts:
    return parts.behind(header("retry-after", "soon", answers(429)))


@defect("retry-after-negative", "retry.retry-after-valid", "A 429 says `Retry-After: -5`.")
def retry_after_negative(parts: Parts) -> Parts:
    return parts.behind(header("retry-after", "-5", answers(429)))


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
