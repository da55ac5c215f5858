"""Put the parts together and say which request goes where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_server.auth import COOKIE
from reference_server.log import LogFull, LogUnavailable, UnknownRun
from reference_server.parts import Parts
from reference_server.problems import (
    Problem,
    on_exception,
    on_http_exception,
    on_problem,
    on_unavailable,
)
from reference_server.scenarios import LLM, OVERLOADED
from reference_server.settings import Settings
from reference_server.upstreams import missing

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

Answer: TypeAlias = "Response | ASGIApp"
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class StreamCut(Exception):
    """The server goes down, and the run is another one's: its stream is not ended, but cut."""


class ReferenceServer:
    """The ASGI application: routes over intake, registry and log."""

    def __init__(self, settings: Settings | None = None, parts: Parts | None = None) -> None:
        self.parts = parts or Parts()
        self.encoder = self.parts.encoder(self.parts.cursors)
        self.settings = settings or Settings()
        if not self.encoder.answerable:
            self.settings = replace(self.settings, input_timeout=0.0)
        self.log = self.parts.log(self.settings)
        self.auth = self.parts.auth(self.settings)
        self.intake = self.parts.intake(self.settings, self.log, self.parts.cursors)
        self.registry = self.parts.registry(
            self.log, self.settings, self.parts.agent, self.parts.producer()
        )
        self._streams: dict[asyncio.Task[None], str] = {}
        self._cut: set[asyncio.Task[None]] = set()
        self._app: ASGIApp = self._application()
        for middleware in self.parts.middleware:
            self._app = middleware(self._app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def open(self) -> None:
        """Begin to use the log; raises LogError where that cannot be."""
        await self.log.open(self.registry)
        if self.log.secret is not None:
            self.auth.secret = self.log.secret

    async def close(self) -> None:
        """End every run, and every stream within the grace: those of runs of ours with their end,
        those of other replicas' runs without, so that their clients resume there."""
        await self.registry.close()
        for stream, run in list(self._streams.items()):
            if self.log.elsewhere(run) and not await self._is_over(run):
                self._cut.add(stream)
                stream.cancel()
        if self._streams:
            await asyncio.wait(list(self._streams), timeout=self.settings.grace)

    async def _is_over(self, run: str) -> bool:
        """Whether a run has its end, so that its stream comes to one."""
        try:
            return (await self.log.state(run)).closed
        except (LogUnavailable, UnknownRun):
            return False

    async def stop(self) -> None:
        """End using the log, when nothing is served any more."""
        await self.log.stop()

    async def start(self, request: Request) -> Answer:
        """Start a run and stream it; with a cursor, resume that run instead."""
        user = self.auth.user(request)
        order = await self.intake.start(request)
        cursor = self.intake.cursor(request)
        if cursor is not None:
            return await self.stream(request, cursor.run, cursor.seq, user)
        if self.registry.closing:
            raise Problem(503, "The server is going down.", {"Retry-After": "1"})
        if order.scenario.name == OVERLOADED:
            raise Problem(429, "Too many runs are started.", {"Retry-After": "1"})
        lacking = missing(self.settings.upstream) if order.scenario.name == LLM else None
        if lacking:
            raise Problem(501, lacking)
        grace = self.settings.abandoned if order.on_disconnect == "cancel" else None
        try:
            run = await self.registry.start(
                order.message,
                order.scenario,
                owner=user,
                key=order.key,
                grace=grace if self.encoder.resumable else 0.0,
            )
        except LogFull:
            raise Problem(503, "No further run can be kept now.", {"Retry-After": "5"}) from None
        if "respond-async" in request.headers.get("prefer", ""):
            return self._accepted(request, run)
        return await self.stream(request, run, 0, user)

    async def again(self, request: Request) -> Answer:
        """Stream the run that the cursor names, in dialects whose resume has no path."""
        user = self.auth.user(request)
        cursor = self.intake.cursor(request)
        if cursor is None:
            raise Problem(422, "GET resumes a run: a cursor must be given as lastEventId.")
        return await self.stream(request, cursor.run, cursor.seq, user)

    async def events(self, request: Request) -> Answer:
        """Stream a run from a cursor on."""
        run = request.path_params["run"]
        user = self.auth.reader(request, run)
        cursor = self.intake.cursor(request)
        self.intake.same_run(cursor, run)
        return await self.stream(request, run, cursor.seq if cursor else 0, user)

    async def stream(self, request: Request, run: str, after: int, user: str | None) -> Answer:
        """Return the events behind `after`, or 204 when there will never be any."""
        place = await self.intake.place(run, after, user)
        if place is None:
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        stream = self.parts.stream(
            self.parts.reader(self.log, run, place),
            self.parts.writer(
                self.encoder,
                self.parts.framing,
                self.parts.pacing(self.settings.heartbeat),
                retry=self.settings.retry,
                alive=lambda: self.registry.alive(run),
            ),
            self._names(request, run),
        )

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            sending = asyncio.create_task(stream(scope, receive, send))
            self._streams[sending] = run
            sending.add_done_callback(self._streams.pop)
            try:
                with self.registry.reading(run):
                    await sending
            except asyncio.CancelledError:
                if sending not in self._cut:
                    raise
                raise StreamCut(run) from None

        return counted

    async def cancel(self, request: Request) -> Answer:
        """Cancel a run; again is the same."""
        run = request.path_params["run"]
        await self.intake.known(run, self.auth.user(request))
        await self.registry.cancel(run)
        return Response(status_code=204)

    async def input(self, request: Request) -> Answer:
        """Answer a run that waits for a person."""
        run = request.path_params["run"]
        await self.intake.known(run, self.auth.user(request))
        answer = await self.intake.answer(request)
        if self.registry.live(run) is None and self.log.elsewhere(run):
            given = await self.log.answer(run, answer.request_id, answer.input)
        else:
            given = self.registry.answer(run, answer.request_id, answer.input)
        if not given:
            raise Problem(409, "The run does not wait for this answer, or no longer.")
        return Response(status_code=204)

    async def ticket(self, request: Request) -> Answer:
        """Give out the ticket that reads a run from a browser."""
        run = request.path_params["run"]
        await self.intake.known(run, self.auth.user(request))
        return JSONResponse({"ticket": self.auth.ticket(run)}, 201, {"Cache-Control": "no-store"})

    async def session(self, request: Request) -> Answer:
        """Set the cookie that a browser's EventSource sends."""
        response = Response(status_code=204)
        response.set_cookie(
            COOKIE,
            self.auth.cookie(self.auth.user(request)),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path=request.scope.get("root_path", "") + "/v1",
        )
        return response

    def _accepted(self, request: Request, run: str) -> Response:
        names = self._names(request, run)
        body = {"run": run, "events": f"{names['Location']}/events"}
        applied = {"Preference-Applied": "respond-async", "Cache-Control": "no-store"}
        return JSONResponse(body, 201, {**names, **applied})

    def _names(self, request: Request, run: str) -> dict[str, str]:
        """Say which run this is and what kind of log keeps it."""
        if not self.encoder.resumable:
            return {}
        kept = "volatile" if self.log.volatile else "durable"
        kept += f"; retention={self.settings.retention:g}; run-bytes={self.log.run_bytes}"
        if not self.log.volatile:
            kept += f"; lease={self.settings.lease:g}"
        names = {"Agentstream-Run": run, "Agentstream-Log": kept}
        if self.encoder.name == "native":
            names["Location"] = f"{request.scope.get('root_path', '')}/v1/runs/{run}"
        return names

    def _application(self) -> ASGIApp:
        return Starlette(
            routes=self._native() if self.encoder.name == "native" else self._chat(),
            middleware=self._cors(),
            exception_handlers={
                Problem: on_problem,
                HTTPException: on_http_exception,
                LogUnavailable: on_unavailable,
                Exception: on_exception,
            },
            lifespan=self._lifespan,
        )

    def _native(self) -> list[Route]:
        run = "/v1/runs/{run}"
        return [
            Route("/v1/runs", Resource(POST=self.start)),
            Route("/v1/stream", Resource(GET=self.start)),
            Route("/v1/session", Resource(POST=self.session)),
            Route(run, Resource(DELETE=self.cancel)),
            Route(f"{run}/events", Resource(GET=self.events)),
            Route(f"{run}/input", Resource(POST=self.input)),
            Route(f"{run}/ticket", Resource(POST=self.ticket)),
        ]

    def _chat(self) -> list[Route]:
        """Return the one path that the other dialects have."""
        handlers: dict[str, Handler] = {"POST": self.start}
        if self.encoder.resumable:
            handlers["GET"] = self.again
        return [Route(self.encoder.start_path, Resource(**handlers))]

    def _cors(self) -> list[Middleware]:
        if not self.settings.origins:
            return []
        return [
            Middleware(
                CORSMiddleware,
                allow_origins=sorted(self.settings.origins),
                allow_credentials=True,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "Last-Event-ID",
                    "Prefer",
                ],
                expose_headers=["Agentstream-Log", "Agentstream-Run", "Location", "Retry-After"],
            )
        ]

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.open()
        yield
        await self.close()
        await self.stop()


class Resource:
    """One path: a handler for each method it has, and 405 with `Allow` for the others."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in self._handlers:
            allow = {"Allow": ", ".join(self._handlers)}
            raise Problem(405, f"{method} is not allowed here.", allow)
        try:
            response = await self._handlers[method](Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)
