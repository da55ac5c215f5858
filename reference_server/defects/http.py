"""Defects of the HTTP head and of the connection."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from reference_server.defects.defect import CORS, defect
from reference_server.middleware import head, header, held, is_stream, joined, runs, tapped

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.parts import Parts

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
RESET = struct.pack("ii", 1, 0)
SCENARIO = re.compile(rb"\r\nx-agentstream-scenario: *([a-z-]+)", re.IGNORECASE)


@defect("status-202", "http.status-200", "Streams answer 202.")
def status_202(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 202

    return parts.behind(head(change))


@defect("content-type-text-plain", "http.content-type", "Streams are labelled text/plain.")
def content_type_text_plain(parts: Parts) -> Parts:
    return parts.behind(header("content-type", "text/plain; charset=utf-8"))


@defect("content-type-latin-1", "http.content-type", "Streams claim the charset iso-8859-1.")
def content_type_latin_1(parts: Parts) -> Parts:
    return parts.behind(header("content-type", "text/event-stream; charset=iso-8859-1"))


@defect("content-length", "http.no-content-length", "A `complete` run is sent with its length.")
def content_length(parts: Parts) -> Parts:
    async def let_go(start: Message, messages: list[Message], send: Send) -> None:
        whole = joined(messages)
        length = (b"content-length", str(len(whole)).encode())
        await send({**start, "headers": [*start["headers"], length]})
        await send({"type": "http.response.body", "body": whole})

    return parts.behind(held(runs("complete"), let_go))


@defect("cacheable", "http.no-store", "Streams may be cached for a minute.")
def cacheable(parts: Parts) -> Parts:
    return parts.behind(header("cache-control", "public, max-age=60"))


@defect("proxy-buffering", "http.no-proxy-buffering", "X-Accel-Buffering is not sent.")
def proxy_buffering(parts: Parts) -> Parts:
    return parts.behind(header("x-accel-buffering", None))


@defect(
    "last-chunk-missing",
    "http.terminated-body",
    "The socket of a `complete` run is closed behind the terminal, without the last chunk.",
)
def last_chunk_missing(parts: Parts) -> Parts:
    def tap(scope: Scope, send: Send) -> Send:
        meant = False

        async def changed(message: Message) -> None:
            nonlocal meant
            if message["type"] == "http.response.start":
                meant = runs("complete")(scope, message)
            elif meant and not message.get("more_body"):
                return
            await send(message)

        return changed

    return parts.behind(tapped(tap))


class _Resetting(H11Protocol):
    """HTTP/1.1 whose connections are reset where the last chunk of a `complete` run would be."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", _Cut(transport)))

    def data_received(self, data: bytes) -> None:
        if HEAD_END in data:
            scenario = SCENARIO.search(data)
            plain = scenario is None or scenario[1] == b"complete"
            cast("_Cut", self.transport).meant = data.startswith(b"POST /v1/runs ") and plain
        super().data_received(data)


class _Cut:
    """A transport that resets its connection in place of a last chunk."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.meant = False

    def write(self, data: bytes) -> None:
        if not (self.meant and data.endswith(LAST_CHUNK)):
            self._transport.write(data)
            return
        self._transport.write(data.removesuffix(LAST_CHUNK))
        own = self._transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@defect(
    "reset-behind-terminal",
    "http.terminated-body",
    "The connection of a `complete` run is reset behind the terminal.",
)
def reset_behind_terminal(parts: Parts) -> Parts:
    return replace(parts, http=_Resetting)


@defect(
    "closes-unsaid",
    "http.connection-reusable",
    "The connection is closed behind a stream that did not say `Connection: close`.",
)
def closes_unsaid(parts: Parts) -> Parts:
    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            stream = False

            async def noted(message: Message) -> None:
                nonlocal stream
                if message["type"] == "http.response.start":
                    stream = is_stream(scope, message)
                await send(message)

            await app(scope, receive, noted)
            if stream:
                raise ConnectionError("closed on purpose")

        return wrapped

    return parts.behind(middleware)


def _preflight(scope: Scope, message: Message) -> bool:
    return bool(scope["method"] == "OPTIONS")


@defect(
    "cors-preflight-without-cursor",
    "http.cors-preflight",
    "The CORS preflight does not allow Last-Event-ID.",
    options=CORS,
)
def cors_preflight_without_cursor(parts: Parts) -> Parts:
    return parts.behind(header("access-control-allow-headers", "Content-Type", _preflight))


@defect(
    "cors-nothing-exposed",
    "http.cors-expose",
    "CORS exposes neither run nor Location nor Retry-After.",
    options=CORS,
)
def cors_nothing_exposed(parts: Parts) -> Parts:
    return parts.behind(header("access-control-expose-headers", None, lambda scope, head: True))


def _refusal(scope: Scope, message: Message) -> bool:
    return bool(message["status"] == 204 or message["status"] >= 400)


@defect(
    "cors-not-on-refusals",
    "http.cors-on-refusals",
    "204 and errors carry no CORS headers.",
    options=CORS,
)
def cors_not_on_refusals(parts: Parts) -> Parts:
    return parts.behind(header("access-control-allow-origin", None, _refusal))


@defect("wrong-method-500", "http.wrong-method", "A wrong method gets 500.")
def wrong_method_500(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        message["status"] = 500

    return parts.behind(head(change, lambda scope, message: bool(message["status"] == 405)))


@defect("wrong-method-no-allow", "http.wrong-method", "A 405 does not say which methods there are.")
def wrong_method_no_allow(parts: Parts) -> Parts:
    return parts.behind(
        header("allow", None, lambda scope, message: bool(message["status"] == 405))
    )
