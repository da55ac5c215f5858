"""What Toxiproxy can do of a plan, and in whose words; what it can't is `UnsupportedFault`.

A plan is done by Toxiproxy only as a whole and with the same meaning. Every reason is a sentence
that reports show: "Toxiproxy cannot cut after an event".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentstream.faults.model import (
    Corrupt,
    Cut,
    HalfOpen,
    IdleCut,
    Refuse,
    SlowReader,
    Stall,
    UnsupportedFault,
)
from pytest_agentstream.faults.toxics import (
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.faults.model import Fault, Plan

CANNOT: Mapping[type[Fault], str] = {
    Stall: "stall without dropping data",
    HalfOpen: "leave the server half open",
    Corrupt: "corrupt bytes",
    SlowReader: "read slowly with a small window",
    IdleCut: "cut idle connections",
    Refuse: "refuse single connections",
}
"""Faults of which it has none, and what it therefore can't do."""

ENDING = (Timeout, LimitData, SlowClose)


def toxics_of(plan: Plan) -> list[dict[str, Any]]:
    """The toxics that are the plan, as the API takes them, in its order.

    Raises `UnsupportedFault` that says what of it Toxiproxy can't do.
    """
    toxics = [_toxic(fault) for fault in plan]
    resets = any(isinstance(toxic, ResetPeer) for toxic in toxics)
    if resets and any(isinstance(toxic, ENDING) for toxic in toxics):
        # reset_peer sets SO_LINGER to 0 when the connection begins, so that its every end is a RST
        raise UnsupportedFault("Toxiproxy cannot end a connection by a FIN where it may reset it")
    return [
        {"name": f"{number}-{toxic.name}", **toxic.toxic} for number, toxic in enumerate(toxics, 1)
    ]


def has_chance(plan: Plan) -> bool:
    """Whether chance plays a part: Toxiproxy's own, which no seed of ours repeats."""
    drawn = [one.jitter for one in plan if isinstance(one, Latency)]
    return any(drawn) or any(one.size_variation for one in plan if isinstance(one, Slicer))


def _toxic(fault: Fault) -> Toxic:
    match fault:
        case Toxic():
            _check_units(fault)
            return fault
        case Cut(after_bytes=int(count), how="fin"):
            return LimitData(bytes=count)
        case Cut(after_bytes=int()):
            raise UnsupportedFault("Toxiproxy cannot reset at a byte")
        case Cut(after_body=int()):
            raise UnsupportedFault("Toxiproxy cannot cut at a byte of the body")
        case Cut():
            raise UnsupportedFault("Toxiproxy cannot cut after an event")
    raise UnsupportedFault(f"Toxiproxy cannot {CANNOT[type(fault)]}")


def _check_units(toxic: Toxic) -> None:
    """Durations are whole milliseconds there (a slicer's microseconds): 0.4 ms would be none."""
    unit, name = (1e-6, "microseconds") if isinstance(toxic, Slicer) else (1e-3, "milliseconds")
    for attribute, value in toxic.attributes.items():
        seconds = getattr(toxic, attribute)
        if isinstance(seconds, float) and abs(seconds / unit - value) > 1e-6:
            raise UnsupportedFault(
                f"Toxiproxy cannot take a {attribute} of {seconds:g} s: it counts whole {name}"
            )
