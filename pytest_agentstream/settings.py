"""Command line over environment over `[tool.agentstream]` in a file: what was asked for, checked."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from pytest_agentstream.declaring import explain, nearest
from pytest_agentstream.probing import Consent
from pytest_agentstream.requirements import Tier
from pytest_agentstream.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "AGENTSTREAM_"
FILES = ("agentstream.toml", "pyproject.toml")
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "api-key"})


class SettingsError(ValueError):
    """A setting that cannot be used: where it stands, what was found, what was expected."""


class Settings(Target):
    """Everything that a session is told: the target, and how far the suite may go with it.

    `level` is the lowest level that makes a run red; `require` the tier up to which an untested MUST
    is red; `allow` the probe classes allowed beyond loopback; `max_runs` bounds the runs started.
    """

    level: Literal["must", "should"] = "must"
    require: Tier | None = None
    allow: tuple[Consent, ...] = ()
    max_runs: int | None = Field(default=None, ge=1)
    baseline: str | None = None
    report: str | None = None
    recordings: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where they came from, and what should be said about them."""

    settings: Settings
    source: str
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


def load(
    options: Mapping[str, Any],
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Loaded:
    """Merge command line `options`, the environment and the nearest configuration file.

    `options` hold only what was given; `directory` is where the search for a file begins, upwards.
    Raises SettingsError in one or two sentences.
    """
    env = os.environ if environment is None else environment
    path, table = _table(directory, config)
    source = str(path) if path else "no configuration file"
    merged = {**table, **_from_environment(env), **options}
    headers = {**table.get("headers", {}), **options.get("headers", {})}
    if headers:
        merged["headers"] = headers
    if "url" not in merged:
        raise SettingsError(
            "no server under test: give --agentstream-url URL, set AGENTSTREAM_URL, "
            f"or write url in [tool.agentstream] ({source})"
        )
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("\n".join(explain(error, Settings, source))) from None
    _check(settings, source)
    warnings = tuple(_literal_secrets(table.get("headers", {}), source))
    secrets = tuple(value for value in _credentials(settings, env))
    return Loaded(settings, source, warnings, secrets)


def _table(directory: Path, config: str | None) -> tuple[Path | None, dict[str, Any]]:
    if config is not None:
        path = Path(config)
        if not path.is_file():
            raise SettingsError(f"--agentstream-config {config}: no such file")
        return path, _read(path) or {}
    for folder in (directory, *directory.parents):
        found = [(folder / name, _read(folder / name)) for name in FILES]
        tables = [(path, table) for path, table in found if table is not None]
        if len(tables) > 1:
            raise SettingsError(f"{folder}: both {' and '.join(FILES)} configure agentstream; keep one")
        if tables:
            return tables[0]
    return None, {}


def _read(path: Path) -> dict[str, Any] | None:
    """The `[tool.agentstream]` table of a file, or None where it has none."""
    if not path.is_file():
        return None
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if path.name == "pyproject.toml":
            return None  # another tool's file; whoever owns it will complain
        raise SettingsError(f"{path}: not TOML: {error}") from None
    table = document.get("tool", {}).get("agentstream")
    if table is None:
        if path.name == "pyproject.toml":
            return None
        raise SettingsError(f"{path}: found no table [tool.agentstream], which was expected")
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: tool.agentstream: expected a table, found {table!r}")
    return table


ENVIRONMENT: Mapping[str, str] = {
    f"{PREFIX}{name.upper()}": name
    for name in (
        "url", "dialect", "heartbeat", "ca_file", "level", "require", "max_runs", "concurrency", "seed"
    )
}  # fmt: skip
"""Which variables are read, and which setting each of them is."""


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    return {name: env[key] for key, name in ENVIRONMENT.items() if env.get(key)}


def _check(settings: Settings, source: str) -> None:
    from pytest_agentstream.controls import SCENARIOS

    for name in settings.scenarios:
        if name not in SCENARIOS:
            raise SettingsError(
                f"{source}: scenarios.{name}: no such scenario{nearest(name, SCENARIOS)}; "
                f"known are {', '.join(SCENARIOS)}"
            )
    if settings.parts.scheme not in {"http", "https"} or not settings.parts.hostname:
        raise SettingsError(
            f"url: found {settings.url!r}, expected an absolute http:// or https:// URL "
            "such as http://127.0.0.1:8000/chat"
        )
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise SettingsError(f"{source}: ca_file: no such file: {settings.ca_file}")


def _literal_secrets(headers: Mapping[str, Any], source: str) -> list[str]:
    return [
        f"{source}: headers.{name} holds a literal secret; take it from the environment: "
        f'{name} = "{{env:NAME}}"'
        for name, value in headers.items()
        if name.lower() in SECRET_HEADERS and "{env:" not in str(value)
    ]


def _credentials(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """Texts that must never be shown: credential headers, and every environment value a template uses."""
    from pytest_agentstream.templates import environment_names, render

    names = environment_names([settings.headers, *map(_templates, settings.scenarios.values())])
    secrets = [env[name] for name in names if name in env]
    for name, value in settings.headers.items():
        if name.lower() in SECRET_HEADERS and not environment_names(value):
            text = str(render(value, {}))
            secrets += [text, text.partition(" ")[2]]
    return [secret for secret in secrets if secret]


def _templates(scenario: Any) -> list[Any]:
    return [scenario.headers, scenario.query, scenario.json_body, scenario.body, scenario.path]
