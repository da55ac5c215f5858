"""Dialects: how each protocol family speaks, declared as data, and what its streams mean."""

from __future__ import annotations

from pytest_agentstream.dialects.detection import detect
from pytest_agentstream.dialects.dialect import Dialect
from pytest_agentstream.dialects.loading import DialectError, builtin_names, load
from pytest_agentstream.dialects.machine import Machine
from pytest_agentstream.dialects.reading import Cursor, Event, Outcome, Reading, Role, Violation

__all__ = [
    "Cursor",
    "Dialect",
    "DialectError",
    "Event",
    "Machine",
    "Outcome",
    "Reading",
    "Role",
    "Violation",
    "builtin_names",
    "detect",
    "load",
]
