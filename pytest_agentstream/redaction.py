"""Redaction: secrets that must not leave the session, in whatever form they come back.

1. A secret is what a template took from the environment, what a setup step captured, the value of a
   header or cookie that carries credentials, and a password in the URL.
2. It is found as it is, percent-encoded, and escaped as JSON does it.
3. In text it becomes `[redacted]`. In recorded bytes each byte of it becomes `*`, so that offsets,
   chunks and lines stay what they were.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, AnyStr
from urllib.parse import quote, quote_plus

from pytest_agentstream.recording import Chunk, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_agentstream.recording import End, Head, Headers, Recording, Run

SHORTEST_SECRET = 4
"""Characters; anything shorter is found everywhere, and protects nothing."""

SHORTEST_COOKIE = 8
"""Characters; shorter values of cookies are words such as `true`, not sessions."""

_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE)

REDACTED = "[redacted]"
CREDENTIALS = frozenset(
    {"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "api-key"}
)
"""Headers whose values are credentials, in lower case."""


class Redactor:
    """Replace secrets in text, and in what was recorded; more of them may become known later."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._compile()
        self.learn(secrets)

    def __call__(self, text: str) -> str:
        return self._text.sub(REDACTED, text)

    def beginning(self, data: str | bytes, length: int) -> str:
        """The first `length` characters, or bytes, redacted; a secret cut there does not show."""
        reach = length + self._longest
        if isinstance(data, bytes):
            pieces = _pieces(self._bytes, data, length, reach, REDACTED.encode())
            return b"".join(pieces).decode("utf-8", "replace")
        return "".join(_pieces(self._text, data, length, reach, REDACTED))

    def header(self, name: str, value: str) -> str:
        """A header's value, unless the header is made to carry credentials."""
        return REDACTED if name.lower() in CREDENTIALS else self(value)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take more secrets; those under SHORTEST_SECRET characters are left alone."""
        new = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET} - self._secrets
        if new:
            self._secrets |= new
            self._compile()

    def learn_from(self, recordings: Iterable[Recording]) -> None:
        """Take the credentials that were sent or received in these exchanges."""
        for one in recordings:
            received = one.head.headers if one.head else ()
            for name, value in (*one.request.headers, *received):
                self.learn(secrets_in(name, value))

    def run(self, run: Run) -> Run:
        """A run without its secrets, fit to be kept in a file."""
        exchanges = tuple(self.recording(each) for each in run.exchanges)
        return replace(run, exchanges=exchanges, synthetic=self(run.synthetic), captured=())

    def recording(self, recording: Recording) -> Recording:
        """An exchange without its secrets; a body in a content coding is kept decoded."""
        chunks, head, notes = recording.chunks, recording.head, recording.notes
        if recording.coding and self._bytes.search(recording.body):
            chunks, head = recording.content, _uncoded(recording.head)
            notes = (*notes, f"the content coding {recording.coding} was undone to redact secrets")
        request = recording.request
        return replace(
            recording,
            request=Request(
                request.method,
                self(request.url),
                self._headers(request.headers),
                self._bytes.sub(_stars, request.body),
            ),
            head=head and self._head(head),
            chunks=self._chunks(chunks),
            end=self._end(recording.end),
            notes=tuple(map(self, notes)),
        )

    def _head(self, head: Head) -> Head:
        return replace(head, reason=self(head.reason), headers=self._headers(head.headers))

    def _headers(self, headers: Headers) -> Headers:
        return tuple((name, self.header(name, value)) for name, value in headers)

    def _end(self, end: End) -> End:
        return replace(end, detail=self(end.detail))

    def _chunks(self, chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
        """The chunks with secrets starred out, also those that stand across a border."""
        body = b"".join(chunk.data for chunk in chunks)
        masked = self._bytes.sub(_stars, body)
        if masked == body:
            return chunks
        made, start = [], 0
        for chunk in chunks:
            made.append(Chunk(chunk.at, masked[start : start + len(chunk.data)]))
            start += len(chunk.data)
        return tuple(made)

    def _compile(self) -> None:
        forms = sorted({f for secret in self._secrets for f in _forms(secret)}, key=len)[::-1]
        raw = [form.encode("utf-8", "replace") for form in forms]
        self._longest = max(map(len, raw), default=0)
        # "(?!)" never matches
        self._text = re.compile("|".join(map(re.escape, forms)) or "(?!)")
        self._bytes = re.compile(b"|".join(map(re.escape, raw)) or b"(?!)")


def names_secret(variable: str) -> bool:
    """Whether a variable of the environment holds a secret, by its name."""
    return _SECRET.search(variable) is not None


def secrets_in(name: str, value: str) -> list[str]:
    """What is secret in a header that carries credentials: the value, behind its scheme too."""
    match name.lower():
        case "cookie":
            pairs = value.split(";")
        case "set-cookie":
            pairs = value.split(";")[:1]
        case lower if lower in CREDENTIALS:
            return [value, value.partition(" ")[2].strip()]
        case _:
            return []
    values = [pair.partition("=")[2].strip().strip('"') for pair in pairs]
    return [each for each in values if len(each) >= SHORTEST_COOKIE]


def _forms(secret: str) -> set[str]:
    encoded = {quote(secret, safe=safe, errors="replace") for safe in ("", "/")}
    encoded.add(quote_plus(secret, errors="replace"))
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in encoded}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    slashed = {form.replace("/", "\\/") for form in escaped}
    as_header = {secret.encode("utf-8", "replace").decode("latin-1")}
    return {secret} | encoded | lower | escaped | slashed | as_header


def _pieces(
    pattern: re.Pattern[AnyStr], data: AnyStr, length: int, reach: int, mark: AnyStr
) -> list[AnyStr]:
    kept: list[AnyStr] = []
    done = 0
    for found in pattern.finditer(data, 0, reach):
        if found.start() >= length:
            break
        kept.append(data[done : found.start()])
        kept.append(mark)
        done = found.end()
    kept.append(data[done : max(done, length)])
    return kept


def _stars(found: re.Match[bytes]) -> bytes:
    return b"*" * len(found[0])


def _uncoded(head: Head | None) -> Head | None:
    if head is None:
        return None
    kept = tuple(pair for pair in head.headers if pair[0].lower() != "content-encoding")
    return replace(head, headers=kept)
