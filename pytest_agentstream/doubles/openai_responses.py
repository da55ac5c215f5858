"""OpenAI Responses (openai-python 3.52, `types/responses`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles import openai_errors
from pytest_agentstream.doubles.failing import MESSAGES
from pytest_agentstream.doubles.speaking import (
    CREATED,
    JSON_OBJECT,
    KEY_LENGTH,
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
from pytest_agentstream.doubles.turns import Entry, carried, carry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentstream.doubles.calls import DialectName
    from pytest_agentstream.doubles.script import Finish
    from pytest_agentstream.doubles.turns import Place

PREFIX = "resp_"
REASONS: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}

ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where the request doesn't."""


class OpenAiResponses:
    """The dialect of `POST /v1/responses`."""

    name: DialectName = "openai-responses"
    garbage = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",\n\n'

    def read(self, body: Mapping[str, Any]) -> Asked:
        for name in ("background", "conversation"):
            if body.get(name):
                raise BadRequest(f"the double keeps nothing, so `{name}` is not spoken", name)
        entries = [Entry("asked", texts(body.get("instructions")))]
        given = body.get("input")
        if isinstance(given, str):
            entries.append(Entry("asked", (given,)))
        else:
            entries += [_entry(item) for item in objects(body, "input")]
        usable = () if body.get("tool_choice") == "none" else objects(body, "tools")
        tools = [tool for tool in usable if tool.get("type") == "function"]
        return Asked(
            body=body,
            key=key_of(body),
            model=model(body),
            streaming=body.get("stream") is True,
            entries=entries,
            tools=offered((tool.get("name"), tool.get("parameters")) for tool in tools),
            choice=_choice(body.get("tool_choice")),
            form=_form(inner(body, "text", "format")),
            before=_before(body.get("previous_response_id")),
        )

    def failure(self, status: int, message: str, param: str | None = None) -> Mapping[str, Any]:
        return openai_errors.failure(status, message, param)

    def encoder(self, asked: Asked, after: Place | None) -> ResponseEncoder:
        token = carry(after) if after else ""
        return ResponseEncoder(asked, f"{PREFIX}{asked.key}{token}")


def _entry(item: Mapping[str, Any]) -> Entry:
    kind = str(item.get("type") or "message")
    if kind.endswith("_output"):
        return Entry("tool", texts(item.get("output")))
    if kind == "reasoning" or kind.endswith("_call"):
        return Entry("assistant", texts(item), kind.endswith("_call"))
    if item.get("role") == "assistant":
        return Entry("assistant", texts(item.get("content")))
    return Entry("asked", texts(item.get("content")))


def _before(previous: Any) -> Place | None:
    if not isinstance(previous, str) or not previous.startswith(PREFIX):
        return None
    return carried(previous[len(PREFIX) + KEY_LENGTH :])


def _choice(value: Any) -> Choice:
    match value:
        case "required" | {"type": "allowed_tools", "mode": "required"}:
            return Choice(any_tool=True)
        case {"type": "function", "name": str(name)}:
            return Choice(name)
    return Choice()


def _form(value: Any) -> Any:
    match inner(value, "type"):
        case "json_schema":
            return inner(value, "schema") or JSON_OBJECT
        case "json_object":
            return JSON_OBJECT
    return None


