"""A real uvicorn on loopback for the reference server's tests, and what its answers say."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from redis import Redis

from reference_server import scenarios
from reference_server.app import ReferenceServer
from reference_server.defects import DEFECTS
from reference_server.encoders import ENCODERS
from reference_server.parts import Parts
from reference_server.settings import Settings
from tests.services import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

HEARTBEAT = 0.06
"""The H of every server here, in seconds: silences are some of it long."""
PATIENCE = 5.0
"""Seconds that a test waits for anything at most."""


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: what an EventSource would see, and its retry."""

    type: str
    data: str
    id: str
    retry: str | None

    @property
    def payload(self) -> dict[str, Any]:
        """The data as JSON."""
        payload: dict[str, Any] = json.loads(self.data)
        return payload

    @property
    def identity(self) -> tuple[str, str, str]:
        """What a replay must repeat."""
        return (self.id, self.type, self.data)


@dataclass(slots=True)
class Body:
    """A body read line by line, as WHATWG HTML 9.2.6 says."""

    events: list[Event] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)

    def line(self, line: str) -> None:
        """Take one line, without its end."""
        if line.startswith(":"):
            self.comments.append(line)
            return
        if line:
            name, _, value = line.partition(":")
            self.fields.setdefault(name, []).append(value.removeprefix(" "))
            return
        read = {name: values[-1] for name, values in self.fields.items()}
        if "data" in self.fields:
            data = "\n".join(self.fields["data"])
            self.events.append(
                Event(read.get("event", "message"), data, read.get("id", ""), read.get("retry"))
            )
        self.fields = {}


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    raw: bytes
    events: list[Event]
    comments: list[str]

    @property
    def types(self) -> list[str]:
        """The events' types in their order."""
        return [event.type for event in self.events]

    @property
    def text(self) -> str:
        """The tokens' texts together."""
        return "".join(e.payload["text"] for e in self.events if e.type == "token")

    @property
    def last(self) -> Event:
        """The last event."""
        return self.events[-1]

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.headers["agentstream-run"])

    @property
    def problem(self) -> dict[str, Any]:
        """The refusal's body."""
        assert self.headers["content-type"] == "application/problem+json", self.raw
        problem: dict[str, Any] = json.loads(self.raw)
        return problem


