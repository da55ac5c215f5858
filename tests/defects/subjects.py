"""What the matrix judges: the server as it should be, its harmless variations, and its defects."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from pytest_agentstream.requirements import MUST
from reference_server.defects import DEFECTS
from reference_server.variations import VARIATIONS

DIALECTS = ("native", "agent-event-stream", "generic-typed", "generic-data")


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to start the reference server, and the requirement that it breaks, if any."""

    name: str
    arguments: tuple[str, ...]
    dialect: str
    breaks: str = ""


def good() -> list[Subject]:
    """The server without a defect in each dialect, and each harmless variation of it."""
    plain = [Subject(f"no defect ({d})", ("--dialect", d), d) for d in DIALECTS]
    return plain + [
        Subject(f"variation {name}", ("--variation", name), "native") for name in VARIATIONS
    ]


def wrong() -> list[Subject]:
    """Every defect whose requirement has a case."""
    found = []
    for defect in DEFECTS.values():
        dialect = "native" if defect.dialect == "any" else defect.dialect
        arguments = ("--defect", defect.name, "--dialect", dialect, *defect.options)
        if defect.breaks in catalogue():
            found.append(Subject(defect.name, arguments, dialect, defect.breaks))
    return found


def without_case() -> list[str]:
    """The defects that break what no case judges yet."""
    return [defect.name for defect in DEFECTS.values() if defect.breaks not in catalogue()]


def without_mechanism() -> set[str]:
    """The requirements that apply in none of the built-in dialects, so in no server of ours."""
    dialects = [load(name) for name in DIALECTS]
    return {slug for slug in catalogue() if all(d.not_applicable(slug) for d in dialects)}


def proven_once() -> list[str]:
    """The MUST requirements that a single defect proves."""
    broken = [subject.breaks for subject in wrong()]
    return [
        slug
        for slug, case in catalogue().items()
        if case.requirement.level is MUST and broken.count(slug) == 1
    ]
