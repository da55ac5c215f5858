"""Refuse a request: `application/problem+json` (RFC 9457), with `message` for simple clients.

A refusal is never an event stream and never carries an `id`, so it can't become a cursor.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


class Problem(Exception):
    """What is wrong with a request, said in HTTP: status, one sentence, extra headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the HTTP answer."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "message": self.message,
        }
        return Response(
            json.dumps(body),
            self.status,
            {"Cache-Control": "no-store", **self.headers},
            "application/problem+json",
        )


async def on_problem(request: Request, problem: Exception) -> Response:
    """Answer with a problem that a route raised."""
    assert isinstance(problem, Problem), f"registered for Problem, called with {problem!r}"
    return problem.response()


async def on_http_exception(request: Request, exception: Exception) -> Response:
    """Give Starlette's own refusals (404, 405) the same form."""
    assert isinstance(exception, HTTPException), f"called with {exception!r}"
    return Problem(exception.status_code, exception.detail, exception.headers).response()


async def on_exception(request: Request, exception: Exception) -> Response:
    """Answer a fault of the server's own; its text goes to the log, not to the client."""
    return Problem(500, "The server failed; its log says why.").response()


async def on_unavailable(request: Request, exception: Exception) -> Response:
    """Answer while the event log cannot be reached: nothing can be started or read."""
    return Problem(503, "The event log cannot be reached now.", {"Retry-After": "1"}).response()
