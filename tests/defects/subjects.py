"""What the matrix judges: the server as it should be, its harmless variations, and its defects."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.dialects import load
from reference_server.defects import DEFECTS
from reference_server.variations import VARIATIONS
from tests.defects.managed import processes_of

PLAIN = "no defect"
DIALECTS = ("native", "agent-event-stream", "generic-typed", "generic-data")


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to start the reference server, and the requirement that it breaks, if any.

    `processes` are how many the suite starts itself, on one durable log; 0: another starts it.
    """

    name: str
    arguments: tuple[str, ...]
    dialect: str
    breaks: str = ""
    processes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it is the server as it should be, with nothing changed."""
        return self.name.startswith(PLAIN)


def good() -> list[Subject]:
    """The server without a defect in each dialect, and each harmless variation of it."""
    plain = [Subject(f"{PLAIN} ({d})", ("--dialect", d), d) for d in DIALECTS]
    plain.append(Subject(f"{PLAIN} (two processes)", (), "native", processes=2))
    brief = ("--variation", "closes-early")
    plain.append(Subject("variation closes-early (two processes)", brief, "native", processes=2))
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
            processes = processes_of(defect.breaks)
            found.append(Subject(defect.name, arguments, dialect, defect.breaks, processes))
    return found


def without_case() -> list[str]:
    """The defects that break what no case judges yet."""
    return [defect.name for defect in DEFECTS.values() if defect.breaks not in catalogue()]


def without_mechanism() -> set[str]:
    """The requirements that apply in none of the built-in dialects, so in no server of ours."""
    dialects = [load(name) for name in DIALECTS]
    return {slug for slug in catalogue() if all(d.not_applicable(slug) for d in dialects)}
