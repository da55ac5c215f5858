"""Answer a request: which dialect its path speaks, and what goes with it beside calls."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles.anthropic_messages import AnthropicMessages
from pytest_agentstream.doubles.calls import Call
from pytest_agentstream.doubles.choosing import choose
from pytest_agentstream.doubles.connection import Gone
from pytest_agentstream.doubles.openai_chat import OpenAiChat
from pytest_agentstream.doubles.openai_responses import OpenAiResponses
from pytest_agentstream.doubles.playing import play
from pytest_agentstream.doubles.script import ScriptError
from pytest_agentstream.doubles.speaking import CREATED, Asked, BadRequest
from pytest_agentstream.wording import capped, listed, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.doubles.calls import Calls
    from pytest_agentstream.doubles.connection import Connection, Refused, Request
    from pytest_agentstream.doubles.response import Response
    from pytest_agentstream.doubles.speaking import Dialect

CHAT = OpenAiChat()
RESPONSES = OpenAiResponses()
MESSAGES = AnthropicMessages()

CALLED: Mapping[str, Dialect] = {
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    "/messages": MESSAGES,
}
COUNT_TOKENS = "/messages/count_tokens"
MODELS = "/models"
MODEL_NAMES = ("double",)

logger = logging.getLogger(__name__)

_VERSION = re.compile(r"^(/v1)+(?=/|$)")


async def answer(
    connection: Connection, request: Request, response: Response, calls: Calls
) -> None:
    """Answer one request, with 500 where that fails. Raises Gone where the peer goes meanwhile."""
    path = _plain(request.path)
    dialect = _dialect_of(path, request.headers)
    try:
        await _answer(path, request, response, dialect, calls)
    except Gone:
        raise
    except Exception as error:
        told = capped(f"{type(error).__name__}: {error}")
        logger.error("the double failed at %s %s: %s", request.method, shown(request.path), told)
        if connection.awaited:
            why = f"the double failed, which is a fault of its own: {told}"
            await response.json(500, dialect.failure(500, why))
        else:
            response.cut()
    finally:
        if response.call:
            calls.end(response.call, None if response.over else connection.gone_at)


async def _answer(
    path: str, request: Request, response: Response, dialect: Dialect, calls: Calls
) -> None:
    if request.method in {"GET", "HEAD"} and (path == MODELS or path.startswith(f"{MODELS}/")):
        name = path.removeprefix(MODELS).removeprefix("/")
        await response.json(200, _model(name) if name else _models())
    elif path not in CALLED and path != COUNT_TOKENS:
        known = listed(f"/v1{one}" for one in (*CALLED, COUNT_TOKENS, MODELS))
        why = f"the double speaks {known}; found {request.method} {shown(request.path)}"
        await response.json(404, dialect.failure(404, why))
    elif request.method != "POST":
        why = f"expected POST, found {request.method} {shown(request.path)}"
        await response.json(405, dialect.failure(405, why), {"allow": "POST"})
    elif path == COUNT_TOKENS:
        await _count_tokens(request, response)
    else:
        await _record(request, response, dialect, calls)


async def refuse(refusal: Refused, response: Response) -> None:
    """Answer a request that was not read to its end."""
    dialect = _dialect_of(_plain(refusal.path), {})
    body = dialect.failure(refusal.status, str(refusal))
    await response.json(refusal.status, body, {"connection": "close"})


def _plain(path: str) -> str:
    """The path without its version, however often a base URL has put one there."""
    return _VERSION.sub("", path, count=1).rstrip("/")


def _dialect_of(path: str, headers: Mapping[str, str]) -> Dialect:
    if "anthropic-version" in headers or path == COUNT_TOKENS:
        return MESSAGES
    return CALLED.get(path, CHAT)


async def _record(request: Request, response: Response, dialect: Dialect, calls: Calls) -> None:
    call = response.call = Call(request.path, dialect.name, streaming=False, began=time.monotonic())
    calls.begin(call)
    await _speak(request, response, dialect, call)


async def _speak(request: Request, response: Response, dialect: Dialect, call: Call) -> None:
    try:
        asked = _read(request, dialect)
        call.streaming = asked.streaming
        response.request_id = f"req_{asked.key}"
        chosen = choose(asked)
    except ScriptError as error:
        call.script = error.source
        await response.json(400, dialect.failure(400, str(error), "messages"))
    except BadRequest as error:
        await response.json(400, dialect.failure(400, str(error), error.param))
    else:
        if chosen.script:
            call.script, call.tag = chosen.script.source, chosen.script.tag
        call.played = chosen.played
        encoder = dialect.encoder(asked, chosen.after)
        await play(chosen.turn, dialect, encoder, response, streaming=asked.streaming)


def _read(request: Request, dialect: Dialect) -> Asked:
    try:
        body: Any = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body must be JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object; found {shown(body)}")
    try:
        return dialect.read(body)
    except RecursionError:
        raise BadRequest("the body nests too deep") from None


async def _count_tokens(request: Request, response: Response) -> None:
    try:
        asked = _read(request, MESSAGES)
    except BadRequest as error:
        await response.json(400, MESSAGES.failure(400, str(error)))
    else:
        await response.json(200, {"input_tokens": asked.words})


def _model(name: str) -> Mapping[str, Any]:
    """A model as both APIs describe it."""
    return {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "double",
        "type": "model",
        "display_name": name,
        "created_at": "2023-11-14T22:13:20Z",
    }


def _models() -> Mapping[str, Any]:
    return {
        "object": "list",
        "data": [_model(name) for name in MODEL_NAMES],
        "has_more": False,
        "first_id": MODEL_NAMES[0],
        "last_id": MODEL_NAMES[-1],
    }
