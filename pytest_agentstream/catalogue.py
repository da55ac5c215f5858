"""All packaged cases, found by importing the modules of `conformance_cases`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_agentstream.cases import case_of
from pytest_agentstream.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from pytest_agentstream.cases import Case

PACKAGE = "conformance_cases"
NOT_CASES = frozenset({"probes"})


class CatalogueError(Exception):
    """The catalogue contradicts itself: a slug given twice, or one presupposed that nobody has."""


@dataclass(frozen=True, slots=True)
class Family:
    """One module of cases: its file name, path, and the cases by function name, in order."""

    name: str
    path: Path
    cases: Mapping[str, Case]


@cache
def families() -> tuple[Family, ...]:
    """The families in the order of the tiers that they serve, then by name."""
    package = import_module(PACKAGE)
    import_module(f"{PACKAGE}.probes")
    names = [found.name for found in iter_modules(package.__path__) if not found.ispkg]
    made = [_family(import_module(f"{PACKAGE}.{name}")) for name in names if name not in NOT_CASES]
    return tuple(sorted((family for family in made if family.cases), key=_order))


@cache
def catalogue() -> Mapping[str, Case]:
    """Every packaged case by its slug; raises CatalogueError where it contradicts itself."""
    return checked(case for family in families() for case in family.cases.values())


def checked(cases: Iterable[Case]) -> Mapping[str, Case]:
    """The cases by slug; raises CatalogueError for a slug given twice, or unknown, or a circle."""
    found: dict[str, Case] = {}
    for case in cases:
        if case.slug in found:
            raise CatalogueError(f"two cases have the slug {case.slug}")
        found[case.slug] = case
    for case in found.values():
        for slug in case.requirement.presupposes:
            if slug not in found:
                hint = nearest(slug, found)
                raise CatalogueError(f"{case.slug} presupposes {slug}, which no case has{hint}")
    try:
        TopologicalSorter({s: c.requirement.presupposes for s, c in found.items()}).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise CatalogueError(f"requirements presuppose each other in a circle: {circle}") from None
    return MappingProxyType(found)


def cases_in(module: ModuleType) -> dict[str, Case]:
    """The cases that a module defines itself, by function name, in order."""
    found = {}
    for name, value in vars(module).items():
        case = case_of(value)
        if case is not None and value.__module__ == module.__name__:
            found[name] = case
    return found


def _family(module: ModuleType) -> Family:
    name = module.__name__.rpartition(".")[2]
    return Family(name, Path(module.__file__ or name), MappingProxyType(cases_in(module)))


def _order(family: Family) -> tuple[int, str]:
    ranks = [case.requirement.tier.rank for case in family.cases.values()]
    return (min(ranks, default=0), family.name)
