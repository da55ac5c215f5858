"""The server under test as data: where it is, how it is spoken to, what was declared of it."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
)
from pydantic_core import PydanticCustomError

PORT = "{port}"
"""Stands in a command, its environment and the URL for the port that the suite chooses."""

PORTS = range(1, 65_536)


def _double(value: object) -> object:
    """Whether a double runs, or the port that it has."""
    if isinstance(value, bool) or (isinstance(value, int) and value in PORTS):
        return value
    raise PydanticCustomError("double", "true, false or a port from 1 to 65535")


def _commands(value: object) -> object:
    """One command as text or as words, or a list of such lists: always the latter."""
    wanted = (
        'text such as "uvicorn app:app --port {port}", a list of its words, or one such list for '
        "each replica"
    )
    match value:
        case str():
            try:
                return (tuple(shlex.split(value)),)
            except ValueError as error:
                problem = {"problem": str(error).lower()}
                raise PydanticCustomError(
                    "command", "words as a shell reads them ({problem})", problem
                ) from None
        case [] | ():
            pass  # whoever has no command leaves the key out
        case list() | tuple() if all(isinstance(word, str) for word in value):
            return (tuple(value),)
        case list() | tuple():
            good = all(
                isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)
                for words in value
            )
            if good:
                return tuple(tuple(words) for words in value)
    raise PydanticCustomError("command", "{wanted}", {"wanted": wanted})


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Timeouts(_Declared):
    """The longest wait of each phase of one exchange, in seconds; every wait is one of these.

    `start` is the wait before the first exchange: for a server of the suite's to listen.
    """

    connect: PositiveFloat = 5.0
    head: PositiveFloat = 30.0
    first_event: PositiveFloat = 60.0
    silence: PositiveFloat = 90.0
    end: PositiveFloat = 300.0
    start: PositiveFloat = 60.0


class Scenario(_Declared):
    """One thing the agent is asked to do: what is sent for it, and what was planted in it.

    `json`, `body`, `headers`, `query`, `method` and `path` replace or extend the dialect's start
    request; the rest are declarations, without which the cases that need them are *not tested*.
    `seconds`, `pause` and `deadline` are seconds.
    """

    json_body: Any = Field(default=None, alias="json")
    body: str | None = None
    method: str | None = None
    path: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    query: dict[str, str] = Field(default_factory=dict)
    prompt: str | None = None

    deterministic: bool = False
    verbatim: bool = False
    text: str | None = None
    seconds: PositiveFloat | None = None
    pause: PositiveFloat | None = None
    secret: str | None = None
    marker: str | None = None
    retryable: bool | None = None
    retention: PositiveFloat | None = None
    deadline: PositiveFloat | None = None


class SetupStep(_Declared):
    """A request made before each run, for instance `POST /threads`; captures feed the templates.

    `capture` maps a variable to where its value is found: `json:path.to.value` or `header:Name`.
    """

    request: str
    json_body: Any = Field(default=None, alias="json")
    headers: dict[str, str] = Field(default_factory=dict)
    capture: dict[str, str] = Field(default_factory=dict)


class Target(_Declared):
    """A server under test: its start endpoint, dialect, credentials, timings and controls.

    `url` is the start endpoint; other paths resolve against its origin. `heartbeat` is the promised
    interval H in seconds. `scenarios` are the mapped controls; with `control_header` a scenario
    without a mapping is asked for in the header `X-Agentstream-Scenario`.

    With `double` the suite runs an LLM double behind the server; a number is its port. `command`
    are the words that start the server, and those that start each further replica, in the folder
    `cwd` and with `env` in their environment; `replicas` are start endpoints of further replicas
    that run already. `toxiproxy` is the address of Toxiproxy's API. `grace` is the declared
    shutdown grace in seconds. `durable` says whether runs outlive the process that keeps them, and
    `lease` after how many seconds at most the death of one is noticed, where the server itself does
    not say so.
    """

    url: str
    dialect: str | None = None
    heartbeat: PositiveFloat | None = None
    headers: dict[str, str] = Field(default_factory=dict, examples=['{ X-Tenant = "acme" }'])
    ca_file: str | None = None
    trust_env: bool = False
    control_header: bool = False
    behind_proxy: bool = False
    cors_origin: str | None = None
    setup: tuple[SetupStep, ...] = Field(default=(), examples=['[{ request = "POST /threads" }]'])
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    concurrency: PositiveInt = 16
    seed: int = 0
    double: Annotated[bool | int, BeforeValidator(_double)] = False
    command: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_commands)] = ()
    cwd: str | None = None
    env: dict[str, str] = Field(default_factory=dict, examples=['{ LOG_LEVEL = "debug" }'])
    replicas: tuple[str, ...] = Field(default=(), examples=['["http://127.0.0.1:8001/chat"]'])
    toxiproxy: str | None = None
    grace: PositiveFloat | None = None
    disconnect: Literal["cancels", "continues"] | None = None
    durable: bool | None = None
    lease: PositiveFloat | None = None

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def origin(self) -> str:
        """Scheme and authority of the start endpoint, the only place the suite talks to."""
        return origin_of(self.url)

    @property
    def is_loopback(self) -> bool:
        """Whether its addresses are this machine's own, where every probe class may run.

        A name other than `localhost` is not looked up: it may mean another machine the next time.
        """
        return all(map(is_loopback, (self.url, *self.replicas)))


def origin_of(url: str) -> str:
    """Scheme and authority of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine's own, by its address or the name `localhost`."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
