"""The plainest chat server there is: it says what it was told, over FastAPI's StreamingResponse."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Chat(BaseModel):
    message: str


async def answer(message: str) -> AsyncIterator[str]:
    for start in range(0, len(message), 8):
        await asyncio.sleep(0.02)
        if start and message.startswith("crash"):
            raise RuntimeError("boom: /srv/app/secret")
        content = {"content": message[start : start + 8]}
        yield f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/chat")
async def chat(request: Chat) -> StreamingResponse:
    return StreamingResponse(answer(request.message), media_type="text/event-stream")
