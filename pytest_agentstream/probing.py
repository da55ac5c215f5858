"""A probe: an async function that drives the server under test and returns what was recorded."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from pytest_agentstream.cases import Case

RESOURCES = frozenset({"target", "dialect", "client", "preflight", "double", "process", "replicas"})
"""What a probe may ask for besides other probes; the scheduler supplies them.

`double` is the `LlmDouble` behind the server, `process` its `ManagedProcess`, `replicas` a tuple of
drivers, one for each further replica; without them the probe is not tested.
"""

ASKING = frozenset({"client", "preflight", "process", "replicas"})
"""Those of them that reach the server under test."""

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
    get the server for themselves, after all others. `optional` names probes and resources whose
    *not tested* (or, for probes, an LLM double that nobody asked) is handed over as None instead
    of spreading. `timeout` bounds it, in seconds.
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
        return _parameters(self.function)

    @property
    def asks(self) -> bool:
        """Whether it asks the server anything itself, and not only through the probes it needs."""
        return not ASKING.isdisjoint(self.parameters)

    @property
    def needs(self) -> tuple[Probe, ...]:
        """The probes among the parameters, looked up as names of the function's own module."""
        return _needs(self)


@cache
def _needs(asker: Probe) -> tuple[Probe, ...]:
    names = (name for name in asker.parameters if name not in RESOURCES)
    return tuple(find(name, vars_of(asker.function), asker.name) for name in names)


@cache
def _parameters(function: Callable[..., object]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


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


def asking(probes: Iterable[Probe]) -> tuple[Probe, ...]:
    """The probes, with those that they need in the place of each that asks nothing itself."""
    found: dict[Probe, None] = {}
    for one in probes:
        found.update(dict.fromkeys([one] if one.asks else asking(one.needs)))
    return tuple(found)


def resting_on(probes: Iterable[Probe]) -> frozenset[str]:
    """The scenarios whose own runs the probes are about, or need.

    One that takes whatever runs there are (`optional`) rests on none of these.
    """
    found: set[str] = set()
    for one in probes:
        required = [needed for needed in one.needs if needed.name not in one.optional]
        found |= {*one.scenarios, *resting_on(required)}
    return frozenset(found)


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
