"""The errors of OpenAI's APIs: the type and the code that go with a status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Mapping[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def error_object(status: int, message: str, param: str | None = None) -> Mapping[str, Any]:
    """What stands under `error`."""
    kind, code = KINDS.get(
        status, ("server_error" if status >= 500 else "invalid_request_error", None)
    )
    return {"message": message, "type": kind, "param": param, "code": code}


def failure(status: int, message: str, param: str | None = None) -> Mapping[str, Any]:
    """The body of an error."""
    return {"error": error_object(status, message, param)}
