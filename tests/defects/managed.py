"""Which rows of the matrix need their server as a process that the suite may end, or two of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.probing import closure, probes_of
from pytest_agentstream.reference import GRACE, PATH, reference_command
from pytest_agentstream.target import PORT

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentstream.cases import Case
    from pytest_agentstream.probing import Probe
    from tests.defects.subjects import Subject

SURROUNDINGS = frozenset({"process", "replicas"})

REPLICATED = frozenset({"durable.one-executor", "durable.other-replica", "terminal.dead-producer"})
"""What only a second process on the same log can show."""

TIMEOUTS = {"connect": 5, "head": 5, "first_event": 5, "silence": 5, "end": 8}


def processes_of(slug: str) -> int:
    """How many processes a row needs in which this requirement is broken; 0: any server will do."""
    if slug in REPLICATED:
        return 2
    return int(slug.startswith("durable.") or bool(_ending(catalogue()[slug])))


def is_shown(case: Case, subject: Subject) -> bool:
    """Whether a case is judged in a row for what its probes do to the process.

    That is dear: beside the row's own requirement only those are, which look at the same.
    """
    own = _ending(catalogue()[subject.breaks]) if subject.breaks else _ending(case)
    return bool(_ending(case) & own)


def ends_process(case: Case) -> bool:
    """Whether a case looks at what becomes of a process, or at another one beside it."""
    return bool(_ending(case))


def _ending(case: Case) -> set[Probe]:
    probes = closure(probes_of(case).values())
    return {probe for probe in probes if SURROUNDINGS & set(probe.parameters)}


def options_of(subject: Subject, folder: Path, upstream: tuple[str, ...]) -> dict[str, object]:
    """The settings with which the suite starts the row's processes, on one log in `folder`."""
    log = ("--log", f"sqlite:{folder / 'events.sqlite'}")
    command = reference_command((*log, *subject.arguments, *upstream))
    return {
        "url": f"http://127.0.0.1:{PORT}{PATH}",
        "command": (command,) * subject.processes,
        "grace": GRACE,
        "timeouts": TIMEOUTS,
    }
