"""Command line over environment over `[tool.agentstream]` in a file: what was asked, checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from pytest_agentstream.commands import whole_url
from pytest_agentstream.complaints import complaints
from pytest_agentstream.declarations import problems_of
from pytest_agentstream.probing import Consent  # noqa: TC001 - pydantic resolves it
from pytest_agentstream.redaction import CREDENTIALS, names_secret, secrets_in
from pytest_agentstream.requirements import Tier  # noqa: TC001 - pydantic resolves it
from pytest_agentstream.settings_file import SettingsError, find_table
from pytest_agentstream.target import Target
from pytest_agentstream.templates import environment_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ENVIRONMENT", "Loaded", "Settings", "SettingsError", "load"]

PREFIX = "AGENTSTREAM_"
MOST = 10
"""Complaints that are shown at once."""


class Settings(Target):
    """Everything that a session is told: the target, and how far the suite may go with it.

    `level` is the lowest level that makes a run red; `require` the tier up to which an untested
    MUST is red; `allow` the probe classes allowed beyond loopback; `max_runs` bounds the runs that
    are started.
    """

    level: Literal["must", "should"] = "must"
    require: Tier | None = None
    allow: tuple[Consent, ...] = Field(default=(), examples=['["fuzz", "load"]'])
    max_runs: int | None = Field(default=None, ge=1)
    baseline: str | None = None
    report: str | None = None
    recordings: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with where they came from, and what should be said about them.

    `secrets` are texts that must never be shown.
    """

    settings: Settings
    source: str
    warnings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


ENVIRONMENT: Mapping[str, str] = {
    f"{PREFIX}{name.upper()}": name
    for name in (
        "url", "dialect", "heartbeat", "ca_file", "level", "require", "max_runs", "concurrency",
        "seed", "toxiproxy", "grace",
    )
}  # fmt: skip
"""Which variables are read, and which setting each of them is."""

PATHS = ("ca_file", "dialect", "baseline", "report", "recordings", "cwd")
"""Settings that are paths; in a file they are meant from the folder that the file is in."""


def load(
    options: Mapping[str, Any],
    *,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    config: str | None = None,
    search: bool = True,
) -> Loaded:
    """Merge command line `options`, the environment and the nearest configuration file.

    `options` hold only what was given; `directory` is where the search for a file begins, upwards,
    unless `search` is off: then only `config` is read. Raises SettingsError: a sentence for each
    setting that can't be used.
    """
    env = os.environ if environment is None else environment
    path, table = find_table(directory, config) if search or config else (None, {})
    source = str(path) if path else "no configuration file"
    if path is not None:
        table = table | {key: _beside(path, table[key]) for key in PATHS if key in table}
        if "command" in table and "command" not in options:
            table.setdefault("cwd", str(path.parent))
    variables = {name: env[key] for key, name in ENVIRONMENT.items() if env.get(key)}
    merged = {**table, **variables, **options}
    if "headers" in table:
        merged["headers"] = _headers(table["headers"], options.get("headers", {}))
    if "url" not in merged and merged.get("command"):
        raise SettingsError(
            "a command starts the server, and nothing says which of its paths starts a run: give "
            f"--agentstream-url /chat, or write url in [tool.agentstream] ({source})"
        )
    if "url" not in merged:
        raise SettingsError(
            "no server under test: give --agentstream-url URL, set AGENTSTREAM_URL, "
            f"or write url in [tool.agentstream] ({source})"
        )
    named = _Naming(source, options, variables)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        found = complaints(error, Settings, hidden=CREDENTIALS | {"headers"})
        raise _error([f"{named(one.key)} {one.words}" for one in found]) from None
    if wrong := [f"{named(key)} {words}" for key, words in problems_of(settings, env)]:
        raise _error(wrong)
    settings = settings.model_copy(update={"url": whole_url(settings)})
    warnings = tuple(f"{named(key)} {words}" for key, words in _literal_secrets(table))
    return Loaded(settings, source, warnings, tuple(_secrets(settings, env)))


@dataclass(frozen=True)
class _Naming:
    """What a setting is called where it was given: an option, a variable, or a key in a file."""

    source: str
    options: Mapping[str, Any]
    variables: Mapping[str, str]

    def __call__(self, key: str) -> str:
        top, _, rest = key.partition(".")
        top = top.partition("[")[0]
        given = self.options.get(top)
        if given is not None and (top != "headers" or rest.strip('"') in given):
            option = {"headers": "header", "replicas": "replica"}.get(top, top).replace("_", "-")
            return f"--agentstream-{option}{f' ({rest})' if rest else ''}"
        if top in self.variables:
            return f"{PREFIX}{top.upper()}"
        return f"{self.source}: {key}"


def _error(found: list[str]) -> SettingsError:
    more = [f"and {len(found) - MOST} more"] if len(found) > MOST else []
    return SettingsError("\n".join([*found[:MOST], *more]))


def _beside(file: Path, value: Any) -> Any:
    """A path in a file, from the file's folder; the name of a built-in dialect is no path."""
    from pytest_agentstream.dialects import builtin_names

    if not isinstance(value, str) or value in builtin_names():
        return value
    beside = file.parent / value
    is_path = beside.exists() or value.endswith(".toml") or len(Path(value).parts) > 1
    return str(beside) if is_path or Path(value).suffix else value


def _headers(from_file: Any, given: Mapping[str, Any]) -> Any:
    """Those of the file, less those that the command line replaces, whatever their case."""
    if not isinstance(from_file, dict):
        return from_file
    replaced = {name.lower() for name in given}
    kept = {name: value for name, value in from_file.items() if name.lower() not in replaced}
    return kept | dict(given)


def _literal_secrets(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Credentials that stand in a file as they are, each with its key."""
    places = [("headers", table.get("headers", {}))]
    scenarios = table.get("scenarios", {})
    places += [
        (f"scenarios.{name}.headers", one.get("headers", {})) for name, one in scenarios.items()
    ]
    steps = table.get("setup", ())
    places += [(f"setup[{n}].headers", one.get("headers", {})) for n, one in enumerate(steps)]
    for name, value in table.get("env", {}).items():
        if names_secret(name) and "{" not in str(value):
            words = "holds a literal secret; take it from the environment"
            yield f"env.{name}", f'{words}: {name} = "{{env:NAME}}"'
    for key, headers in places:
        for name, value in headers.items():
            if name.lower() in CREDENTIALS and "{" not in str(value):
                words = "holds a literal secret; take it from the environment"
                yield f"{key}.{name}", f'{words}: {name} = "{{env:NAME}}"'


def _secrets(settings: Settings, env: Mapping[str, str]) -> Iterator[str]:
    """Texts that must never be shown: literal credentials, and variables that templates use."""
    sent: list[Any] = [settings.url, settings.headers, settings.env, settings.command]
    sent += [settings.model_dump(include={"scenarios", "setup"})]
    yield from (env[name] for name in sorted(environment_names(sent)) if name in env)
    headers = [settings.headers, *(one.headers for one in settings.scenarios.values())]
    headers += [step.headers for step in settings.setup]
    for name, value in (pair for each in headers for pair in each.items()):
        if not environment_names(value):
            yield from secrets_in(name, value)
