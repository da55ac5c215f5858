"""Defects of what a cursor is taken for, and of what refuses it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.refusals import FAILED, STREAM, instead
from reference_server.intake import Intake
from reference_server.middleware import held, is_stream
from reference_server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.cursor import Cursor
    from reference_server.parts import Parts


def _intake(parts: Parts, wrong: type[Intake]) -> Parts:
    return replace(parts, intake=wrong)


@defect("malformed-replays-all", "resume.unknown-cursor", "A malformed cursor replays all.")
def malformed_replays_all(parts: Parts) -> Parts:
    class Replaying(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            try:
                return super().cursor(request)
            except Problem:
                return None

    return _intake(parts, Replaying)


def _place_instead(parts: Parts, status: int, place: Callable[[int, int], int | None]) -> Parts:
    class Placing(Intake):
        async def place(self, run: str, after: int, user: str | None) -> int | None:
            try:
                return await super().place(run, after, user)
            except Problem as problem:
                if problem.status != status:
                    raise
                return place(after, (await self.known(run, user)).last)

    return _intake(parts, Placing)


@defect(
    "expired-is-empty",
    "resume.expired-cursor",
    "An expired run is an empty stream.",
)
def expired_is_empty(parts: Parts) -> Parts:
    return _place_instead(parts, 410, lambda after, last: last)


@defect(
    "expired-is-204",
    "resume.expired-cursor",
    "An expired run is 204, as a run is behind which nothing is new.",
)
def expired_is_204(parts: Parts) -> Parts:
    return _place_instead(parts, 410, lambda after, last: None)


@defect("future-is-empty", "resume.future-cursor", "A cursor ahead of the run is an empty stream.")
def future_is_empty(parts: Parts) -> Parts:
    return _place_instead(parts, 409, lambda after, last: after)


@defect("query-wins", "resume.header-and-query", "The query's cursor wins over the header's.")
def query_wins(parts: Parts) -> Parts:
    class QueryWins(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            cursor = super().cursor(request)
            query = request.query_params.get("last_event_id")
            return self.cursors.parse(query) if query and cursor else cursor

    return _intake(parts, QueryWins)


@defect(
    "query-one-too-many",
    "resume.header-and-query",
    "A cursor in the query gets its own event again.",
)
def query_one_too_many(parts: Parts) -> Parts:
    class OneTooMany(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            cursor = super().cursor(request)
            if cursor is None or "last-event-id" in request.headers:
                return cursor
            return replace(cursor, seq=max(cursor.seq - 1, 0))

    return _intake(parts, OneTooMany)


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
    "start-with-cursor-replays-all",
    "resume.same-request",
    "Repeating the start request with Last-Event-ID replays that run from its first event.",
)
def start_with_cursor_replays_all(parts: Parts) -> Parts:
    class FromTheFirst(Intake):
        def cursor(self, request: Request) -> Cursor | None:
            cursor = super().cursor(request)
            if cursor is None or "run" in request.path_params:
                return cursor
            return replace(cursor, seq=0)

    return replace(parts, intake=FromTheFirst)


@defect(
    "refusal-with-id",
    "resume.error-does-not-poison",
    "A refused cursor gets a stream whose error event has the id `error`.",
)
def refusal_with_id(parts: Parts) -> Parts:
    def when(scope: Scope, message: Message) -> bool:
        refused = message["status"] in (400, 404, 409, 410) and not is_stream(scope, message)
        return refused and scope["method"] == "GET"

    return parts.behind(held(when, instead(200, STREAM, b"id: error\n" + FAILED)))


@defect(
    "refusal-echoes-cursor",
    "resume.error-does-not-poison",
    "A cursor ahead of its run gets a stream whose error event has that cursor as its id.",
)
def refusal_echoes_cursor(parts: Parts) -> Parts:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            cursor = dict(scope.get("headers", ())).get(b"last-event-id", b"")
            refusal = instead(200, STREAM, b"id: " + cursor + b"\n" + FAILED)
            echoing = held(lambda scope, message: message["status"] == 409, refusal)(app)
            await echoing(scope, receive, send)

        return wrapped

    return parts.behind(middleware)
