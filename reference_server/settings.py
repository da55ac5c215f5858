"""What can be set: one frozen value that every part is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The server's numbers and credentials; durations are seconds, sizes bytes."""

    heartbeat: float = 15.0
    """The promise H: no gap longer than this while a run lives."""
    retry: float = 1.0
    """What `retry:` tells clients to wait before they reconnect."""
    retention: float = 60.0
    """How long a finished run can be read."""
    deadline: float = 600.0
    """How long a run may take, waiting for people not counted."""
    input_timeout: float = 300.0
    """How long a run waits for one answer."""
    max_body: int = 2**20
    """The largest request body that is read."""
    max_runs: int = 10_000
    """Live and retained runs together; more are refused with 503."""
    log: str = "memory"
    """Which event log: memory, sqlite:PATH or redis://HOST:PORT/DB."""
    lease: float = 5.0
    """How long runs outlive the last sign of life of the process that produces them."""
    grace: float = 2.0
    """How long open streams have to end when the server is told to stop."""
    stalled: float = 60.0
    """How long a reader may take nothing of what is sent before its connection is ended."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Bearer token -> user; empty: everybody is let in as one user."""
    origins: frozenset[str] = frozenset()
    """Foreign origins whose pages may read (CORS) and use the cookie."""
    upstream: Literal["openai", "anthropic"] = "openai"
    """Whose API the agent `llm` asks."""
    upstream_url: str | None = None
    """That API's base URL; None: as its SDK reads it from the environment."""

    @property
    def abandoned(self) -> float:
        """Seconds without any reader after which an abandoned run is cancelled."""
        return max(3 * self.retry, 1.0)
