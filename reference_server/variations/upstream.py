"""Variations of what is made of an LLM that fails: when it is said, and how often it is asked."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from reference_server.middleware import runs, tapped
from reference_server.protocol import Error, Event, Turn
from reference_server.scenarios import LLM
from reference_server.variations.variation import variation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.types import Message, Scope, Send

    from reference_server.agent import Assignment
    from reference_server.parts import Parts

SHORTLY = 0.2
"""Seconds until a model is asked once more."""

HEARD = (b"event: token", b"event: tool_use", b"event: done")
REFUSED = json.dumps({"title": "Service Unavailable", "detail": "The model did not answer."})


@variation("upstream-error-in-http", "What fails before the model has said a word is an HTTP 503.")
def upstream_error_in_http(parts: Parts) -> Parts:
    meant = runs(LLM)

    def tap(scope: Scope, send: Send) -> Send:
        held: list[Message] = []
        refused = False

        async def refuse() -> None:
            kind = (b"content-type", b"application/problem+json")
            head = [kind, (b"cache-control", b"no-store"), (b"retry-after", b"1")]
            await send({"type": "http.response.start", "status": 503, "headers": head})
            await send({"type": "http.response.body", "body": REFUSED.encode()})

        async def changed(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and meant(scope, message):
                held.append(message)
            elif not held:
                await send(message)
            elif not refused:
                held.append(message)
                block = message.get("body", b"")
                if b"event: error" in block:
                    refused = True
                    await refuse()
                elif any(mark in block for mark in HEARD) or not message.get("more_body"):
                    for one in held:
                        await send(one)
                    held.clear()

        return changed

    return parts.behind(tapped(tap))


@variation("upstream-asked-again", "A model that failed before it said a word is asked once more.")
def upstream_asked_again(parts: Parts) -> Parts:
    inner = parts.agent

    async def changed(task: Assignment) -> AsyncIterator[Event]:
        said = task.scenario.name != LLM
        async with aclosing(cast("AsyncGenerator[Event]", inner(task))) as events:
            async for event in events:
                if not said and isinstance(event, Error) and event.retryable:
                    break
                said |= not isinstance(event, Turn)
                yield event
            else:
                return
        await asyncio.sleep(SHORTLY)
        async with aclosing(cast("AsyncGenerator[Event]", inner(task))) as events:
            async for event in events:
                if not isinstance(event, Turn) or event.turn_number > 1:
                    yield event

    return replace(parts, agent=changed)
