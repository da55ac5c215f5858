"""What switches the suite on, and which packaged cases a command line means.

`Config.args` and `Config.args_source` are not public API: `take_words` is the only place that reads
or writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.catalogue import PACKAGE
from pytest_agentstream.collection import NAME, RUNNING, Collection
from pytest_agentstream.running import Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.session import Session

COLLECTION = "agentstream-collection"


def switch_on(config: pytest.Config) -> None:
    """Register what collects and runs cases; raises pytest.UsageError for unusable options."""
    words = take_words(config)
    config.pluginmanager.register(Collection(words), COLLECTION)
    running = running_of(config)
    running.words = words
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_agentstream.distributing import Distribution

        config.pluginmanager.register(Distribution(running), "agentstream-distribution")
    if words is not None:
        running.check_settings()


def running_of(config: pytest.Config) -> Running:
    """The one `Running` of a pytest session, made when it is first asked for."""
    running: Running | None = config.pluginmanager.getplugin(RUNNING)
    if running is None:
        running = Running(config)
        config.pluginmanager.register(running, RUNNING)
    return running


def ensure_running(config: pytest.Config) -> Session:
    """The session against the server under test, for fixtures and users' own cases."""
    return running_of(config).session


def take_words(config: pytest.Config) -> list[str] | None:
    """Take the words that mean packaged cases out of what pytest is to collect.

    None: no packaged case is meant. An empty list: all of them are.
    """
    sent = getattr(config, "workerinput", {}).get(NAME)
    if sent is not None:
        words: list[str] | None = sent["words"]
        if words is not None:
            config.args[:] = [arg for arg in config.args if arg in sent["others"]]
        return words
    typed = _typed(config)
    here = config.invocation_params.dir
    pyargs = bool(config.getoption("pyargs"))
    meant = {arg: word for arg in config.args if (word := _word(arg, here, pyargs)) is not None}
    if meant:
        config.args[:] = [arg for arg in config.args if arg not in meant and arg in typed]
        return list(meant.values())
    if typed:
        return None
    if config.getoption("agentstream_url") or config.getoption("agentstream_reference"):
        config.args[:] = []
        return []
    return None


def _typed(config: pytest.Config) -> list[str]:
    """The positional arguments of the command line itself, without what `addopts` adds."""
    parser: Any = config._parser  # no public way tells addopts from the command line
    arguments = [str(arg) for arg in config.invocation_params.args]
    known = parser.parse_known_args(arguments)
    return list(getattr(known, "file_or_dir", []))


def _word(argument: str, here: Path, pyargs: bool) -> str | None:
    """The `agentstream…` word that a positional argument stands for; existing paths stand for themselves."""
    path, separator, names = argument.partition("::")
    if (here / path).exists() and not _is_the_package(here / path):
        return None
    if path == NAME or path.startswith(f"{NAME}/"):
        return argument
    if _is_the_package(here / path) or (pyargs and path == PACKAGE):
        return NAME
    if pyargs and path.startswith(f"{PACKAGE}."):
        family = path.removeprefix(f"{PACKAGE}.").removesuffix(".py")
        return f"{NAME}/{family}.py{separator}{names}"
    return None


def _is_the_package(path: Path) -> bool:
    from importlib.util import find_spec

    spec = find_spec(PACKAGE)
    places: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
    return any(path.resolve() == Path(place).resolve() for place in places)
