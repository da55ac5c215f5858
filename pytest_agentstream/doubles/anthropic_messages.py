"""Anthropic Messages (anthropic-sdk-python 2.11, `types`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles.anthropic_schemas import with_bounds
from pytest_agentstream.doubles.failing import MESSAGES
from pytest_agentstream.doubles.speaking import (
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentstream.doubles.calls import DialectName
    from pytest_agentstream.doubles.script import Finish
    from pytest_agentstream.doubles.turns import Place

KINDS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

STOP_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
}


class AnthropicMessages:
    """The dialect of `POST /v1/messages`."""

    name: DialectName = "anthropic"
    garbage = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":\n\n'

    def read(self, body: Mapping[str, Any]) -> Asked:
        if not body.get("messages"):
            raise BadRequest("messages: must not be empty")
        entries = [Entry("asked", texts(body.get("system")))]
        for message in objects(body, "messages"):
            entries += _entries(message)
        barred = inner(body, "tool_choice", "type") == "none"
        tools = () if barred else objects(body, "tools")
        return Asked(
            body=body,
            key=key_of(body),
            model=model(body),
            streaming=body.get("stream") is True,
            entries=entries,
            tools=offered((t.get("name"), t["input_schema"]) for t in tools if "input_schema" in t),
            choice=_choice(body.get("tool_choice")),
            form=_form(body),
        )

    def failure(self, status: int, message: str, param: str | None = None) -> Mapping[str, Any]:
        kind = KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def encoder(self, asked: Asked, after: Place | None) -> MessageEncoder:
        return MessageEncoder(asked, self)


def _entries(message: Mapping[str, Any]) -> Iterator[Entry]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    if message.get("role") == "assistant":
        yield Entry("assistant", texts(parts), any(inner(p, "type") == "tool_use" for p in parts))
        return
    results = [part for part in parts if inner(part, "type") == "tool_result"]
    if results:
        yield Entry("tool", texts(results))
    if len(results) < len(parts):
        yield Entry("asked", texts([part for part in parts if part not in results]))


def _choice(value: Any) -> Choice:
    match value:
        case {"type": "any"}:
            return Choice(any_tool=True)
        case {"type": "tool", "name": str(name)}:
            return Choice(name)
    return Choice()


def _form(body: Mapping[str, Any]) -> Any:
    for value in (inner(body, "output_config", "format"), body.get("output_format")):
        if inner(value, "type") == "json_schema":
            return with_bounds(inner(value, "schema")) or JSON_OBJECT
    return None


@dataclass(slots=True)
class MessageEncoder:
    """One message."""

    asked: Asked
    dialect: AnthropicMessages
    blocks: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    is_open: bool = False
    tokens: int = 0
    stop_reason: str | None = None

    def begin(self) -> Iterator[bytes]:
        yield _event("message_start", message=self._message([], 0))
        yield _event("ping")

    def text(self, piece: str) -> Iterator[bytes]:
        if not (self.is_open and self.blocks[-1]["type"] == "text"):
            yield from self._open({"type": "text", "text": "", "citations": None})
        self.pieces.append(piece)
        yield self._delta({"type": "text_delta", "text": piece})

    def call(self, name: str) -> Iterator[bytes]:
        number = f"{self.asked.key}{len(self.blocks)}"
        yield from self._open(
            {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        )

    def arguments(self, piece: str) -> Iterator[bytes]:
        self.pieces.append(piece)
        yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def finish(self, reason: Finish | None, *, says: bool, done: bool) -> Iterator[bytes]:
        yield from self._close()
        called = any(block["type"] == "tool_use" for block in self.blocks)
        if says:
            natural = "tool_use" if called else "end_turn"
            self.stop_reason = STOP_REASONS[reason] if reason else natural
            yield _event(
                "message_delta",
                delta={"stop_reason": self.stop_reason, "stop_sequence": None},
                usage={"input_tokens": self.asked.words, "output_tokens": self.tokens},
            )
        if done:
            yield _event("message_stop")

    def error(self, status: int) -> Iterator[bytes]:
        yield event(self.dialect.failure(status, MESSAGES[status]), "error")

    def whole(self) -> Mapping[str, Any]:
        return self._message(self.blocks, self.tokens)

    def _open(self, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        yield _event("content_block_start", index=len(self.blocks), content_block=block)
        self.blocks.append(dict(block))
        self.is_open = True

    def _close(self) -> Iterator[bytes]:
        if self.is_open:
            block = self.blocks[-1]
            said = "".join(self.pieces)
            block |= {"text": said} if block["type"] == "text" else {"input": _parsed(said)}
            self.pieces.clear()
            self.is_open = False
            yield _event("content_block_stop", index=len(self.blocks) - 1)

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        self.tokens += 1
        return _event("content_block_delta", index=len(self.blocks) - 1, delta=delta)

    def _message(self, content: list[dict[str, Any]], tokens: int) -> Mapping[str, Any]:
        return {
            "id": f"msg_{self.asked.key}",
            "type": "message",
            "role": "assistant",
            "model": self.asked.model,
            "content": content,
            "stop_reason": self.stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": self.asked.words,
                "output_tokens": tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "service_tier": "standard",
            },
        }


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)


def _parsed(text: str) -> Any:
    # in one piece the arguments are an object, so text that is none can only come as itself
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {"arguments": text}