@dataclass(slots=True)
class ResponseEncoder:
    """One response: its items, and the events that build them up."""

    asked: Asked
    id: str
    output: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    is_open: bool = False
    tokens: int = 0
    number: int = 0
    status: str = "in_progress"
    incomplete: Mapping[str, Any] | None = None
    failed: Mapping[str, Any] | None = None

    def begin(self) -> Iterator[bytes]:
        yield self._event("response.created", response=self.whole())
        yield self._event("response.in_progress", response=self.whole())

    def text(self, piece: str) -> Iterator[bytes]:
        if not (self.is_open and self._item["type"] == "message"):
            yield from self._open(
                {
                    "id": f"msg_{self.asked.key}{len(self.output)}",
                    "type": "message",
                    "status": "in_progress",
                    "role": "assistant",
                    "content": [],
                }
            )
            yield self._of_part("response.content_part.added", part=_part(""))
            self._item["content"] = [_part("")]
        self.pieces.append(piece)
        self.tokens += 1
        yield self._of_part("response.output_text.delta", delta=piece, logprobs=[])

    def call(self, name: str) -> Iterator[bytes]:
        number = f"{self.asked.key}{len(self.output)}"
        yield from self._open(
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": f"call_{number}",
                "name": name,
                "arguments": "",
            }
        )

    def arguments(self, piece: str) -> Iterator[bytes]:
        self.pieces.append(piece)
        self.tokens += 1
        yield self._of_item("response.function_call_arguments.delta", delta=piece)

    def finish(self, reason: Finish | None, *, says: bool, done: bool) -> Iterator[bytes]:
        why = REASONS.get(reason or "")
        yield from self._close("incomplete" if why else "completed")
        if not (says and done):
            return
        self.status = "incomplete" if why else "completed"
        self.incomplete = {"reason": why} if why else None
        yield self._event(f"response.{self.status}", response=self.whole())

    def error(self, status: int) -> Iterator[bytes]:
        told = openai_errors.error_object(status, MESSAGES[status])
        code = "rate_limit_exceeded" if status == 429 else "server_error"
        yield self._event("error", code=code, message=told["message"], param=None)
        self._gather()
        self.status = "failed"
        self.failed = {"code": code, "message": told["message"]}
        yield self._event("response.failed", response=self.whole())

    def whole(self) -> Mapping[str, Any]:
        body = self.asked.body
        given = {name: body[name] for name in ECHOED if body.get(name) is not None}
        text = body.get("text")
        over = self.status in {"completed", "incomplete"}
        return {
            "id": self.id,
            "object": "response",
            "created_at": CREATED,
            "status": self.status,
            "background": False,
            "error": self.failed,
            "incomplete_details": self.incomplete,
            "model": self.asked.model,
            "output": [dict(item) for item in self.output],
            **ECHOED,
            **given,
            "text": {**ECHOED["text"], **(text if isinstance(text, dict) else {})},
            "service_tier": "default",
            "store": body.get("store") is not False,
            "usage": self._usage if over else None,
        }

    @property
    def _item(self) -> dict[str, Any]:
        return self.output[-1]

    @property
    def _usage(self) -> Mapping[str, Any]:
        return {
            "input_tokens": self.asked.words,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.asked.words + self.tokens,
        }

    def _open(self, item: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close("completed")
        self.output.append(item)
        self.is_open = True
        yield self._event(
            "response.output_item.added", output_index=len(self.output) - 1, item=item
        )

    def _close(self, status: str) -> Iterator[bytes]:
        if not self.is_open:
            return
        self.is_open = False
        item = self._item
        item["status"] = status
        self._gather()
        if item["type"] == "message":
            part = item["content"][0]
            yield self._of_part("response.output_text.done", text=part["text"], logprobs=[])
            yield self._of_part("response.content_part.done", part=part)
        else:
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield self._of_item("response.function_call_arguments.done", **told)
        yield self._event("response.output_item.done", output_index=len(self.output) - 1, item=item)

    def _gather(self) -> None:
        """Put the pieces that were said into the item that they belong to."""
        if self.pieces:
            part = self._item["content"][0] if self._item["type"] == "message" else self._item
            part["text" if "text" in part else "arguments"] += "".join(self.pieces)
            self.pieces.clear()

    def _of_part(self, kind: str, **fields: Any) -> bytes:
        return self._of_item(kind, content_index=0, **fields)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        place = {"item_id": self._item["id"], "output_index": len(self.output) - 1}
        return self._event(kind, **place, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self.number = self.number, self.number + 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
