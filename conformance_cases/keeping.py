"""What a server says of how it keeps its runs: in a header that its dialect has, or as declared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING

from pytest_agentstream.verdicts import NotApplicable, NotTested

if TYPE_CHECKING:
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target

KINDS = {"volatile": False, "durable": True}


@dataclass(frozen=True)
class Keeping:
    """How runs are kept; None is what nobody says.

    `retention` and `lease` are seconds, `size` is the bytes that are kept of one run. A number that
    cannot be read is infinite. `said` is the header's own text.
    """

    durable: bool | None = None
    retention: float | None = None
    lease: float | None = None
    size: float | None = None
    said: str = ""


def keeping_of(run: Observation, target: Target) -> Keeping:
    """What is said of how this run is kept; what the settings declare goes before the header."""
    name = run.dialect.profile.response.log_header
    said = (run.first.head.value(name) or "") if name and run.first.head else ""
    kind, *rest = (part.strip() for part in said.split(";"))
    pairs = (part.partition("=") for part in rest)
    numbers = {key.strip().lower(): _number(value) for key, _, value in pairs}
    durable = KINDS.get(kind.lower()) if target.durable is None else target.durable
    lease = numbers.get("lease") if target.lease is None else target.lease
    return Keeping(durable, numbers.get("retention"), lease, numbers.get("run-bytes"), said)


def _number(text: str) -> float:
    text = text.strip().strip('"')
    plain = text.isascii() and text.replace(".", "", 1).isdigit()
    return float(text) if plain else inf


def durably_kept(run: Observation, target: Target) -> Keeping:
    """How runs are kept, where they are to outlive the process.

    Raises `NotApplicable` where they are not, and `NotTested` where nobody says so.
    """
    keeping = keeping_of(run, target)
    if keeping.durable is False:
        raise NotApplicable(
            f"the server says that its log is volatile ({keeping.said[:80]})"
            if target.durable is None
            else "the server is declared to keep no runs: durable = false"
        )
    if keeping.durable is None:
        raise NotTested(
            "nobody says whether the server's runs outlive its process",
            "declare it: durable = true, or false",
        )
    return keeping


def moment(exchange: Recording, at: float) -> datetime:
    """When something was seen that an exchange has at `at` seconds."""
    return datetime.fromisoformat(exchange.started) + timedelta(seconds=at)


def elapsed(run: Observation, exchange: Recording, at: float) -> float:
    """How many seconds into its run something was seen that an exchange has at `at` seconds."""
    if exchange is run.first:
        return at
    return (moment(exchange, at) - moment(run.first, 0.0)).total_seconds()
