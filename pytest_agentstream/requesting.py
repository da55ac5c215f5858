"""Requesting: what is sent to start a run, to join it again, and otherwise. Sans-IO.

Whatever a configuration, a dialect or a server says, no request leaves the target's origin.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from pytest_agentstream import templates
from pytest_agentstream.dialects.paths import steps
from pytest_agentstream.recording import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.dialects.profile import Profile
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Scenario, SetupStep, Target

USER_AGENT = "pytest-agentstream"
DEFAULT_PORTS = {"http": 80, "https": 443}
LAST_EVENT_ID = "Last-Event-ID"
CURSOR_QUERY = "last_event_id"


class ForeignOrigin(ValueError):
    """A URL that does not belong to the server under test."""


class CannotResume(Exception):
    """There is no request that would join the run again."""


class Requests:
    """Every request to one target in its dialect.

    `secrets` are the values that templates took from the environment so far.
    """

    def __init__(self, target: Target, profile: Profile, env: Mapping[str, str]) -> None:
        self._target = target
        self._profile = profile
        self._env = env
        self.secrets: set[str] = set()

    def start(
        self,
        scenario: Scenario,
        variables: Mapping[str, str],
        headers: Mapping[str, str | None] | None = None,
    ) -> Request:
        """Return the request that starts a run: the dialect's, less what the scenario replaces.

        A header that is None in `headers` is left out. Raises `ForeignOrigin`, `TemplateError`.
        """
        start = self._profile.start
        kept = _Headers()
        kept.add({"Accept": self._profile.response.content_type, "User-Agent": USER_AGENT})
        kept.add(self._fill(start.headers, variables))
        if start.idempotency_header is not None:
            kept.add({start.idempotency_header: variables["uuid"]})
        kept.add(self._fill(self._target.headers, variables))
        kept.add(self._fill(scenario.headers, variables))
        method = (scenario.method or start.method).upper()
        mapped = scenario.json_body if scenario.json_body is not None else start.json_body
        if scenario.body is not None:
            body = self._fill(scenario.body, variables).encode()
        elif mapped is not None and (method != "GET" or scenario.json_body is not None):
            body = encode_json(self._fill(mapped, variables))
            kept.default("Content-Type", "application/json")
        else:
            body = b""
        kept.add(headers or {})
        url = self.url(scenario.path or "", variables)
        url = with_query(url, self._fill(dict(scenario.query), variables))
        return Request(method, url, kept.listed(), body)

    def set_up(self, step: SetupStep, variables: Mapping[str, str]) -> Request:
        """Return the request of a setup step; raises ValueError where it isn't `METHOD path`."""
        method, _, path = step.request.strip().partition(" ")
        if not path or not method.isalpha():
            raise ValueError(
                f"setup: expected a method and a path, like 'POST /threads', found {step.request!r}"
            )
        return self.other(
            method, path.strip(), variables, headers=dict(step.headers), json_body=step.json_body
        )

    def other(
        self,
        method: str,
        path: str,
        variables: Mapping[str, str],
        *,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        json_body: Any = None,
        body: bytes = b"",
    ) -> Request:
        """Return any other request on the target's origin, with the target's headers.

        Raises `ForeignOrigin`, `TemplateError`.
        """
        kept = _Headers()
        kept.add({"Accept": "application/json, text/event-stream", "User-Agent": USER_AGENT})
        kept.add(self._fill(self._target.headers, variables))
        if json_body is not None:
            body = encode_json(self._fill(json_body, variables))
            kept.default("Content-Type", "application/json")
        kept.add(
            {
                name: value if value is None else self._fill(value, variables)
                for name, value in (headers or {}).items()
            }
        )
        url = with_query(self.url(path, variables), query or {})
        return Request(method.upper(), url, kept.listed(), body)

    def resume(
        self,
        start: Request,
        cursor: str | None,
        variables: Mapping[str, str],
        *,
        same_request: bool = False,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Request:
        """Return the request that joins a run again behind `cursor` (None: none is sent).

        It carries the headers of the `start` request, credentials too. With `same_request` it is
        the start request again, and the cursor is in `Last-Event-ID`. `headers` and `query` are
        added to it. Raises `CannotResume`, `ForeignOrigin`, `TemplateError`.
        """
        resume = self._profile.resume
        if resume.kind == "none" and not same_request:
            raise CannotResume(f"the dialect {self._profile.name} has no way to resume a run")
        again = same_request or (resume.path is None and resume.method == start.method)
        kept = _Headers()
        dropped = NOT_OF_THE_START | (frozenset() if again else OF_THE_BODY)
        kept.add({name: value for name, value in start.headers if name.lower() not in dropped})
        idempotency = self._profile.start.idempotency_header
        if idempotency is not None and not again:
            kept.add({idempotency: None})
        method, url, body = start.method, self._here(start.url), start.body
        if not again:
            method, body = resume.method, b""
            url = url if resume.path is None else self._resume_url(resume.path, variables)
        added = dict(query or {})
        if cursor is not None:
            if resume.kind == "query" and not same_request:
                added = {resume.query or CURSOR_QUERY: cursor} | added
            elif resume.kind == "body" and not same_request:
                body = _with_cursor(body, resume.query or CURSOR_QUERY, cursor)
                kept.default("Content-Type", "application/json")
            elif resume.kind == "last-event-id" or same_request:
                # "normalize": a header value loses the white space around it (Fetch 2.2.2)
                kept.add({LAST_EVENT_ID: cursor.strip(" \t")})
        kept.add(headers or {})
        return Request(method, with_query(url, added), kept.listed(), body)

    def _here(self, url: str) -> str:
        """The URL of a run that may have been started at another replica, at this one."""
        parts = urlsplit(self._target.url)
        return urlunsplit(urlsplit(url)._replace(scheme=parts.scheme, netloc=parts.netloc))

    def _resume_url(self, path: str, variables: Mapping[str, str]) -> str:
        for name in ("run", "location"):
            if name in templates.names(path) and not variables.get(name):
                raise CannotResume(f"the server has not said the {name} that {path!r} needs")
        return self.url(path, variables)

    def url(self, path: str, variables: Mapping[str, str]) -> str:
        """Resolve a path against the start endpoint; raises `ForeignOrigin` for other origins."""
        self._remember((self._target.url, path))
        url = templates.render_url(path, variables, self._env)
        if url.startswith("/"):
            # what the start endpoint's own templates name may not be known yet, in a setup step
            url = urljoin(self._target.origin, url)
        else:
            url = urljoin(templates.render_url(self._target.url, variables, self._env), url)
        if not same_origin(url, self._target.url):
            raise ForeignOrigin(
                f"{url} is not on the origin {self._target.origin} of the server under test, "
                "the only one that is talked to; give a path"
            )
        return url

    def _fill(self, value: Any, variables: Mapping[str, str]) -> Any:
        self._remember(value)
        return templates.render(value, variables, self._env)

    def _remember(self, value: Any) -> None:
        names = templates.environment_names(value)
        self.secrets.update(self._env[name] for name in names if name in self._env)


NOT_OF_THE_START = frozenset({"host", "content-length", "cookie", "x-agentstream-scenario"})
"""Headers of a start request that a resume request must not repeat: they are set anew, or start."""

OF_THE_BODY = frozenset({"content-type"})


class _Headers:
    """Headers in order, of which a later one replaces an earlier one of its name."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, str]] = {}

    def add(self, headers: Mapping[str, str | None]) -> None:
        for name, value in headers.items():
            if value is None:
                self._kept.pop(name.lower(), None)
            else:
                self._kept[name.lower()] = (name, value)

    def default(self, name: str, value: str) -> None:
        self._kept.setdefault(name.lower(), (name, value))

    def listed(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._kept.values())


def encode_json(value: Any) -> bytes:
    """Return JSON in UTF-8 (RFC 8259); a lone surrogate stays an escape, which is all it can be."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def same_origin(url: str, other: str) -> bool:
    """Tell whether two URLs have the same scheme, host and port (RFC 6454)."""
    return _origin(url) == _origin(other)


def moved(url: str, origin: str) -> str:
    """Return the URL on another origin."""
    parts, other = urlsplit(url), urlsplit(origin)
    return urlunsplit(parts._replace(scheme=other.scheme, netloc=other.netloc))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname, port if port is not None else _default(parts.scheme)


def _default(scheme: str) -> int | None:
    return DEFAULT_PORTS.get(scheme)


PRESERVING = frozenset({307, 308})
REDIRECTS = frozenset({301, 302, 303}) | PRESERVING


def redirect(recording: Recording) -> str | None:
    """Return where an answer redirects to, if the same request may be made there, or None.

    Only a 307 or 308 keeps a POST what it is (RFC 9110 15.4).
    """
    method, location = recording.request.method, None
    if recording.head is not None and recording.head.status in REDIRECTS:
        location = recording.head.value("location")
    if location is None or (method not in {"GET", "HEAD"} and recording.status not in PRESERVING):
        return None
    return urljoin(recording.request.url, location)


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Add parameters to a URL; one of the same name is replaced."""
    if not query:
        return url
    parts = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in query
    ]
    return urlunsplit(parts._replace(query=urlencode([*kept, *query.items()])))


def _with_cursor(body: bytes, path: str, cursor: str) -> bytes:
    value = json.loads(body) if body else {}
    *parents, last = steps(path)
    place = value
    for step in parents:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[last] = cursor
    return encode_json(value)
