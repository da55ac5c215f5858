"""A case: one requirement and the synchronous function that checks it on what probes recorded."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_agentstream.requirements import Level, Requirement, Tier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    F = TypeVar("F", bound=Callable[..., None])

ATTRIBUTE = "__agentstream_case__"
RESOURCES = frozenset({"target", "dialect"})
"""What a case may ask for besides probes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The least evidence that proves anything, by kind: `events`, `ids`, `blocks`, …"""

    least: tuple[tuple[str, int], ...] = ()


def sample(**least: int) -> Sample:
    """Declare a minimum sample, for instance `sample(ids=2)`; below it a case is not tested."""
    return Sample(tuple(least.items()))


@dataclass(frozen=True, slots=True)
class Case:
    """One requirement, its check, the probes it looks at, and the sample it needs.

    `timing` marks a check that depends on arrival times; a known failure of it may come and go.
    """

    requirement: Requirement
    check: Callable[..., None]
    parameters: tuple[str, ...]
    needs: Sample
    timing: bool

    @property
    def slug(self) -> str:
        return self.requirement.slug

    @property
    def probes(self) -> tuple[str, ...]:
        return tuple(name for name in self.parameters if name not in RESOURCES)


def requirement(
    slug: str,
    level: Level,
    *,
    tier: str,
    text: str,
    source: str,
    breaks: str = "",
    hint: str = "",
    presupposes: Iterable[str] = (),
    needs: Sample = Sample(),
    timing: bool = False,
) -> Callable[[F], F]:
    """Make a plain function the case of one requirement.

    The function's parameters are probes, `target` or `dialect`. It returns None where the
    requirement is met and raises through `expect` where it is not. Raises TypeError for an
    `async def` and ValueError for an unknown tier.
    """

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"a case is a plain function, {function.__qualname__} is async")
        made = Requirement(
            slug=slug,
            level=level,
            tier=Tier(tier),
            text=text,
            source=source,
            breaks=breaks,
            hint=hint,
            presupposes=tuple(presupposes),
        )
        parameters = tuple(inspect.signature(function).parameters)
        setattr(function, ATTRIBUTE, Case(made, function, parameters, needs, timing))
        return function

    return decorate


def case_of(function: object) -> Case | None:
    """The case that a function was made into, or None."""
    found: Any = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Case) else None
