"""A chat app on agent-event-stream 0.1.0, written as that package's own README writes one.

`POST /chat {"message": "MODE REST"}`: the first word selects what the agent does. What becomes of
it on the wire is the doing of the package, of FastAPI and of uvicorn.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from agent_stream import AgentStreamEmitter, TokenBatcher
from agent_stream.fastapi import agent_stream_response
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

SECRET = "secret-path=/srv/app"  # planted in exceptions: no client may ever see it

app = FastAPI(title="agent-event-stream, under test")


class ChatRequest(BaseModel):
    """What the user says."""

    message: str


@app.post("/chat")
async def chat(request: ChatRequest) -> StreamingResponse:
    """Stream one run of the agent."""
    mode, _, rest = request.message.partition(" ")
    return agent_stream_response(run(mode, rest))


async def run(mode: str, rest: str) -> AsyncGenerator[str, None]:
    """Do as the mode says; `rest` is the length of a pause in seconds, or the text to echo."""
    emitter = AgentStreamEmitter()
    # before a pause longer than usual, so that a busy machine takes the burst for one, too
    batcher = TokenBatcher(interval_ms={"long": 0, "pause": 400}.get(mode, 50))
    if mode == "crash-first":
        raise RuntimeError(f"boom before the first event: {SECRET}")
    if mode == "slow-start":
        await asyncio.sleep(float(rest))
    yield emitter.thinking("Step 1")
    if mode == "tool":
        async for event in use_a_tool(emitter, float(rest)):
            yield event
    count = 0
    async for text in model(mode, rest):
        count += 1
        if batched := batcher.add(text):
            yield emitter.token(batched)
        if count == 4 and mode == "pause":
            await asyncio.sleep(float(rest))
        if count == 6 and mode == "crash":
            raise RuntimeError(f"boom mid-stream: {SECRET}")
        if count == 6 and mode == "caught":
            yield emitter.error("provider_error", "upstream failed")
            yield emitter.done()
            return
    if remaining := batcher.flush():
        yield emitter.token(remaining)
    if mode != "forget-done":
        yield emitter.done(message_id="msg_1", num_turns=1, model="fake")


async def use_a_tool(emitter: AgentStreamEmitter, seconds: float) -> AsyncIterator[str]:
    """Call a tool that takes a while, with a turn, progress and a creation around it."""
    yield emitter.turn(1, total_tools=1)
    yield emitter.progress("search", 0, "searching")
    yield emitter.tool_use("search", "tu_1", "query=foo")
    await asyncio.sleep(seconds)
    yield emitter.tool_result("search", "tu_1", "3 results", duration_ms=int(seconds * 1000))
    yield emitter.progress("search", 100, "found")
    yield emitter.creation("note", 1, "tu_1", [{"title": "3 results"}])


async def model(mode: str, rest: str) -> AsyncIterator[str]:
    """Stand in for a model: 12 words, in one burst before a pause, or what the mode wants."""
    texts, every = [f"word{number} " for number in range(12)], 0.02
    if mode == "pause":
        every = 0.0
    elif mode == "long":
        texts, every = [f"word{number} " for number in range(300)], 0.005
    elif mode == "echo":
        texts = [rest[start : start + 8] for start in range(0, len(rest), 8)]
    for text in texts:
        await asyncio.sleep(every)
        yield text
