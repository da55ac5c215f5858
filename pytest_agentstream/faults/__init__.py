"""Faults: what the network does meanwhile, injected by a proxy before the server under test."""

from __future__ import annotations

from pytest_agentstream.faults.closing import SideEnd
from pytest_agentstream.faults.connection import Connection, Fired
from pytest_agentstream.faults.interface import Faults
from pytest_agentstream.faults.model import (
    Corrupt,
    Cut,
    Fault,
    HalfOpen,
    IdleCut,
    Plan,
    Refuse,
    SlowReader,
    Stall,
    UnsupportedFault,
    describe,
)
from pytest_agentstream.faults.proxy import FaultProxy
from pytest_agentstream.faults.routes import (
    FaultRoutes,
    faults_before,
    needs_toxiproxy,
    why_embedded,
)
from pytest_agentstream.faults.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from pytest_agentstream.faults.toxiproxied import ToxiproxyFaults
from pytest_agentstream.faults.toxiproxy import Toxiproxy
from pytest_agentstream.faults.toxiproxy_api import ToxiproxyError

__all__ = [
    "Bandwidth",
    "Connection",
    "Corrupt",
    "Cut",
    "Fault",
    "FaultProxy",
    "FaultRoutes",
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
    "Toxiproxy",
    "ToxiproxyError",
    "ToxiproxyFaults",
    "UnsupportedFault",
    "describe",
    "faults_before",
    "needs_toxiproxy",
    "why_embedded",
]
