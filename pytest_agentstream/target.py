"""The server under test as data: where it is, how it is spoken to, what was declared of it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Timeouts(_Declared):
    """The longest wait of each phase of one exchange, in seconds; every wait is one of these."""

    connect: PositiveFloat = 5.0
    head: PositiveFloat = 30.0
    first_event: PositiveFloat = 60.0
    silence: PositiveFloat = 90.0
    end: PositiveFloat = 300.0


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
    """

    url: str
    dialect: str | None = None
    heartbeat: PositiveFloat | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    ca_file: str | None = None
    trust_env: bool = False
    control_header: bool = False
    behind_proxy: bool = False
    cors_origin: str | None = None
    setup: tuple[SetupStep, ...] = ()
    scenarios: dict[str, Scenario] = Field(default_factory=dict)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    concurrency: PositiveInt = 16
    seed: int = 0

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def origin(self) -> str:
        """Scheme and authority of the start endpoint, the only place the suite talks to."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address is this machine's own, where every probe class may run.

        A name other than `localhost` is not looked up: it may mean another machine the next time.
        """
        host = (self.parts.hostname or "").removesuffix(".")
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"
