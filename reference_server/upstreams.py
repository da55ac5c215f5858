"""The two upstreams: a conversation with a model, through OpenAI's and Anthropic's own SDKs.

Both SDKs read base URL and credentials from the environment. They are imported when they are first
needed, since that takes most of a second, and in a thread: a loop that is held loses its leases.
`prepare` does it beforehand.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from reference_server.upstream_failures import Failed, failed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
"""The model that is asked for; a double takes any."""

RETRIES = 1
"""How often a call is tried again: after about half a second, or when `Retry-After` says."""

CONNECT = 5.0
MOST_TOKENS = 1024
PLACEHOLDER = "unset"
"""Stands in for a missing key: an upstream on loopback asks for none, others answer 401."""

TOOL = "look_up"
ABOUT = "Looks something up."
ARGUMENTS = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call, whole; `arguments` are JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why the model stopped; `unsaid` where it never said so."""

    why: Literal["stop", "tools", "length", "content_filter", "unsaid"]


Piece: TypeAlias = Words | Called | Stopped | Failed


class Conversation(Protocol):
    """What is said between one run and its model."""

    def turn(self) -> AsyncGenerator[Piece]:
        """Ask for the next turn: words, then the calls, then why it stopped; or `Failed`."""

    def answer(self, call: Called, result: str) -> None:
        """Put the result of a call into the next turn's request."""


def missing(upstream: str) -> str | None:
    """Return what to install where the upstream's SDK is missing, or None."""
    if find_spec(upstream) is not None:
        return None
    return (
        f"The package {upstream} is not installed, so no model can be asked: "
        "pip install 'pytest-agentstream[upstream]'"
    )


def prepare(upstream: str) -> None:
    """Import the SDK if it is installed, and what it imports later, so that no run waits for it."""
    if missing(upstream) is None:
        _imported(upstream)


@cache
def _imported(upstream: str) -> Any:
    """The SDK, with all that it imports when a client is first made."""
    sdk = import_module(upstream)
    CONVERSATIONS[upstream]("", None, patience=CONNECT).made(sdk)
    return sdk


@cache
def _tls() -> ssl.SSLContext:
    """One context for all: to make one takes longer than a call on loopback."""
    return ssl.create_default_context()


