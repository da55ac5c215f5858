"""What every dialect of the double has: how a request is read, and how an answer is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_agentstream.doubles.calls import DialectName
    from pytest_agentstream.doubles.script import Finish
    from pytest_agentstream.doubles.turns import Entry, Place

CREATED = 1_700_000_000
"""Seconds since 1970 of every answer, so that the same request gets the same bytes."""

KEY_LENGTH = 24

JSON_OBJECT: Mapping[str, Any] = {"type": "object"}


class BadRequest(Exception):
    """A request that gets 400: why, and the parameter that is wrong."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool that the request offers, and the schema of its arguments."""

    name: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Choice:
    """What `tool_choice` demands: a certain tool, any tool, or nothing."""

    name: str | None = None
    any_tool: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, the same for all dialects.

    `key` is what ids are made of, `form` the schema that the text must have.
    """

    body: Mapping[str, Any]
    key: str
    model: str
    streaming: bool
    entries: Sequence[Entry]
    tools: Sequence[Offered] = ()
    choice: Choice = field(default_factory=Choice)
    form: Any = None
    before: Place | None = None

    @property
    def words(self) -> int:
        """How many tokens the request counts for."""
        return sum(len(text.split()) for entry in self.entries for text in entry.texts)


class Encoder(Protocol):
    """One answer as it is written: what each step adds to the stream, event by event.

    `whole` is the same answer in one piece; it is complete once `finish` has been read to its end.
    """

    def begin(self) -> Iterator[bytes]: ...

    def text(self, piece: str) -> Iterator[bytes]: ...

    def call(self, name: str) -> Iterator[bytes]: ...

    def arguments(self, piece: str) -> Iterator[bytes]: ...

    def finish(self, reason: Finish | None, *, says: bool, done: bool) -> Iterator[bytes]: ...

    def error(self, status: int) -> Iterator[bytes]: ...

    def whole(self) -> Mapping[str, Any]: ...


class Dialect(Protocol):
    """How one API is spoken. `read` raises BadRequest."""

    name: DialectName
    garbage: bytes

    def read(self, body: Mapping[str, Any]) -> Asked: ...

    def failure(self, status: int, message: str, param: str | None = None) -> Mapping[str, Any]: ...

    def encoder(self, asked: Asked, after: Place | None) -> Encoder: ...


def event(data: Any, name: str | None = None) -> bytes:
    """Write a server-sent event."""
    line = f"event: {name}\n".encode() if name else b""
    return b"%bdata: %b\n\n" % (line, compact(data))


def compact(data: Any) -> bytes:
    """Write JSON as UTF-8, and what UTF-8 cannot say (half a surrogate pair) as an escape."""
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":")).encode()


def texts(*values: Any) -> tuple[str, ...]:
    """Every text in these values, however deep, in order."""
    found: list[str] = []
    waiting = list(reversed(values))
    while waiting:
        value = waiting.pop()
        match value:
            case str():
                found.append(value)
            case dict():
                waiting.extend(reversed(value.values()))
            case list():
                waiting.extend(reversed(value))
    return tuple(found)


def objects(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects in a request; empty where it is absent or null. Raises BadRequest."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRequest(f"`{name}` must be a list of objects; found {shown(value)}", name)
    return value


def inner(value: Any, *path: str) -> Any:
    """What is at a path of keys, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def key_of(body: Mapping[str, Any]) -> str:
    """KEY_LENGTH hexadecimal digits, the same for the same request."""
    told = json.dumps(body, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:KEY_LENGTH]


def model(body: Mapping[str, Any]) -> str:
    """The model that is asked for. Raises BadRequest."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise BadRequest(f"`model` must be a name; found {shown(name)}", "model")
    return name


def offered(tools: Iterable[tuple[Any, Any]]) -> tuple[Offered, ...]:
    """The tools that have a name."""
    return tuple(
        Offered(name, schema or JSON_OBJECT) for name, schema in tools if isinstance(name, str)
    )
