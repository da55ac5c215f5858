"""OpenAI chat completions (openai-python 3.52, `types/chat`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles import openai_errors
from pytest_agentstream.doubles.failing import MESSAGES
from pytest_agentstream.doubles.speaking import (
    CREATED,
    JSON_OBJECT,
    Asked,
    BadRequest,
    Choice,
    event,
    inner,
    key_of,
    model,
    objects,
    offered,
    texts,
)
from pytest_agentstream.doubles.turns import Entry
from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentstream.doubles.calls import DialectName
    from pytest_agentstream.doubles.script import Finish
    from pytest_agentstream.doubles.turns import Place

DONE = b"data: [DONE]\n\n"


class OpenAiChat:
    """The dialect of `POST /v1/chat/completions`."""

    name: DialectName = "openai-chat"
    garbage = b'data: {"id":"chatcmpl-garbage","choices":[{"delta":\n\n'

    def read(self, body: Mapping[str, Any]) -> Asked:
        if not body.get("messages"):
            raise BadRequest("`messages` must not be empty", "messages")
        if body.get("n") not in (None, 1):
            raise BadRequest(f"the double gives one choice; found {shown(body['n'])}", "n")
        tools = () if body.get("tool_choice") == "none" else objects(body, "tools")
        functions = [tool.get("function") for tool in tools]
        return Asked(
            body=body,
            key=key_of(body),
            model=model(body),
            streaming=body.get("stream") is True,
            entries=[_entry(message) for message in objects(body, "messages")],
            tools=offered((inner(f, "name"), inner(f, "parameters")) for f in functions),
            choice=_choice(body.get("tool_choice")),
            form=_form(body.get("response_format")),
        )

    def failure(self, status: int, message: str, param: str | None = None) -> Mapping[str, Any]:
        return openai_errors.failure(status, message, param)

    def encoder(self, asked: Asked, after: Place | None) -> ChatEncoder:
        return ChatEncoder(asked)


def _entry(message: Mapping[str, Any]) -> Entry:
    match message.get("role"):
        case "assistant":
            return Entry(
                "assistant",
                texts(message),
                bool(message.get("tool_calls") or message.get("function_call")),
            )
        case "tool" | "function":
            return Entry("tool", texts(message.get("content")))
    return Entry("asked", texts(message.get("content")))


def _choice(value: Any) -> Choice:
    match value:
        case "required":
            return Choice(any_tool=True)
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice(name)
        case {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}:
            return Choice(any_tool=True)
    return Choice()


def _form(value: Any) -> Any:
    match inner(value, "type"):
        case "json_schema":
            return inner(value, "json_schema", "schema") or JSON_OBJECT
        case "json_object":
            return JSON_OBJECT
    return None


@dataclass(slots=True)
class ChatEncoder:
    """One chat completion."""

    asked: Asked
    said: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    finish_reason: str | None = None

    def begin(self) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})

    def text(self, piece: str) -> Iterator[bytes]:
        self.said.append(piece)
        self.tokens += 1
        yield self._chunk({"content": piece})

    def call(self, name: str) -> Iterator[bytes]:
        number = len(self.tool_calls)
        begun = {
            "id": f"call_{self.asked.key}{number}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield self._chunk({"tool_calls": [{"index": number, **begun}]})
        self.tool_calls.append({**begun, "function": {"name": name, "arguments": ""}})

    def arguments(self, piece: str) -> Iterator[bytes]:
        self.tool_calls[-1]["function"]["arguments"] += piece
        self.tokens += 1
        number = len(self.tool_calls) - 1
        yield self._chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})

    def finish(self, reason: Finish | None, *, says: bool, done: bool) -> Iterator[bytes]:
        if says:
            self.finish_reason = reason or ("tool_calls" if self.tool_calls else "stop")
            yield self._chunk({}, self.finish_reason)
        if self._counts:
            yield event(self._head("chat.completion.chunk") | {"choices": [], "usage": self._usage})
        if done:
            yield DONE

    def error(self, status: int) -> Iterator[bytes]:
        yield event(openai_errors.failure(status, MESSAGES[status]))

    def whole(self) -> Mapping[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self.said) if self.said or not self.tool_calls else None,
            "refusal": None,
            "annotations": [],
        }
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish_reason,
        }
        return self._head("chat.completion") | {"choices": [choice], "usage": self._usage}

    @property
    def _counts(self) -> bool:
        return inner(self.asked.body, "stream_options", "include_usage") is True

    @property
    def _usage(self) -> Mapping[str, Any]:
        words = self.asked.words
        return {
            "prompt_tokens": words,
            "completion_tokens": self.tokens,
            "total_tokens": words + self.tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.asked.key}",
            "object": kind,
            "created": CREATED,
            "model": self.asked.model,
            "service_tier": "default",
            "system_fingerprint": "fp_double",
        }

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._counts else {}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]} | usage)
