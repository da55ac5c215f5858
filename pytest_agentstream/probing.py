"""A probe: an async function that drives the server under test and returns what was recorded."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pytest_agentstream.cases import Case

RESOURCES = frozenset({"target", "dialect", "client", "preflight"})
"""What a probe may ask for besides other probes; the scheduler supplies them."""

PACKAGED = "conformance_cases.probes"


class Consent(StrEnum):
    """What a probe does to a server; all but the first two need consent beyond loopback."""

    READ = "read"
    START = "start"
    FUZZ = "fuzz"
    LOAD = "load"
    ATTACK = "attack"


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """An async function with what must be known before it runs.

    `scenarios` are what it asks the agent for, `runs` how many runs it starts. `exclusive` probes
    get the server for themselves, after all others. `optional` names probes whose *not tested* is
    handed over as None instead of spreading. `timeout` bounds it, in seconds.
    """

    function: Callable[..., Awaitable[Any]]
    consent: Consent
    scenarios: tuple[str, ...]
    runs: int
    exclusive: bool
    optional: frozenset[str]
    timeout: float | None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.function).parameters)

    @property
    def needs(self) -> tuple[Probe, ...]:
        """The probes among the parameters, looked up as names of the function's own module."""
        names = (name for name in self.parameters if name not in RESOURCES)
        return tuple(find(name, vars_of(self.function), self.name) for name in names)


@overload
def probe(function: Callable[..., Awaitable[Any]], /) -> Probe: ...
@overload
def probe(
    *,
    consent: Consent | str = ...,
    scenarios: Iterable[str] = ...,
    runs: int | None = ...,
    exclusive: bool = ...,
    optional: Iterable[str] = ...,
    timeout: float | None = ...,
) -> Callable[[Callable[..., Awaitable[Any]]], Probe]: ...
def probe(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    consent: Consent | str = Consent.START,
    scenarios: Iterable[str] = (),
    runs: int | None = None,
    exclusive: bool = False,
    optional: Iterable[str] = (),
    timeout: float | None = None,
) -> Probe | Callable[[Callable[..., Awaitable[Any]]], Probe]:
    """Make an `async def` a probe; its parameters are resources or other probes.

    `runs` defaults to one run for each scenario. Raises TypeError for anything but an `async def`.
    """
    asked = tuple(scenarios)

    def make(made: Callable[..., Awaitable[Any]]) -> Probe:
        if not inspect.iscoroutinefunction(made):
            raise TypeError(f"@probe needs an async def, {made.__qualname__} is not one")
        count = len(asked) if runs is None else runs
        unknown = set(optional) - set(inspect.signature(made).parameters)
        if unknown:
            raise TypeError(f"{made.__qualname__}: optional names no parameter: {sorted(unknown)}")
        return Probe(made, Consent(consent), asked, count, exclusive, frozenset(optional), timeout)

    return make(function) if function is not None else make


def vars_of(function: Callable[..., object]) -> Mapping[str, object]:
    """The names that a function's module knows."""
    known: Mapping[str, object] = getattr(function, "__globals__", {})
    return known


def find(name: str, around: Mapping[str, object], asker: str) -> Probe:
    """The probe of that name: of the asker's own module first, of the packaged ones then.

    Raises LookupError that names the asker and the nearest packaged probe.
    """
    found = around.get(name)
    if isinstance(found, Probe):
        return found
    packaged = vars(import_module(PACKAGED))
    found = packaged.get(name)
    if isinstance(found, Probe):
        return found
    known = [key for key, value in packaged.items() if isinstance(value, Probe)]
    near = get_close_matches(name, [*known, *sorted(RESOURCES)], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise LookupError(f"{asker} asks for {name!r}, which is neither a probe nor a resource{hint}")


def probes_of(case: Case) -> dict[str, Probe]:
    """The probes that a case looks at, by parameter name; raises LookupError for an unknown one."""
    around = vars_of(case.check)
    return {name: find(name, around, case.slug) for name in case.probes}


def closure(probes: Iterable[Probe]) -> tuple[Probe, ...]:
    """The probes and all that they need, each once, needed ones first; LookupError on a circle."""
    done: dict[Probe, None] = {}

    def visit(one: Probe, path: tuple[Probe, ...]) -> None:
        if one in path:
            names = " -> ".join(step.name for step in (*path, one))
            raise LookupError(f"probes need each other in a circle: {names}")
        if one not in done:
            for needed in one.needs:
                visit(needed, (*path, one))
            done[one] = None

    for each in probes:
        visit(each, ())
    return tuple(done)
