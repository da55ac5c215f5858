"""Faults: what the network does meanwhile, injected by a proxy before the server under test."""

from __future__ import annotations

from pytest_agentstream.faults.closing import SideEnd
from pytest_agentstream.faults.connection import Connection, Fired
from pytest_agentstream.faults.interface import Faults
from pytest_agentstream.faults.model import (
    Bandwidth,
    Corrupt,
    Cut,
    Fault,
    HalfOpen,
    IdleCut,
    Latency,
    LimitData,
    Plan,
    Refuse,
    ResetPeer,
    Slicer,
    SlowClose,
    SlowReader,
    Stall,
    Timeout,
    Toxic,
    UnsupportedFault,
    describe,
)
from pytest_agentstream.faults.proxy import FaultProxy

__all__ = [
    "Bandwidth",
    "Connection",
    "Corrupt",
    "Cut",
    "Fault",
    "FaultProxy",
    "Faults",
    "Fired",
    "HalfOpen",
    "IdleCut",
    "Latency",
    "LimitData",
    "Plan",
    "Refuse",
    "ResetPeer",
    "SideEnd",
    "Slicer",
    "SlowClose",
    "SlowReader",
    "Stall",
    "Timeout",
    "Toxic",
    "UnsupportedFault",
    "describe",
]
