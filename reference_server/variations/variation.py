"""Say what a variation is: one named harmless way to be different, and the table of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from reference_server.parts import Parts

Make: TypeAlias = Callable[[Parts], Parts]


@dataclass(frozen=True, slots=True)
class Variation:
    """A row of the table."""

    name: str
    text: str
    make: Make


VARIATIONS: dict[str, Variation] = {}


def variation(name: str, text: str) -> Callable[[Make], Make]:
    """Register the decorated function, which makes different parts of good ones."""

    def register(make: Make) -> Make:
        VARIATIONS[name] = Variation(name, text, make)
        return make

    return register
