"""Play a turn: each of its actions as events, in a stream or all at once."""

from __future__ import annotations

import re
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING

from pytest_agentstream.doubles.failing import HTML, MESSAGES
from pytest_agentstream.doubles.response import JSON
from pytest_agentstream.doubles.script import (
    Cut,
    ErrorEvent,
    Every,
    Garbage,
    Html,
    Say,
    Silence,
    Split,
    Stall,
    Status,
    Tool,
)
from pytest_agentstream.doubles.speaking import compact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_agentstream.doubles.response import Response
    from pytest_agentstream.doubles.script import End, Turn
    from pytest_agentstream.doubles.speaking import Dialect, Encoder

EVENT_STREAM = "text/event-stream; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"
ARGUMENTS = 8  # characters of a piece of a tool's arguments
APART = 0.01  # seconds between the halves of a character, so that they arrive apart

_PIECE = re.compile(r"\S*\s+|\S+")
_MULTI_BYTE = re.compile(rb"[\xc2-\xf4]")


async def play(
    turn: Turn, dialect: Dialect, encoder: Encoder, response: Response, *, streaming: bool
) -> None:
    """Answer with a turn. Raises Gone where the peer goes before it is over."""
    await response.pause(turn.head_after)
    if turn.headless:
        await _instead(turn.end, dialect, response)
    elif streaming:
        await _Stream(turn, dialect, encoder, response).play()
    else:
        await _at_once(turn, dialect, encoder, response)


async def _instead(end: End | None, dialect: Dialect, response: Response) -> None:
    """What comes instead of an answer's head."""
    match end:
        case Status(status, retry_after):
            more = {"retry-after": retry_after} if retry_after else {}
            await response.json(status, dialect.failure(status, MESSAGES[status]), more)
        case Html(status):
            page = HTML.format(status=status, phrase=_phrase(status))
            await response.whole(status, page.encode(), HTML_TYPE)
        case Stall():
            await response.pause(None)
        case _:
            response.cut()


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"


async def _at_once(turn: Turn, dialect: Dialect, encoder: Encoder, response: Response) -> None:
    end = turn.end
    if isinstance(end, ErrorEvent):
        await _instead(Status(end.status), dialect, response)
        return
    spoilt = False
    for action in turn.actions:
        match action:
            case Silence(seconds):
                await response.pause(seconds)
            case Say(text):
                for piece in _pieces(text, halved=False):
                    _exhaust(encoder.text(piece))
            case Tool(name, arguments):
                _exhaust(encoder.call(name or ""))
                _exhaust(encoder.arguments(arguments or ""))
            case Garbage():
                spoilt = True
    _exhaust(encoder.finish(turn.finish, says=turn.says_finish, done=turn.says_done))
    body = compact(encoder.whole())
    if spoilt:
        body = body[: len(body) // 2]
    content_type = turn.content_type or JSON
    if end is None:
        await response.whole(200, body, content_type)
    elif end == Cut("mid-chunk"):
        await response.head(200, content_type)
        await response.half(body)
        response.cut()
    else:
        await response.head(200, content_type, length=len(body))
        await response.data(body[: len(body) // 2])
        if isinstance(end, Stall):
            await response.pause(None)
        response.cut()


def _exhaust(frames: Iterable[bytes]) -> None:
    for _ in frames:
        pass


class _Stream:
    def __init__(self, turn: Turn, dialect: Dialect, encoder: Encoder, response: Response) -> None:
        self._turn = turn
        self._dialect = dialect
        self._encoder = encoder
        self._response = response
        self._every = turn.every
        self._split = turn.split
        self._pieces = 0
        self._begun = False

    async def play(self) -> None:
        turn, encoder, response = self._turn, self._encoder, self._response
        await response.head(
            200, turn.content_type or EVENT_STREAM, more={"cache-control": "no-cache"}
        )
        for action in turn.actions:
            match action:
                case Say(text):
                    await self._say(text)
                case Tool(name, arguments):
                    await self._call(name or "", arguments or "")
                case Silence(seconds):
                    await response.pause(seconds)
                case Every(seconds):
                    self._every = seconds
                case Split(how):
                    self._split = how
                case Garbage():
                    await self._send([self._dialect.garbage])
                case _:
                    await self._fail(action)
                    return
        last = encoder.finish(turn.finish, says=turn.says_finish, done=turn.says_done)
        await self._send(last, ends=True)

    async def _fail(self, end: End) -> None:
        response = self._response
        match end:
            case Stall():
                await response.pause(None)
            case Cut("mid-chunk"):
                *before, last = self._encoder.text(" cut")
                await self._send(before)
                await response.half(last)
                response.cut()
            case ErrorEvent(status):
                await self._send(self._encoder.error(status), ends=True)
            case _:
                response.cut()

    async def _say(self, text: str) -> None:
        for piece in _pieces(text, halved=self._split == "deltas"):
            await self._pace()
            await self._send(self._encoder.text(piece))

    async def _call(self, name: str, arguments: str) -> None:
        await self._pace()
        await self._send(self._encoder.call(name))
        for start in range(0, len(arguments), ARGUMENTS):
            await self._pace()
            await self._send(self._encoder.arguments(arguments[start : start + ARGUMENTS]))

    async def _pace(self) -> None:
        if self._pieces:
            await self._response.pause(self._every)
        self._pieces += 1

    async def _send(self, frames: Iterable[bytes], *, ends: bool = False) -> None:
        # the first events come with the first thing said, so that a silence before it is one
        before = () if self._begun else self._encoder.begin()
        self._begun = True
        parts: list[bytes] = []
        for frame in chain(before, frames):
            found = _MULTI_BYTE.search(frame) if self._split == "bytes" else None
            if found is None:
                parts.append(frame)
            else:
                await self._response.data(*parts, frame[: found.end()])
                await self._response.pause(APART)
                parts = [frame[found.end() :]]
        await (self._response.end(*parts) if ends else self._response.data(*parts))


def _pieces(text: str, *, halved: bool) -> Iterator[str]:
    """The text in pieces that end behind white space, or within characters above U+FFFF."""
    for found in _PIECE.finditer(text):
        piece = found[0]
        if halved:
            units = "".join(_halves(sign) for sign in piece)
            yield from _HALVED.split(units)
        else:
            yield piece


_HALVED = re.compile(r"(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def _halves(sign: str) -> str:
    if sign <= "\uffff":
        return sign
    number = ord(sign) - 0x10000
    return chr(0xD800 + (number >> 10)) + chr(0xDC00 + (number & 0x3FF))
