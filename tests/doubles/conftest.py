"""The double in a thread of its own, the official SDKs as its clients, and raw sockets."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anyio.from_thread import start_blocking_portal
from openai import AsyncOpenAI, OpenAI

from pytest_agentstream.doubles import LlmDouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from anyio.from_thread import BlockingPortal

    from pytest_agentstream.doubles import Call

PATIENCE = 10.0
"""Seconds that anything here may take."""

DIALECTS = ("openai-chat", "openai-responses", "anthropic")
PATHS = {
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
}
ARGUMENTS = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}},
    "required": ["q"],
}


@dataclass
class Heard:
    """What a client made of an answer: in `calls` a name and arguments each."""

    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    reason: str | None = None
    usage: Any = None
    id: str = ""
    chunks: list[Any] = field(default_factory=list)
    failure: Exception | None = None


@dataclass
class Running:
    """A double that runs in another thread."""

    double: LlmDouble
    portal: BlockingPortal

    @property
    def origin(self) -> str:
        return self.double.origin

    @property
    def calls(self) -> Sequence[Call]:
        return self.double.calls

    def wait_for(self, tag: str, *, ended: bool = False, seconds: float = PATIENCE) -> Call:
        return self.portal.call(partial(self.double.wait_for, tag, ended=ended, seconds=seconds))

    def raw(self, dialect: str, text: str, /, **more: Any) -> Raw:
        """Send a request over a socket of raw bytes."""
        return Raw(self.origin, request(PATHS[dialect], json.dumps(body(dialect, text, **more))))


class Raw:
    """Bytes sent on a socket, and what comes back: `data` so far, `pieces` as they arrived."""

    def __init__(self, origin: str, sent: bytes) -> None:
        host, _, port = origin.removeprefix("http://").partition(":")
        self.sock = socket.create_connection((host, int(port)), PATIENCE)
        self.pieces: list[bytes] = []
        self.end = ""
        self.sock.sendall(sent)

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def status(self) -> int:
        return int(self.data.split()[1])

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode().lower()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    def read(self) -> bool:
        """Read once; whether there was something."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.end = "rst"
            return False
        self.end = "" if data else "fin"
        if data:
            self.pieces.append(data)
        return bool(data)

    def read_until(self, ending: bytes) -> Raw:
        while ending not in self.data:
            assert self.read(), self.data
        return self

    def read_all(self) -> Raw:
        while self.read():
            pass
        self.leave()
        return self

    def leave(self) -> None:
        self.sock.close()


