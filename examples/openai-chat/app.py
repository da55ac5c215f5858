"""A chat server over the openai SDK, as many are written: the model's words, then `[DONE]`."""

import json
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel

app = FastAPI()
client = AsyncOpenAI()  # OPENAI_API_KEY and OPENAI_BASE_URL, from the environment
MODEL = os.environ.get("CHAT_MODEL", "gpt-4o-mini")


class Chat(BaseModel):
    message: str


def event(payload: dict[str, str]) -> str:
    return f"data: {json.dumps(payload)}\n\n"


async def answer(message: str) -> AsyncIterator[str]:
    try:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": message},
            ],
            stream=True,
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield event({"content": chunk.choices[0].delta.content})
    except Exception as error:
        yield event({"error": str(error)})
    yield "data: [DONE]\n\n"


@app.post("/chat")
async def chat(request: Chat) -> StreamingResponse:
    return StreamingResponse(answer(request.message), media_type="text/event-stream")
