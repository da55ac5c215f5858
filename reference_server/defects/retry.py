"""Defects of retrying: the class of a failure, and what a repeated start does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.seams import entries, frames, log, with_payload
from reference_server.intake import Intake
from reference_server.log import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from reference_server.frames import Frame
    from reference_server.log import Entry
    from reference_server.parts import Parts


@defect("retry-class-wrong", "retry.class-in-stream", "A retryable failure is called final.")
def retry_class_wrong(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        wrong = entry.type == "error" and entry.payload["retryable"]
        yield with_payload(entry, retryable=False) if wrong else entry

    return entries(parts, change)


@defect(
    "retry-class-absent",
    "retry.class-in-stream",
    "A retryable failure does not say whether a retry can help.",
    dialect="generic-typed",
)
def retry_class_absent(parts: Parts) -> Parts:
    def change(entry: Entry, frame: Frame) -> Iterator[Frame]:
        said = frame.data.replace(',"retry":true', "")
        yield replace(frame, data=said) if entry.type == "error" else frame

    return frames(parts, change)


def _restarts(
    parts: Parts, meant: Callable[[Scope], bool], restart: Callable[[Scope], Scope]
) -> Parts:
    """Start anew for the meant requests whose cursor is that of a success that was sent."""
    finished: set[bytes] = set()

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                block = message.get("body", b"")
                if block.startswith(b"event: done") and b'"completed"' in block:
                    finished.update(re.findall(rb"^id: (.*)$", block, re.MULTILINE))
                await send(message)

            headers = dict(scope.get("headers", ()))
            if headers.pop(b"last-event-id", b"") in finished and meant(scope):
                scope = restart({**scope, "headers": list(headers.items())})
            await app(scope, receive, noted)

        return wrapped

    return parts.behind(middleware)


@defect(
    "restarts-when-finished",
    "retry.after-terminal",
    "The start request with the cursor of a finished run's terminal starts a run.",
)
def restarts_when_finished(parts: Parts) -> Parts:
    paths = ("/v1/runs", "/v1/stream")
    return _restarts(parts, lambda scope: scope["path"] in paths, lambda scope: scope)


@defect(
    "resume-restarts-when-finished",
    "retry.after-terminal",
    "Resuming a finished run behind its terminal starts a run.",
)
def resume_restarts_when_finished(parts: Parts) -> Parts:
    start = {"path": "/v1/stream", "query_string": b"message=again&key=again"}
    return _restarts(
        parts,
        lambda scope: bool(scope["path"].endswith("/events")),
        lambda scope: {**scope, **start},
    )


@defect("key-ignored", "retry.duplicate-start", "The same idempotency key starts a second run.")
def key_ignored(parts: Parts) -> Parts:
    class Forgetful(Intake):
        def key(self, key: str | None) -> str | None:
            return None

    return replace(parts, intake=Forgetful)


@defect(
    "key-forgotten-at-the-end",
    "retry.duplicate-start",
    "The idempotency key of a run that is over starts a second one.",
)
def key_forgotten_at_the_end(parts: Parts) -> Parts:
    class Forgetful(MemoryLog):
        async def create(self, run: str, owner: str, key: str | None) -> str:
            holder = await super().create(run, owner, key)
            over = (await self.state(holder)).closed
            return await super().create(run, owner, None) if over else holder

    return log(parts, Forgetful)


@defect(
    "key-unknown-while-live",
    "retry.duplicate-start",
    "The idempotency key of a run that is going on starts a second one beside it.",
)
def key_unknown_while_live(parts: Parts) -> Parts:
    class Late(MemoryLog):
        async def create(self, run: str, owner: str, key: str | None) -> str:
            holder = await super().create(run, owner, key)
            over = (await self.state(holder)).closed
            return holder if over or holder == run else await super().create(run, owner, None)

    return log(parts, Late)
