"""The ways in which the reference server can be made wrong, one module for each subject."""

from __future__ import annotations

from reference_server.defects import (
    crash,
    delivery,
    framing,
    heartbeat,
    http,
    ids,
    order,
    resume,
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
    "delivery",
    "framing",
    "heartbeat",
    "http",
    "ids",
    "order",
    "resume",
    "retry",
    "schema",
    "security",
    "terminal",
]
