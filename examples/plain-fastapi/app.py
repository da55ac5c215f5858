"""The plainest chat server there is: FastAPI, a StreamingResponse, and `data:` lines by hand."""

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
    for number in range(8):
        await asyncio.sleep(0.02)
        if message == "crash" and number == 4:
            raise RuntimeError("boom: /srv/app/secret")
        yield f"data: {json.dumps({'content': f'word{number} '})}\n\n"
    yield "data: [DONE]\n\n"


@app.post("/chat")
async def chat(request: Chat) -> StreamingResponse:
    return StreamingResponse(answer(request.message), media_type="text/event-stream")
