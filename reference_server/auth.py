"""Say who asks: a bearer token, a same-site cookie, or a ticket to read one run.

EventSource sends no headers, so a browser has two other ways: the cookie that `POST /v1/session`
sets, which counts only for requests from the server's own pages or an allowed origin; and a ticket
in the query, which reads one run and is worth nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from reference_server.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from reference_server.settings import Settings

COOKIE = "agentstream_session"
ANYBODY = "anybody"
"""The user of a server that was given no tokens."""


class Auth:
    """Check credentials against the configured tokens."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = {_digest(token): user for token, user in settings.tokens.items()}
        self._origins = settings.origins
        self.secret = secrets.token_bytes(32)
        """What tickets and cookies are signed with; replicas share that of their log."""

    def user(self, request: Request) -> str:
        """Return who asks; raise Problem 401 without credentials, 403 for a foreign origin."""
        if not self._tokens:
            return ANYBODY
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            user = self._tokens.get(_digest(token.strip()))
            if user is not None:
                return user
            raise self.unauthorized("This bearer token is not known.", "invalid_token")
        cookie = request.cookies.get(COOKIE)
        if cookie is not None:
            return self._from_cookie(request, cookie)
        raise self.unauthorized("Credentials are missing: send Authorization: Bearer TOKEN.")

    def reader(self, request: Request, run: str) -> str | None:
        """Return who reads; None: somebody with a ticket for this run. Raises as `user` does."""
        ticket = request.query_params.get("ticket")
        if ticket is None or not self._tokens:
            return self.user(request)
        if not hmac.compare_digest(ticket.encode(), self.ticket(run).encode()):
            raise self.unauthorized("This ticket is not for this run.", "invalid_token")
        return None

    def ticket(self, run: str) -> str:
        """Return the ticket that reads this run, as long as it can be read at all."""
        return self._sign(f"ticket {run}")

    def cookie(self, user: str) -> str:
        """Return the session cookie's value."""
        name = base64.urlsafe_b64encode(user.encode()).decode()
        return f"{name}.{self._sign(f'cookie {user}')}"

    def unauthorized(self, message: str, error: str | None = None) -> Problem:
        """Return a 401 with its challenge (RFC 6750, 3)."""
        challenge = 'Bearer realm="agentstream"'
        if error is not None:
            challenge += f', error="{error}"'
        return Problem(401, message, {"WWW-Authenticate": challenge})

    def _from_cookie(self, request: Request, cookie: str) -> str:
        user = next((u for u in self._tokens.values() if _same(cookie, self.cookie(u))), None)
        if user is None:
            raise self.unauthorized("This session is not known.", "invalid_token")
        if not self._own_page(request):
            raise Problem(403, "A page of a foreign origin cannot use the session cookie.")
        return user

    def _own_page(self, request: Request) -> bool:
        """Browsers leave Origin out of same-origin GETs only."""
        origin = request.headers.get("origin")
        if origin is None:
            site = request.headers.get("sec-fetch-site", "same-origin")
            return request.method == "GET" and site in ("same-origin", "none")
        own = f"{request.url.scheme}://{request.url.netloc}"
        return origin == own or origin in self._origins

    def _sign(self, text: str) -> str:
        digest = hmac.digest(self.secret, text.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _digest(token: str) -> bytes:
    """Look tokens up by digest, so that the time it takes says nothing about them."""
    return hashlib.sha256(token.encode()).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
