"""The configuration file: which one is meant, and the `[tool.agentstream]` table in it."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from pytest_agentstream.wording import listed

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("agentstream.toml", "pyproject.toml")
PYPROJECT = "pyproject.toml"
TABLE = "[tool.agentstream]"


class SettingsError(ValueError):
    """A setting that cannot be used: where it stands, what was found, what was expected."""


def find_table(directory: Path, config: str | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that is meant and its table: `config`, or the nearest one, upwards.

    The search begins in `directory`. Without any file that has one: None and an empty table.
    Raises SettingsError.
    """
    if config is not None:
        path = directory / config
        if not path.is_file():
            raise SettingsError(f"--agentstream-config: there is no file {config}")
        table = _read(path)
        if table is None:
            raise _no_table(path, ())
        return path, table
    for folder in (directory, *directory.parents):
        found = [(folder / name, _read(folder / name)) for name in FILES]
        tables = [(path, table) for path, table in found if table is not None]
        if len(tables) > 1:
            raise SettingsError(
                f"{folder}: {listed(FILES, 'and')} both have a table {TABLE}; expected one, "
                "so remove the other"
            )
        if tables:
            return tables[0]
    return None, {}


def _read(path: Path) -> dict[str, Any] | None:
    """The table of a file, or None where a pyproject.toml, or no file at all, has none."""
    if not path.is_file():
        return None
    is_ours = path.name != PYPROJECT
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if is_ours:
            raise SettingsError(f"{path}: cannot be read as UTF-8: {error}") from None
        return None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if is_ours or "tool.agentstream" in text:
            raise SettingsError(f"{path}: no valid TOML: {error}") from None
        return None  # another tool's file: whoever owns it will complain
    tool = document.get("tool")
    table = tool.get("agentstream") if isinstance(tool, dict) else None
    if table is None:
        if is_ours:
            raise _no_table(path, tuple(document))
        return None
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: tool.agentstream is {table!r}; expected a table {TABLE}")
    return table


def _no_table(path: Path, found: tuple[str, ...]) -> SettingsError:
    there = f"; found {listed(found, 'and')}" if found else ""
    return SettingsError(f"{path}: has no table {TABLE}, in which every setting stands{there}")
