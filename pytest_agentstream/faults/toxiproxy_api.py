"""Toxiproxy's HTTP API by way of toxiproxy-python, which nothing else imports.

1. Host and port belong to one object here; in the package they are attributes of a class, shared
   by all.
2. Every call ends within LIMIT, with at most LARGEST bytes; the package waits for ever.
3. What goes wrong is a `ToxiproxyError` of one sentence; the package calls every 400 an invalid
   toxic, and lets a 500 pass.
4. Proxies and credentials from the environment don't apply, and no redirect is followed.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from http.client import BadStatusLine
from importlib import import_module
from io import BytesIO
from threading import Thread
from typing import Any
from urllib.parse import quote, urlsplit

LIMIT = 5.0
"""Seconds that one call may take in all."""

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer; a Toxiproxy with thousands of proxies lists them in less."""

PIECE = 64 * 1024
DEFAULT_PORT = 8474
SHOWN = 200
LOOPBACK = "127.0.0.1"
INSTALL = "pip install 'pytest-agentstream[toxiproxy]'"


class ToxiproxyError(Exception):
    """Toxiproxy can't be used, or went away; the text is one sentence for people."""


class Refused(ToxiproxyError):
    """Toxiproxy answered that it will not; `status` is that of its answer."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Unanswered(ToxiproxyError):
    """Toxiproxy is there, and did not answer in time."""


class Api:
    """The API at one URL, `http://HOST:PORT`; every method blocks and raises `ToxiproxyError`."""

    def __init__(self, url: str) -> None:
        self.host, self.port = _place(url)
        self.url = f"http://{self.host}:{self.port}"
        self._consumer: Any = None
        self._errors: Any = None
        self._requests: Any = None

    def load(self) -> None:
        """Import the package."""
        try:
            consumer = import_module("toxiproxy.api").APIConsumer
            self._errors = import_module("toxiproxy.exceptions")
            self._requests = import_module("requests")
        except ImportError as error:
            raise ToxiproxyError(
                f"Toxiproxy is spoken to with toxiproxy-python, which is not there ({error}): "
                f"{INSTALL}"
            ) from None
        self._consumer = type("Consumer", (consumer,), {"host": self.host, "port": self.port})

    def version(self) -> str:
        """What it calls its version: "2.12.0", or "git" where it was built from source."""
        try:
            said = self._call("get", "/version")
        except Refused as refused:
            raise ToxiproxyError(
                f"{self.url} is not Toxiproxy: it answered {refused.status} to GET /version; "
                "give the URL of Toxiproxy's API, such as http://127.0.0.1:8474"
            ) from None
        # not JSON before 2.7, and no object before 2.5
        found = re.fullmatch(r'\s*(?:\{"version":\s*)?"?v?([0-9][\w.+-]*|git)"?\s*\}?\s*', said)
        if found is None:
            raise ToxiproxyError(
                f"{self.url} is not Toxiproxy: expected a version of GET /version, "
                f"found {_shown(said) or 'nothing'}"
            )
        return found[1]

    def proxies(self) -> dict[str, dict[str, Any]]:
        """Every proxy there is, by name, as the API describes it."""
        found = self._json("get", "/proxies")
        if not all(isinstance(one, dict) for one in found.values()):
            raise ToxiproxyError(f"{self.url} is not Toxiproxy: GET /proxies lists no proxies")
        return found

    def create(self, name: str, upstream: str) -> tuple[str, int]:
        """Make a proxy on a free port of loopback, and return its host and port."""
        wanted = {"name": name, "listen": f"{LOOPBACK}:0", "upstream": upstream, "enabled": True}
        listen = str(self._json("post", "/proxies", wanted).get("listen", ""))
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal():
            raise ToxiproxyError(f"{self.url} does not say where its proxy listens: {listen!r}")
        return host, int(port)

    def enable(self, name: str, enabled: bool) -> None:
        """Let a proxy listen, or close it with every connection through it."""
        self._json("post", f"/proxies/{quote(name)}", {"enabled": enabled})

    def delete(self, name: str) -> None:
        """Remove a proxy with every connection through it; one that is not there is no error."""
        try:
            self._call("delete", f"/proxies/{quote(name)}")
        except Refused as refused:
            if refused.status != 404:
                raise

    def add(self, name: str, toxic: dict[str, Any]) -> dict[str, Any]:
        """Add a toxic to a proxy, and return it as the API describes it."""
        return self._json("post", f"/proxies/{quote(name)}/toxics", toxic)

    def remove(self, name: str, toxic: str) -> None:
        """Remove a toxic from a proxy."""
        self._call("delete", f"/proxies/{quote(name)}/toxics/{quote(toxic)}")

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        text = self._call(method, path, body)
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ToxiproxyError(
                f"{self.url} is not Toxiproxy: expected a JSON object of {path}, "
                f"found {_shown(text) or 'nothing'}"
            )
        return found

    def _call(self, method: str, path: str, body: Any = None) -> str:
        """Call in a thread that is left behind when it is late: no time-out of requests bounds all.

        The text of the answer.
        """
        if self._consumer is None:
            self.load()
        outcome: list[str | BaseException] = []
        deadline = time.monotonic() + LIMIT
        ask = Thread(
            target=lambda: outcome.append(self._ask(method, path, body, deadline)),
            name="agentstream-toxiproxy",
            daemon=True,
        )
        try:
            ask.start()
        except RuntimeError:  # the interpreter is about to end, and starts no thread any more
            outcome.append(self._ask(method, path, body, deadline))
        else:
            ask.join(LIMIT)
        if not outcome:
            raise self._late
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _ask(self, method: str, path: str, body: Any, deadline: float) -> str | BaseException:
        options: dict[str, Any] = {"json": body} if method == "post" else {}
        try:
            answer = getattr(self._consumer, method)(
                path,
                timeout=LIMIT,
                allow_redirects=False,
                proxies={"http": "", "https": ""},
                auth=lambda request: request,  # or .netrc would be asked
                hooks={"response": lambda answer, **_: self._bounded(answer, deadline)},
                **options,
            )
        except ToxiproxyError as error:
            return error
        except self._requests.RequestException as error:
            return self._unreachable(error)
        except tuple(getattr(self._errors, name) for name in STATUSES) as error:
            return self._refused(STATUSES[type(error).__name__], error.args[0], method, path)
        except Exception as error:  # what urllib3 lets through, of an answer that is no HTTP
            return ToxiproxyError(f"{self.url} is not Toxiproxy: it answers no HTTP: {error!r}")
        if not 200 <= answer.status_code < 300:
            return self._refused(answer.status_code, answer.content, method, path)
        return str(answer.content.decode("utf-8", "replace"))

    def _bounded(self, answer: Any, deadline: float) -> Any:
        """The same answer, read as far as it may be long."""
        body = b""
        for piece in answer.iter_content(PIECE):
            body += piece
            if len(body) > LARGEST or time.monotonic() > deadline:
                answer.close()
                raise ToxiproxyError(
                    f"{self.url} is not Toxiproxy: its answer does not end "
                    f"({len(body):,} bytes so far)"
                )
        made = self._requests.Response()
        made.status_code = answer.status_code
        made.raw = BytesIO(body)
        return made

    @property
    def _late(self) -> Unanswered:
        return Unanswered(f"Toxiproxy at {self.url} did not answer within {LIMIT:g} s")

    def _unreachable(self, error: BaseException) -> ToxiproxyError:
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, TimeoutError):
                return self._late
            if isinstance(seen, OSError) and seen.strerror:
                why = f"Toxiproxy at {self.url} can't be reached: {seen.strerror}"
                return ToxiproxyError(why)
            if isinstance(seen, BadStatusLine) and not isinstance(seen, ConnectionError):
                return ToxiproxyError(f"{self.url} is not Toxiproxy: it answers no HTTP")
            seen = seen.__cause__ or seen.__context__
        return ToxiproxyError(f"Toxiproxy at {self.url} can't be reached: {_shown(str(error))}")

    def _refused(self, status: int, content: bytes, method: str, path: str) -> Refused:
        text = content.decode("utf-8", "replace")
        with suppress(ValueError, LookupError, TypeError):  # no word of Toxiproxy's: as it is
            text = json.loads(text)["error"]
        said = _shown(str(text)) or "nothing"
        asked = f"{method.upper()} {path}"
        return Refused(f"Toxiproxy at {self.url} answered {status} to {asked}: {said}", status)


STATUSES = {"ProxyExists": 409, "NotFound": 404, "InvalidToxic": 400}
"""What the package raises, by name, and the status that it stands for."""


def _place(url: str) -> tuple[str, int]:
    """Host and port of a URL, or ToxiproxyError."""
    expected = "expected Toxiproxy's API, such as http://127.0.0.1:8474"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError as error:
        raise ToxiproxyError(f"{expected}, found {url!r}: {error}") from None
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts.scheme != "http" or not host or not plain or re.search(r"\s", url):
        raise ToxiproxyError(f"{expected}, found {_shown(url)!r}")
    return f"[{host}]" if ":" in host else host, port


def _shown(text: str) -> str:
    """A text of somebody else's on one line, short and harmless."""
    line = "".join(each if each.isprintable() else " " for each in text)
    line = " ".join(line.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
