"""Cookies: those of one run, kept and sent as a browser would (RFC 6265). Sans-IO."""

from __future__ import annotations

from email.message import Message
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, cast
from urllib.request import Request

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.client import HTTPResponse

    from pytest_agentstream.recording import Headers, Recording


class Jar:
    """The cookies of one run."""

    def __init__(self) -> None:
        self._cookies = CookieJar()
        self._put_back: dict[str, str] = {}

    @classmethod
    def of(cls, exchanges: Iterable[Recording]) -> Jar:
        """Return the cookies as they stood after these exchanges, with those that were sent."""
        jar = cls()
        for recording in exchanges:
            for name, value in recording.request.headers:
                if name.lower() == "cookie":
                    jar._put_back.update(_pairs(value))
            if recording.head is not None:
                jar.take(recording.request.url, recording.head.headers)
        return jar

    def header(self, url: str) -> str | None:
        """Return the Cookie header for a request to `url`, or None where there is none to send."""
        request = Request(url)
        self._cookies.add_cookie_header(request)
        sent = self._put_back | dict(_pairs(request.get_header("Cookie") or ""))
        return "; ".join(f"{name}={value}" for name, value in sent.items()) or None

    def take(self, url: str, headers: Headers) -> None:
        """Keep what the head of an answer from `url` sets."""
        response = _Answer(headers)
        for name in response.set_names:
            self._put_back.pop(name, None)
        self._cookies.extract_cookies(cast("HTTPResponse", response), Request(url))


class _Answer:
    """As much of an answer as the standard library's jar looks at."""

    def __init__(self, headers: Headers) -> None:
        self._message = Message()
        self.set_names: list[str] = []
        for name, value in headers:
            if name.lower() in {"set-cookie", "set-cookie2"}:
                self._message.add_header(name, value)
                self.set_names.append(value.partition("=")[0].strip())

    def info(self) -> Message:
        return self._message


def _pairs(header: str) -> Iterable[tuple[str, str]]:
    for pair in header.split(";"):
        name, equals, value = pair.strip().partition("=")
        if name and equals:
            yield name, value
