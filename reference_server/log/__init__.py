"""Keep what runs have said, so that it can be said again: the event log and its backends."""

from reference_server.log.event_log import (
    REMEMBERED,
    Entry,
    EventLog,
    LogError,
    LogFull,
    LogUnavailable,
    Producing,
    RunLost,
    RunState,
    Said,
    UnknownRun,
)
from reference_server.log.memory import MemoryLog

__all__ = [
    "REMEMBERED",
    "Entry",
    "EventLog",
    "LogError",
    "LogFull",
    "LogUnavailable",
    "MemoryLog",
    "Producing",
    "RunLost",
    "RunState",
    "Said",
    "UnknownRun",
]
