"""Which rows of the matrix need an LLM behind their server: the double, in the row's session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.probing import probes_of
from pytest_agentstream.scripts import UPSTREAM

if TYPE_CHECKING:
    from pytest_agentstream.cases import Case
    from pytest_agentstream.probing import Probe
    from tests.defects.subjects import Subject


PAID = frozenset({"second-executor-unseen"})
"""Defects that only the LLM sees, of requirements that other defects break without one."""

DOUBLED = (f"variation {UPSTREAM}", "variation closes-early")
"""How variations begin whose runs behind the double differ: in what is said, or in how it comes."""


def needs_double(subject: Subject) -> bool:
    """Whether cases behind the double are judged for a subject.

    They are where one of them should accuse, and where none may: other defects are found without,
    and so are most variations.
    """
    if not subject.breaks:
        return subject.is_plain or subject.name.startswith(DOUBLED)
    return subject.name in PAID or is_behind_it(catalogue()[subject.breaks])


def is_behind_it(case: Case) -> bool:
    """Whether a case looks at a run whose LLM is the double."""
    return any(_asks(probe) for probe in probes_of(case).values())


def _asks(probe: Probe) -> bool:
    scripted = any(name.startswith(UPSTREAM) for name in probe.scenarios)
    needed = (one for one in probe.needs if one.name not in probe.optional)
    return scripted or any(_asks(one) for one in needed)
