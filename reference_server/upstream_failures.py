"""What an SDK's exception means to our clients: whose fault it is, and whether a retry can help.

The SDKs' exceptions have the same names in both, and so are told apart by them: neither SDK need be
installed for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses below 500 at which the same request can succeed later."""

LASTING = frozenset({"authentication_error", "invalid_request_error", "permission_error"})
"""Types of errors in a stream that no retry mends; all others are the upstream's own trouble."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The call failed; `retry_after` is in seconds."""

    kind: str
    message: str
    retryable: bool
    retry_after: float | None = None


def failed(error: Exception) -> Failed:
    """Say what an SDK's exception means; raise it again where it is no failure of the upstream.

    `retryable` follows from who is to blame: an upstream that is overloaded, broken, or cannot be
    reached may do better later; one that refuses the request will refuse it again.
    """
    status = getattr(error, "status_code", None)
    body = getattr(error, "body", None)
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(status, int) and status >= 400:
        return _refused(status, getattr(getattr(error, "response", None), "headers", {}))
    if _types_of(body) & LASTING:
        return Failed("upstream_refused", "The model refuses this request.", False)
    if names & {"APITimeoutError", "TimeoutException"}:
        return Failed("upstream_timeout", "The model did not answer in time.", True)
    if names & {"APIConnectionError", "TransportError"}:
        return Failed("upstream_unreachable", "The connection to the model broke.", True)
    if "APIError" in names:
        return Failed("upstream_failed", "The model failed while it answered.", True)
    if isinstance(error, ValueError):  # JSON, UTF-8, or a payload of another shape
        return Failed("upstream_garbled", "The model's answer cannot be read.", True)
    raise error


def _refused(status: int, headers: Mapping[str, str]) -> Failed:
    if status == 429:
        after = _seconds(headers.get("retry-after"))
        return Failed("upstream_rate_limited", "The model is asked too much.", True, after)
    if status in TRANSIENT or status >= 500:
        after = _seconds(headers.get("retry-after"))
        return Failed("upstream_unavailable", "The model did not answer.", True, after)
    return Failed("upstream_refused", "The model refuses this request.", False)


def _types_of(body: object) -> set[str]:
    """The error types that a body names, at whichever level."""
    inner: Iterable[Any] = (body, body.get("error")) if isinstance(body, dict) else ()
    return {str(part["type"]) for part in inner if isinstance(part, dict) and part.get("type")}


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else None
