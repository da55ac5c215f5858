"""Say what a defect is: one named way to make the server wrong, and the table of all.

A defect replaces a seam (`Parts`); the clean code knows nothing of it. Each breaks one
requirement, and besides it only what evidently presupposes that one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from reference_server.parts import Parts

Make: TypeAlias = Callable[[Parts], Parts]


@dataclass(frozen=True, slots=True)
class Defect:
    """A row of the table."""

    name: str
    breaks: str
    """The slug of the requirement that must become red."""
    text: str
    dialect: str
    make: Make
    options: tuple[str, ...] = ()
    """What the command line needs beside `--defect NAME`, so that it has an effect."""

    def row(self) -> dict[str, str | list[str]]:
        """Return the row as `--list-defects --json` prints it."""
        return {
            "name": self.name,
            "breaks": self.breaks,
            "text": self.text,
            "dialect": self.dialect,
            "options": list(self.options),
        }


DEFECTS: dict[str, Defect] = {}

TOKEN = ("--token", "alice=agentstream-test-token")
SECOND_TOKEN = ("--token", "bob=agentstream-other-token")
CORS = ("--cors-origin", "http://app.example")


def defect(
    name: str, breaks: str, text: str, *, dialect: str = "native", options: tuple[str, ...] = ()
) -> Callable[[Make], Make]:
    """Register the decorated function, which makes defective parts of good ones."""

    def register(make: Make) -> Make:
        if name in DEFECTS:
            raise ValueError(f"two defects are named {name}")
        DEFECTS[name] = Defect(name, breaks, text, dialect, make, options)
        return make

    return register
