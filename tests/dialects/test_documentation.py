"""docs/dialects.md: its example loads, and it leaves out no field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from pydantic import BaseModel

from pytest_agentstream.dialects import Outcome, builtin_names
from pytest_agentstream.dialects.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Run

    RunOf = Callable[..., Run]
    Declared = Callable[[str], Dialect]

TEXT = (Path(__file__).parents[2] / "docs" / "dialects.md").read_text(encoding="utf-8")


def fields(annotation: Any) -> Iterator[str]:
    """Yield the names of all the fields of a model, and of the models in it, as a file has them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield field.alias or name
            yield from fields(field.annotation)
    for argument in get_args(annotation):
        yield from fields(argument)


@pytest.mark.parametrize("name", sorted(set(fields(Profile))))
def test_every_field(name: str) -> None:
    """Every field that a dialect's file may have stands in the documentation."""
    assert f"`{name}`" in TEXT or f"`{name} =" in TEXT or f"`[{name}]`" in TEXT


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin(name: str) -> None:
    """Every built-in dialect stands in the documentation."""
    assert f"| `{name}` |" in TEXT


def test_example(declared: Declared, run_of: RunOf) -> None:
    """The example loads, and reads the stream that it is said to describe."""
    (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    (quoted,) = re.findall(
        r"Say the server answers `POST /ask` with\n\n(.*?)\nand", TEXT, re.DOTALL
    )
    reading = declared(toml).read(run_of(re.sub(r"(?m)^    ", "", quoted) + "\n"))
    assert [event.type for event in reading.events] == ["delta", "end"]
    assert (reading.outcome, reading.violations) == (Outcome.SUCCESS, ())
