"""The conformance suite for agent streaming servers.

Names are imported on first use, so that pytest can load the plugin for nothing while it is off.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_agentstream.cases import requirement, sample
    from pytest_agentstream.probing import Consent, probe
    from pytest_agentstream.requirements import MUST, SHOULD
    from pytest_agentstream.verdicts import (
        ControlBroken,
        NotApplicable,
        NotTested,
        expect,
        expect_at_most,
    )

__all__ = [
    "MUST",
    "SHOULD",
    "Consent",
    "ControlBroken",
    "NotApplicable",
    "NotTested",
    "expect",
    "expect_at_most",
    "probe",
    "requirement",
    "sample",
]

_HOMES = {
    "MUST": "requirements",
    "SHOULD": "requirements",
    "Consent": "probing",
    "ControlBroken": "verdicts",
    "NotApplicable": "verdicts",
    "NotTested": "verdicts",
    "expect": "verdicts",
    "expect_at_most": "verdicts",
    "probe": "probing",
    "requirement": "cases",
    "sample": "cases",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