def paired(text: str) -> str:
    """Put the halves of surrogate pairs together, as they come in two pieces: UTF-8 has no halves.

    A half that nothing completes becomes U+FFFD.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class OpenAiChat:
    """A conversation over `chat.completions`."""

    def __init__(self, message: str, base_url: str | None, *, patience: float) -> None:
        self._base_url = base_url
        self._patience = patience
        self._messages: list[Any] = [{"role": "user", "content": message}]

    async def turn(self) -> AsyncGenerator[Piece]:
        """See `Conversation.turn`."""
        client, completions = self.made(await asyncio.to_thread(_imported, "openai"))
        said, calls = "", _Calls()
        stopped: Stopped | None = None
        function = {"name": TOOL, "description": ABOUT, "parameters": ARGUMENTS}
        try:
            async with (
                client,
                await completions.create(
                    model=MODELS["openai"],
                    messages=self._messages,
                    stream=True,
                    tools=[{"type": "function", "function": function}],
                ) as chunks,
            ):
                async for chunk in chunks:
                    for choice in chunk.choices:
                        if choice.delta.content:
                            said += choice.delta.content
                            yield Words(choice.delta.content)
                        for part in choice.delta.tool_calls or ():
                            named = part.function
                            calls.add(part.index, part.id, named.name, named.arguments)
                        if choice.finish_reason is not None:
                            stopped = Stopped(_OPENAI.get(choice.finish_reason, "stop"))
        except Exception as error:
            yield failed(error)
            return
        found = calls.whole if stopped is not None else []
        self._messages.append({"role": "assistant", "content": paired(said) or None})
        if found:
            self._messages[-1]["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in found
            ]
        for call in found:
            yield call
        yield stopped or Stopped("unsaid")

    def answer(self, call: Called, result: str) -> None:
        """See `Conversation.answer`."""
        self._messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

    def made(self, sdk: Any) -> tuple[Any, Any]:
        """Return a client, and what of it is called."""
        client = sdk.AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or PLACEHOLDER,
            base_url=self._base_url,
            max_retries=RETRIES,
            timeout=sdk.Timeout(self._patience, connect=min(CONNECT, self._patience)),
            http_client=sdk.DefaultAsyncHttpxClient(verify=_tls()),
        )
        return client, client.chat.completions


_OPENAI: Mapping[str, Literal["stop", "tools", "length", "content_filter"]] = {
    "tool_calls": "tools",
    "length": "length",
    "content_filter": "content_filter",
}
_ANTHROPIC: Mapping[str, Literal["stop", "tools", "length", "content_filter"]] = {
    "tool_use": "tools",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class AnthropicMessages:
    """A conversation over `messages`."""

    def __init__(self, message: str, base_url: str | None, *, patience: float) -> None:
        self._base_url = base_url
        self._patience = patience
        self._messages: list[Any] = [{"role": "user", "content": message}]

    async def turn(self) -> AsyncGenerator[Piece]:
        """See `Conversation.turn`."""
        client, messages = self.made(await asyncio.to_thread(_imported, "anthropic"))
        said, calls = "", _Calls()
        stopped, whole = Stopped("unsaid"), False
        try:
            async with (
                client,
                await messages.create(
                    model=MODELS["anthropic"],
                    max_tokens=MOST_TOKENS,
                    messages=self._messages,
                    stream=True,
                    tools=[{"name": TOOL, "description": ABOUT, "input_schema": ARGUMENTS}],
                ) as events,
            ):
                async for event in events:
                    if event.type == "content_block_start":
                        block = event.content_block
                        if block.type == "tool_use":
                            calls.add(event.index, block.id, block.name, "")
                    elif event.type == "content_block_delta":
                        if event.delta.type == "text_delta":
                            said += event.delta.text
                            yield Words(event.delta.text)
                        elif event.delta.type == "input_json_delta":
                            calls.add(event.index, None, None, event.delta.partial_json)
                    elif event.type == "message_delta" and event.delta.stop_reason is not None:
                        stopped = Stopped(_ANTHROPIC.get(event.delta.stop_reason, "stop"))
                    elif event.type == "message_stop":
                        whole = True
        except Exception as error:
            yield failed(error)
            return
        found = calls.whole if whole else []
        blocks: list[dict[str, Any]] = [{"type": "text", "text": paired(said)}] if said else []
        for call in found:
            used = {"id": call.id, "name": call.name, "input": _object(call.arguments)}
            blocks.append({"type": "tool_use", **used})
        self._messages.append({"role": "assistant", "content": blocks})
        for call in found:
            yield call
        yield stopped if whole else Stopped("unsaid")

    def answer(self, call: Called, result: str) -> None:
        """See `Conversation.answer`."""
        block = {"type": "tool_result", "tool_use_id": call.id, "content": result}
        if self._messages[-1]["role"] == "user":
            self._messages[-1]["content"].append(block)
        else:
            self._messages.append({"role": "user", "content": [block]})

    def made(self, sdk: Any) -> tuple[Any, Any]:
        """Return a client, and what of it is called."""
        client = sdk.AsyncAnthropic(
            api_key=os.environ.get("ANTHROPIC_API_KEY") or PLACEHOLDER,
            base_url=self._base_url,
            max_retries=RETRIES,
            timeout=sdk.Timeout(self._patience, connect=min(CONNECT, self._patience)),
            http_client=sdk.DefaultAsyncHttpxClient(verify=_tls()),
        )
        return client, client.messages


CONVERSATIONS: Mapping[str, type[OpenAiChat | AnthropicMessages]] = {
    "openai": OpenAiChat,
    "anthropic": AnthropicMessages,
}


def _object(text: str) -> dict[str, Any]:
    """The arguments as the request repeats them; what is no object is not repeated."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class _Calls:
    """Tool calls as their parts come in, by their index in the turn."""

    parts: dict[int, list[str]] = field(default_factory=dict)

    def add(self, index: int, id_: str | None, name: str | None, arguments: str | None) -> None:
        part = self.parts.setdefault(index, ["", "", ""])
        for place, text in enumerate((id_, name, arguments)):
            part[place] += text or ""

    @property
    def whole(self) -> list[Called]:
        return [Called(id_, name, text or "{}") for id_, name, text in self.parts.values() if name]
