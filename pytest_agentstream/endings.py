"""Endings: which end of an exchange it is that bytes, or errors, have shown. Sans-IO."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Literal

from pytest_agentstream.recording import EndKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.recording import Head

Trouble = Literal["connecting", "tls", "network", "protocol", "other"]
"""What a transport was at when it failed: in the TLS handshake, at reading HTTP…"""

NO_BODY = frozenset({204, 304})

CAUSES: tuple[tuple[type[BaseException], EndKind], ...] = (
    (socket.gaierror, EndKind.DNS),
    (ConnectionResetError, EndKind.RESET),
    (BrokenPipeError, EndKind.RESET),
    (ConnectionRefusedError, EndKind.REFUSED),
    (ssl.SSLError, EndKind.TLS),
)

TOO_LONG = "Receive buffer too long"

H11: tuple[tuple[str, EndKind], ...] = (
    ("peer closed connection", EndKind.CUT),
    ("peer unexpectedly closed connection", EndKind.CUT),
    ("Server disconnected", EndKind.CUT),
)
"""What h11 and httpcore say of ends that have no exception of their own."""

LONGEST_HEAD = "is longer than 100 KiB, or never ends"
"""Of h11's limit on what it has not understood yet, which httpcore sets."""

TROUBLES: dict[Trouble, EndKind] = {
    "connecting": EndKind.REFUSED,
    "tls": EndKind.TLS,
    "network": EndKind.RESET,
    "protocol": EndKind.PROTOCOL,
    "other": EndKind.PROTOCOL,
}


def natural_end(method: str, head: Head) -> tuple[EndKind, str]:
    """Say how a body ended whose end was seen, and in words (RFC 9112 6.3)."""
    if head.status in NO_BODY or method == "HEAD":
        return EndKind.COMPLETE, "an answer that has no body"
    if head.version not in {"HTTP/1.0", "HTTP/1.1"}:
        return EndKind.COMPLETE, "the end of the stream"
    if head.value("transfer-encoding") is not None and head.version == "HTTP/1.1":
        return EndKind.COMPLETE, "the last chunk"
    if head.value("content-length") is not None:
        return EndKind.COMPLETE, "all of Content-Length"
    return EndKind.CLOSE_DELIMITED, "the connection was closed, the only delimiter of this body"


def failed_end(error: Exception, trouble: Trouble, *, in_body: bool = False) -> tuple[EndKind, str]:
    """Say which end an error is, by what caused it, else by its words; and those words.

    `in_body` says that the head was seen.
    """
    causes = list(_causes(error))
    for kind_of, kind in CAUSES:
        for cause in causes:
            if isinstance(cause, kind_of):
                return kind, str(cause) or str(error) or type(cause).__name__
    words = str(error) or str(causes[-1]) or type(causes[-1]).__name__
    if words.startswith(TOO_LONG):
        what = "a chunk's first line, or the trailer," if in_body else "the response head"
        return EndKind.LIMIT, f"{what} {LONGEST_HEAD}"
    for start, kind in H11:
        if words.startswith(start):
            return kind, words
    return TROUBLES[trouble], words


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