def request(
    path: str, content: str | bytes, *headers: str, method: str = "POST", version: str = "1.1"
) -> bytes:
    """A request as it is sent."""
    data = content.encode() if isinstance(content, str) else content
    lines = [f"{method} {path} HTTP/{version}", "Host: double", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + data


def whole_characters(text: str) -> str:
    """Join halves of surrogate pairs."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def script(steps: str) -> str:
    """A message with a script in it."""
    return f"Please: [[agentstream: {steps}]] Thanks."


def tools(dialect: str) -> list[dict[str, Any]]:
    """Two tools as each API wants them."""
    offered = [("search", ARGUMENTS), ("finish", {"type": "object", "properties": {}})]
    match dialect:
        case "openai-chat":
            return [
                {"type": "function", "function": {"name": name, "parameters": schema}}
                for name, schema in offered
            ]
        case "openai-responses":
            return [
                {"type": "function", "name": name, "parameters": schema} for name, schema in offered
            ]
    return [{"name": name, "input_schema": schema} for name, schema in offered]


def body(dialect: str, text: str | list[Any], /, **more: Any) -> dict[str, Any]:
    """A request of that dialect with one message, or with these."""
    messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
    if dialect == "openai-responses":
        return {"model": "m", "input": messages, "stream": True, **more}
    size = {"max_tokens": 100} if dialect == "anthropic" else {}
    return {"model": "m", "messages": messages, "stream": True, **size, **more}


def _client(dialect: str, origin: str, asynchronous: bool) -> Any:
    if dialect == "anthropic":
        kind: Any = AsyncAnthropic if asynchronous else Anthropic
        return kind(base_url=origin, api_key="none", max_retries=0, timeout=PATIENCE)
    kind = AsyncOpenAI if asynchronous else OpenAI
    return kind(base_url=f"{origin}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def _create(dialect: str, client: Any) -> Callable[..., Any]:
    match dialect:
        case "openai-chat":
            create = client.chat.completions.create
        case "openai-responses":
            create = client.responses.create
        case _:
            create = client.messages.create
    made: Callable[..., Any] = create
    return made


@dataclass(frozen=True)
class Speaker:
    """An official SDK, sync or async, that asks and returns what it made of the answer."""

    dialect: str
    asynchronous: bool

    def ask(self, origin: str, text: str | list[Any], /, **more: Any) -> Heard:
        """Ask; what the SDK raises is the `failure`."""
        asked = body(self.dialect, text, **more)
        heard = Heard()
        try:
            if self.asynchronous:
                anyio.run(self._asynchronously, origin, asked, heard.chunks)
            else:
                self._synchronously(origin, asked, heard.chunks)
        except Exception as failure:
            heard.failure = failure
        for chunk in heard.chunks:
            REDUCE[self.dialect, asked["stream"]](heard, chunk)
        return heard

    def _synchronously(self, origin: str, asked: Mapping[str, Any], chunks: list[Any]) -> None:
        with _client(self.dialect, origin, False) as client:
            answer = _create(self.dialect, client)(**asked)
            for chunk in answer if asked["stream"] else [answer]:
                chunks.append(chunk)

    async def _asynchronously(
        self, origin: str, asked: Mapping[str, Any], chunks: list[Any]
    ) -> None:
        async with _client(self.dialect, origin, True) as client:
            answer = await _create(self.dialect, client)(**asked)
            if not asked["stream"]:
                chunks.append(answer)
                return
            async for chunk in answer:
                chunks.append(chunk)


def _chat_chunk(heard: Heard, chunk: Any) -> None:
    heard.id = chunk.id
    heard.usage = chunk.usage or heard.usage
    for choice in chunk.choices:
        heard.text += choice.delta.content or ""
        heard.reason = choice.finish_reason or heard.reason
        for call in choice.delta.tool_calls or ():
            if call.function.name:
                heard.calls.append((call.function.name, ""))
            name, told = heard.calls[call.index]
            heard.calls[call.index] = name, told + call.function.arguments


def _chat_whole(heard: Heard, answer: Any) -> None:
    choice = answer.choices[0]
    heard.id, heard.usage, heard.reason = answer.id, answer.usage, choice.finish_reason
    heard.text = choice.message.content or ""
    calls = choice.message.tool_calls or ()
    heard.calls = [(call.function.name, call.function.arguments) for call in calls]


def _response_event(heard: Heard, event: Any) -> None:
    match event.type:
        case "response.output_text.delta":
            heard.text += event.delta
        case "response.output_item.added" if event.item.type == "function_call":
            heard.calls.append((event.item.name, ""))
        case "response.function_call_arguments.delta":
            name, told = heard.calls[-1]
            heard.calls[-1] = name, told + event.delta
        case "response.completed" | "response.incomplete" | "response.failed":
            streamed = whole_characters(heard.text), heard.calls
            _response_whole(heard, event.response)
            assert (heard.text, heard.calls) == streamed


def _response_whole(heard: Heard, answer: Any) -> None:
    details = answer.incomplete_details
    heard.id, heard.usage = answer.id, answer.usage
    heard.reason = details.reason if details else answer.status
    heard.text = answer.output_text
    calls = [item for item in answer.output if item.type == "function_call"]
    heard.calls = [(call.name, call.arguments) for call in calls]


def _message_event(heard: Heard, event: Any) -> None:
    match event.type:
        case "message_start":
            heard.id = event.message.id
        case "content_block_start" if event.content_block.type == "tool_use":
            heard.calls.append((event.content_block.name, ""))
        case "content_block_delta" if event.delta.type == "text_delta":
            heard.text += event.delta.text
        case "content_block_delta":
            name, told = heard.calls[-1]
            heard.calls[-1] = name, told + event.delta.partial_json
        case "message_delta":
            heard.reason, heard.usage = event.delta.stop_reason, event.usage


def _message_whole(heard: Heard, answer: Any) -> None:
    heard.id, heard.usage, heard.reason = answer.id, answer.usage, answer.stop_reason
    for block in answer.content:
        if block.type == "text":
            heard.text += block.text
        else:
            heard.calls.append((block.name, json.dumps(block.input)))


REDUCE: Mapping[tuple[str, bool], Callable[[Heard, Any], None]] = {
    ("openai-chat", True): _chat_chunk,
    ("openai-chat", False): _chat_whole,
    ("openai-responses", True): _response_event,
    ("openai-responses", False): _response_whole,
    ("anthropic", True): _message_event,
    ("anthropic", False): _message_whole,
}

SPEAKERS = [
    Speaker(dialect, asynchronous) for dialect in DIALECTS for asynchronous in (False, True)
]


def _name(speaker: Speaker) -> str:
    return f"{speaker.dialect}-{'async' if speaker.asynchronous else 'sync'}"


@pytest.fixture(params=SPEAKERS, ids=_name)
def speaker(request: pytest.FixtureRequest) -> Speaker:
    """Each official SDK, sync and async, in each dialect."""
    made: Speaker = request.param
    return made


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect."""
    made: str = request.param
    return made


@pytest.fixture
def double() -> Iterator[Running]:
    """A double, in a thread of its own."""
    made = LlmDouble()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(made):
        yield Running(made, portal)


@pytest.fixture
def leaving() -> Iterator[Callable[[Raw], Raw]]:
    """Remember sockets, and close them when the test is over."""
    opened: list[Raw] = []

    def remember(raw: Raw) -> Raw:
        opened.append(raw)
        return raw

    yield remember
    for raw in opened:
        with suppress(OSError):
            raw.leave()