class Client:
    """Ask one server; every wait is bounded."""

    def __init__(self, url: str, start_path: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, verify=False, trust_env=False)
        self.start_path = start_path

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        until: Callable[[Body], bool] = lambda body: False,
        **more: Any,
    ) -> Answer:
        """Send a request and read the answer to its end, or `until` says that it is enough."""
        body, raw = Body(), b""
        with self.http.stream(method, path, headers=dict(headers or {}), **more) as response:
            rest = b""
            for chunk in response.iter_raw():
                raw += chunk
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    body.line(line.decode(errors="replace").removesuffix("\r"))
                if until(body):
                    break
        return Answer(response.status_code, response.headers, raw, body.events, body.comments)

    def start(
        self,
        scenario: str = "complete",
        message: str = "hello",
        headers: Mapping[str, str] | None = None,
        until: Callable[[Body], bool] = lambda body: False,
        **body: object,
    ) -> Answer:
        """Start a run and read it."""
        asked = {"X-Agentstream-Scenario": scenario, **(headers or {})}
        content = {"message": message, **body}
        return self.ask("POST", self.start_path, asked, until, json=content)

    def begin(self, scenario: str, **body: object) -> str:
        """Start a run without reading it; return its id."""
        answer = self.http.post(
            self.start_path,
            json={"message": "hello", **body},
            headers={"X-Agentstream-Scenario": scenario, "Prefer": "respond-async"},
        )
        assert answer.status_code == 201, answer.text
        return str(answer.headers["agentstream-run"])

    def read(
        self,
        run: str,
        cursor: str | None = None,
        until: Callable[[Body], bool] = lambda body: False,
        query: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Read a run from a cursor on."""
        asked = dict(headers or {})
        if cursor is not None:
            asked["Last-Event-ID"] = cursor
        return self.ask("GET", f"/v1/runs/{run}/events{query}", asked, until)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, apps: list[ReferenceServer]) -> None:
        super().__init__(config)
        self.apps = apps
        self.ready = threading.Event()

    @property
    def url(self) -> str:
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: Any = None) -> None:
        closing = [asyncio.create_task(app.close()) for app in self.apps]
        closed, waiting = await asyncio.wait(closing, timeout=2.0)
        for app in closed:
            app.result()
        for app in waiting:
            app.cancel()  # there is a defect that never ends its runs
        await super().shutdown(sockets)


@contextmanager
def serving(app: ASGIApp, apps: list[ReferenceServer], http: Any) -> Iterator[_Server]:
    """Serve in a thread, with a loop of its own; yield the server."""
    config = uvicorn.Config(
        app,
        port=0,
        http=http,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, apps)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.ready.wait(PATIENCE), "the server did not start"
        yield server
    finally:
        server.should_exit = True
        thread.join()


class Serve:
    """Start reference servers and stop them with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: list[_Server] = []

    def stop(self) -> None:
        """Tell all servers to stop, so that none waits for another."""
        for server in self._servers:
            server.should_exit = True

    def __call__(self, parts: Parts | None = None, **settings: Any) -> Client:
        """Serve these parts with these settings; return a client."""
        app = ReferenceServer(Settings(**{"heartbeat": HEARTBEAT, **settings}), parts)
        self._servers.append(self._stack.enter_context(serving(app, [app], app.parts.http)))
        client = Client(self._servers[-1].url, app.encoder.start_path)
        self._stack.callback(client.http.close)
        return client

    def many(self, made: Mapping[str, Parts], **settings: Any) -> Callable[[str], Client]:
        """Serve many in one process, each below its name; return a function to a client."""
        apps = {
            name: ReferenceServer(Settings(**{"heartbeat": HEARTBEAT, **settings}), parts)
            for name, parts in made.items()
        }

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            _, name, path = scope["path"].split("/", 2)
            await apps[name]({**scope, "path": f"/{path}", "root_path": ""}, receive, send)

        server = self._stack.enter_context(serving(dispatch, list(apps.values()), "h11"))
        self._servers.append(server)

        def client(name: str) -> Client:
            made = Client(f"{server.url}/{name}", apps[name].encoder.start_path)
            self._stack.callback(made.http.close)
            return made

        return client


Chooser = Callable[[str], Client]
"""From a server's name to its client."""


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """Start servers that live as long as the tests, and whose agents hurry."""
    with ExitStack() as stack:
        hurry = stack.enter_context(pytest.MonkeyPatch.context())
        hurry.setattr(scenarios, "BEAT", 0.0005)
        servers = Serve(stack)
        yield servers
        servers.stop()


@pytest.fixture(scope="session")
def client(serve: Serve) -> Client:
    """Return the client of a good server with fast timings."""
    return serve()


@pytest.fixture(scope="session")
def defective(serve: Serve) -> Chooser:
    """Serve every defect in one process, each below its name, and `good` beside them."""
    made = {
        name: defect.make(Parts(encoder=ENCODERS[defect.dialect]))
        for name, defect in DEFECTS.items()
    }
    return serve.many({**made, "good": Parts()})


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """Return the URL of a Redis that lives as long as the tests."""
    with redis_server() as service:
        yield service.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def any_log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the name of an empty log, of each kind in turn."""
    return _empty(request, tmp_path)


@pytest.fixture(params=["sqlite", "redis"])
def durable_log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the name of an empty log that several processes can share."""
    return _empty(request, tmp_path)


def _empty(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "redis":
        url: str = request.getfixturevalue("redis")
        with Redis.from_url(url) as client:
            client.flushdb()
        return url
    return f"sqlite:{folder}/events.db" if request.param == "sqlite" else "memory"
