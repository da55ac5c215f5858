"""Build ASGI middleware that changes what a response says, one aspect each.

Used where a server is made otherwise than it is: by variations and by defects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from reference_server.scenario import HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.parts import Middleware

When: TypeAlias = "Callable[[Scope, Message], bool]"
"""Whether a response, given its request and its head, is meant."""


def is_stream(scope: Scope, head: Message) -> bool:
    """Tell whether the response is an event stream."""
    kind: bytes = dict(head["headers"]).get(b"content-type", b"")
    return kind.lower().startswith(b"text/event-stream")


def runs(*scenarios: str) -> When:
    """Mean the streams that answer the start of one of these scenarios."""

    def when(scope: Scope, head: Message) -> bool:
        asked = dict(scope["headers"]).get(HEADER.encode(), b"complete").decode("latin-1")
        name = asked.partition(";")[0].strip()
        return is_stream(scope, head) and scope["path"].count("/") < 3 and name in scenarios

    return when


def tapped(tap: Callable[[Scope, Send], Send]) -> Middleware:
    """Put something between the application and what it sends."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, tap(scope, send) if scope["type"] == "http" else send)

        return wrapped

    return middleware


def head(
    change: Callable[[Scope, MutableMapping[str, Any]], None], when: When = is_stream
) -> Middleware:
    """Change the head of a response: its `status` and its `headers` (pairs of bytes)."""

    def tap(scope: Scope, send: Send) -> Send:
        async def changed(message: Message) -> None:
            if message["type"] == "http.response.start" and when(scope, message):
                message = {**message, "headers": list(message["headers"])}
                change(scope, message)
            await send(message)

        return changed

    return tapped(tap)


def header(name: str, value: str | None, when: When = is_stream) -> Middleware:
    """Set a response header, or with None leave it out."""

    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        key = name.lower().encode()
        kept = [(k, v) for k, v in message["headers"] if k.lower() != key]
        message["headers"] = kept if value is None else [*kept, (key, value.encode())]

    return head(change, when)


def body(
    make: Callable[[], Callable[[bytes, bool], Iterable[bytes]]], when: When = is_stream
) -> Middleware:
    """Change a stream's bytes: `make()` gives, for each response, a function from a piece and
    whether it is the last (and empty) to the pieces that are sent in its place."""

    def tap(scope: Scope, send: Send) -> Send:
        change: Callable[[bytes, bool], Iterable[bytes]] | None = None

        async def changed(message: Message) -> None:
            nonlocal change
            if message["type"] == "http.response.start":
                change = make() if when(scope, message) else None
            elif change is not None:
                last = not message.get("more_body", False)
                for piece in change(message.get("body", b""), last):
                    await send({**message, "body": piece, "more_body": True})
                if not last:
                    return
                message = {**message, "body": b""}
            await send(message)

        return changed

    return tapped(tap)


def held(
    when: When, let_go: Callable[[Message, list[Message], Send], Awaitable[None]]
) -> Middleware:
    """Hold a response back whole: at its end `let_go` gets the head and the body's messages."""

    def tap(scope: Scope, send: Send) -> Send:
        kept: list[Message] = []

        async def changed(message: Message) -> None:
            if kept or (message["type"] == "http.response.start" and when(scope, message)):
                kept.append(message)
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await let_go(kept[0], kept[1:], send)
            else:
                await send(message)

        return changed

    return tapped(tap)


def joined(messages: Iterable[Message]) -> bytes:
    """Return the bytes of a whole body."""
    return b"".join(message.get("body", b"") for message in messages)
