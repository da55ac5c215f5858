"""One agent behind two packages: `/sse/MODE` on sse-starlette, `/native/MODE` on FastAPI's own SSE.

`MODE` selects what the agent does. Either endpoint goes on behind `Last-Event-ID`; that is this
app's doing. What becomes of it on the wire is the doing of the packages and of uvicorn.
"""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator
from typing import Annotated

import fastapi.routing
import fastapi.sse
import sse_starlette
from fastapi import FastAPI, Header

PING = float(os.environ.get("PING_SECONDS", "0.4"))
"""Both packages ping every 15 s; the example does not make anyone wait so long."""

RETRY = 100  # ms, for the same reason
SECRET = "secret-path=/srv/app"  # planted in exceptions: no client may ever see it

fastapi.routing._PING_INTERVAL = PING  # there is no public setting for it

app = FastAPI(title="sse-starlette and fastapi.sse, under test")


@app.api_route("/sse/{mode}", methods=["GET", "POST"])
async def sse(
    mode: str,
    text: str = "",
    seconds: float = 0.0,
    last_event_id: Annotated[int | None, Header()] = None,
) -> sse_starlette.EventSourceResponse:
    """Stream one run by sse-starlette: plain text in `data`."""
    start = 0 if last_event_id is None else last_event_id + 1

    async def events() -> AsyncIterator[sse_starlette.ServerSentEvent]:
        async for number, word in agent(mode, start, text, seconds):
            retry = RETRY if number == start else None
            yield sse_starlette.ServerSentEvent(word, event="token", id=str(number), retry=retry)
        yield sse_starlette.ServerSentEvent("[DONE]", event="done")

    return sse_starlette.EventSourceResponse(events(), ping=PING)


@app.api_route(
    "/native/{mode}", methods=["GET", "POST"], response_class=fastapi.sse.EventSourceResponse
)
async def native(
    mode: str,
    text: str = "",
    seconds: float = 0.0,
    last_event_id: Annotated[int | None, Header()] = None,
) -> AsyncIterable[fastapi.sse.ServerSentEvent]:
    """Stream one run by fastapi.sse: JSON in `data`."""
    start = 0 if last_event_id is None else last_event_id + 1
    async for number, word in agent(mode, start, text, seconds):
        retry = RETRY if number == start else None
        yield fastapi.sse.ServerSentEvent(
            data={"text": word}, event="token", id=str(number), retry=retry
        )
    yield fastapi.sse.ServerSentEvent(raw_data="[DONE]", event="done")


async def agent(mode: str, start: int, text: str, seconds: float) -> AsyncIterator[tuple[int, str]]:
    """Say the words of the mode from number `start` on; a mode is the same words each time."""
    words = [f"word{number} " for number in range(100 if mode == "long" else 8)]
    if mode == "echo":
        words = [text[at : at + 8] for at in range(0, len(text), 8)]
    if mode == "crash-first":
        raise RuntimeError(f"boom before the first event: {SECRET}")
    if mode == "slow-start":
        await asyncio.sleep(seconds)
    for number in range(start, len(words)):
        if number == 3 and mode == "crash":
            raise RuntimeError(f"boom mid-stream: {SECRET}")
        if number == 4 and mode == "pause":
            await asyncio.sleep(seconds)
        await asyncio.sleep(seconds if mode == "pauses" else 0.01)
        yield number, words[number]
