"""Recordings in and out of files: JSON Lines, lossless, as docs/recordings.md describes."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PlainValidator, ValidationError

from pytest_agentstream.recording import Chunk, End, EndKind, Head, Phase, Recording, Request, Run
from pytest_agentstream.redaction import CREDENTIALS, REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_agentstream.recording import Headers

FORMAT = "agentstream-recording"
VERSION = 1


class RecordingError(ValueError):
    """A file does not hold recordings as docs/recordings.md describes them."""


def drop_credentials(headers: Headers) -> Headers:
    """Return the headers with `[redacted]` for the value of each that carries a credential."""
    return tuple(
        (name, REDACTED if name.lower() in CREDENTIALS else value) for name, value in headers
    )


def write_recordings(
    path: Path, runs: Sequence[Run], *, redact: Callable[[Headers], Headers] = drop_credentials
) -> None:
    """Write runs to a file, replacing it; `redact` is applied to all headers, of both directions.

    Captured values are not written. Raises OSError.
    """
    with path.open("w", encoding="ascii", newline="\n") as file:
        for line in _lines(runs, redact):
            file.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")


def read_recordings(path: Path) -> list[Run]:
    """Return the runs in a file; raises `RecordingError` naming file and line, and OSError."""
    with path.open("rb") as file:
        lines = _Lines(path, file)
        header = lines.next(_Header, f'a first line with "format": "{FORMAT}"')
        runs = []
        for number in range(header.runs):
            run = lines.next(_RunLine, f"run {number + 1} of {header.runs}").run
            exchanges = tuple(
                lines.next(_ExchangeLine, f"exchange {place + 1} of {run.exchanges}").recording()
                for place in range(run.exchanges)
            )
            runs.append(
                Run(
                    run.scenario,
                    run.control,
                    exchanges,
                    run.synthetic,
                    unwaited=run.unwaited,
                )
            )
        lines.expect_end()
    return runs


def _lines(runs: Sequence[Run], redact: Callable[[Headers], Headers]) -> Iterator[dict[str, Any]]:
    yield {"format": FORMAT, "version": VERSION, "runs": len(runs)}
    for run in runs:
        yield {
            "run": {
                "scenario": run.scenario,
                "control": run.control,
                "synthetic": run.synthetic,
                "unwaited": run.unwaited,
                "exchanges": len(run.exchanges),
            }
        }
        for recording in run.exchanges:
            yield {"exchange": _exchange(recording, redact)}


def _exchange(recording: Recording, redact: Callable[[Headers], Headers]) -> dict[str, Any]:
    request, head, end = recording.request, recording.head, recording.end
    return {
        "request": {
            "method": request.method,
            "url": request.url,
            "headers": redact(request.headers),
            "body": _written(request.body),
        },
        "head": None if head is None else _head(head, redact),
        "chunks": [{"at": chunk.at, "data": _written(chunk.data)} for chunk in recording.chunks],
        "end": {"kind": end.kind, "at": end.at, "phase": end.phase, "detail": end.detail},
        "started": recording.started,
        "connected": recording.connected,
        "lag": recording.lag,
        "denied": recording.denied,
        "timed": recording.timed,
        "notes": recording.notes,
    }


def _head(head: Head, redact: Callable[[Headers], Headers]) -> dict[str, Any]:
    return {
        "status": head.status,
        "reason": head.reason,
        "version": head.version,
        "headers": redact(head.headers),
        "at": head.at,
    }


def _written(data: bytes) -> str | dict[str, str]:
    with suppress(UnicodeDecodeError):
        return data.decode()
    return {"base64": base64.b64encode(data).decode()}


def _read(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and list(value) == ["base64"] and isinstance(value["base64"], str):
        return base64.b64decode(value["base64"], validate=True)
    raise ValueError('expected a text, or {"base64": "…"}')


_Bytes = Annotated[bytes, PlainValidator(_read)]
_Seconds = Annotated[float, Field(allow_inf_nan=False)]
_Headers = tuple[tuple[str, str], ...]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")


_Line = TypeVar("_Line", bound=_Written)


class _Header(_Written):
    format: Literal["agentstream-recording"]
    version: Literal[1]
    runs: NonNegativeInt


class _Run(_Written):
    scenario: str
    control: str
    synthetic: str
    unwaited: str = ""
    exchanges: NonNegativeInt


class _RunLine(_Written):
    run: _Run


class _Request(_Written):
    method: str
    url: str
    headers: _Headers
    body: _Bytes


class _Head(_Written):
    status: int
    reason: str
    version: str
    headers: _Headers
    at: _Seconds


class _Chunk(_Written):
    at: _Seconds
    data: _Bytes


class _End(_Written):
    kind: EndKind
    at: _Seconds
    phase: Phase | None
    detail: str


class _Exchange(_Written):
    request: _Request
    head: _Head | None
    chunks: tuple[_Chunk, ...]
    end: _End
    started: str
    connected: _Seconds | None
    lag: _Seconds
    denied: _Seconds = 0.0
    timed: bool
    notes: tuple[str, ...]


class _ExchangeLine(_Written):
    exchange: _Exchange

    def recording(self) -> Recording:
        read = self.exchange
        request, end = read.request, read.end
        head = None
        if read.head is not None:
            said = read.head
            head = Head(said.status, said.reason, said.version, said.headers, said.at)
        return Recording(
            request=Request(request.method, request.url, request.headers, request.body),
            head=head,
            chunks=tuple(Chunk(chunk.at, chunk.data) for chunk in read.chunks),
            end=End(end.kind, end.at, end.phase, end.detail),
            started=read.started,
            connected=read.connected,
            lag=read.lag,
            denied=read.denied,
            timed=read.timed,
            notes=read.notes,
        )


class _Lines:
    """The lines of one file, each checked as it is read."""

    def __init__(self, path: Path, lines: Iterable[bytes]) -> None:
        self._path = path
        self._lines = iter(lines)
        self._number = 0

    def next(self, kind: type[_Line], what: str) -> _Line:
        self._number += 1
        line = next(self._lines, None)
        if line is None:
            raise self._error(f"the file ends, expected {what}; it is truncated")
        try:
            return kind.model_validate_json(line, strict=True)
        except ValidationError as error:
            if not line.endswith(b"\n"):
                raise self._error(f"half a line, expected {what}; it is truncated") from None
            raise self._error(f"expected {what}; {_complaint(error)}") from None

    def expect_end(self) -> None:
        self._number += 1
        if next(self._lines, None) is not None:
            raise self._error("expected the end of the file, found more than its header says")

    def _error(self, what: str) -> RecordingError:
        return RecordingError(f"{self._path}, line {self._number}: {what}")


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    found = "" if first["type"] in _SHOWN else f", found {_capped(first['input'])}"
    return f"{place}: {first['msg']}{found}" if place else f"{first['msg']}{found}"


_SHOWN = frozenset({"missing", "json_invalid"})


def _capped(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
