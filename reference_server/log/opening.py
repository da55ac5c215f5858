"""Open the log that a user names: `memory`, `sqlite:PATH` or `redis://HOST:PORT/DB`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reference_server.log.durable import DurableLog
from reference_server.log.event_log import REMEMBERED, LogError
from reference_server.log.memory import MemoryLog
from reference_server.log.store import Bounds

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from reference_server.log.event_log import EventLog
    from reference_server.log.store import Store
    from reference_server.settings import Settings

EXPECTED = "memory, sqlite:PATH or redis://HOST:PORT/DB"


def event_log(settings: Settings, durable: type[DurableLog] = DurableLog) -> EventLog:
    """Return the log that the settings name, not yet opened; raises LogError.

    `durable`: the class that a log over a store is made of.
    """
    if settings.log == "memory":
        return MemoryLog(retention=settings.retention, max_runs=settings.max_runs)
    bounds = Bounds(
        retention=settings.retention,
        remember=settings.retention * REMEMBERED,
        max_runs=settings.max_runs,
    )
    return durable(store(settings.log, bounds), bounds, lease=settings.lease)


def store(name: str, bounds: Bounds) -> Store:
    """Return the store of this name, not yet opened; raises LogError."""
    scheme, _, rest = name.partition(":")
    if scheme == "sqlite" and rest:
        from reference_server.log.sqlite import SqliteStore

        return SqliteStore(rest, bounds)
    if scheme == "redis":
        try:
            parts = urlsplit(name)
            known = parts.hostname and (parts.port or True)
        except ValueError:
            known = None
        if known and (parts.path.strip("/").isdigit() or not parts.path.strip("/")):
            return _redis(parts, bounds)
    shown = name.partition("@")[2] or name  # what stands before it may be a password
    raise LogError(f"there is no log {shown!r}; {EXPECTED} was expected")


def _redis(url: SplitResult, bounds: Bounds) -> Store:
    try:
        from reference_server.log.redis_streams import RedisStore
    except ImportError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "redis":
            raise
        raise LogError(
            "a log in Redis needs the package redis: pip install 'pytest-agentstream[redis]'"
        ) from None
    return RedisStore(url, bounds)
