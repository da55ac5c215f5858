"""The ways in which the reference server can be made wrong, one module for each subject."""

from __future__ import annotations

from reference_server.defects import (
    crash,
    cursors,
    delivery,
    framing,
    heartbeat,
    http,
    ids,
    live,
    order,
    reconnect,
    refusals,
    replay,
    retry,
    schema,
    security,
    terminal,
)
from reference_server.defects.defect import DEFECTS, Defect

__all__ = [
    "DEFECTS",
    "Defect",
    "crash",
    "cursors",
    "delivery",
    "framing",
    "heartbeat",
    "http",
    "ids",
    "live",
    "order",
    "reconnect",
    "refusals",
    "replay",
    "retry",
    "schema",
    "security",
    "terminal",
]
