"""The ways in which the reference server can be made wrong, one module for each subject."""

from __future__ import annotations

from reference_server.defects import (
    crash,
    cursors,
    delivery,
    durable,
    framing,
    heartbeat,
    holding,
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
    shutdown,
    terminal,
    unread,
    upstream,
)
from reference_server.defects.defect import DEFECTS, Defect

__all__ = [
    "DEFECTS",
    "Defect",
    "crash",
    "cursors",
    "delivery",
    "durable",
    "framing",
    "heartbeat",
    "holding",
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
    "shutdown",
    "terminal",
    "unread",
    "upstream",
]
