"""What switches the suite on, and which packaged cases a command line means.

`Config.args` and `Config.args_source` are not public API: `take_words` is the only place that reads
or writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.cases import case_of
from pytest_agentstream.catalogue import PACKAGE
from pytest_agentstream.collection import NAME, RUNNING, CaseItem, Collection, item_for
from pytest_agentstream.distributing import Distribution, check_mode
from pytest_agentstream.running import Running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.session import Session

COLLECTION = "agentstream-collection"


def switch_on(config: pytest.Config) -> None:
    """Register what collects and runs cases; raises pytest.UsageError for unusable options."""
    words = take_words(config)
    if config.getoption("agentstream_plan"):
        config.option.dist = "no"  # there is nothing to distribute
    config.pluginmanager.register(Collection(words), COLLECTION)
    running = running_of(config)
    running.words = words
    config.pluginmanager.register(Distribution(running), "agentstream-distribution")
    if words is not None:
        check_mode(config)
        running.check_settings()


def running_of(config: pytest.Config) -> Running:
    """The one `Running` of a pytest session, made when it is first asked for."""
    running: Running | None = config.pluginmanager.getplugin(RUNNING)
    if running is None:
        running = Running(config)
        config.pluginmanager.register(running, RUNNING)
    return running


def ensure_running(config: pytest.Config) -> Session:
    """The session against the server under test, for fixtures; fails a test where there is none."""
    try:
        return running_of(config).session
    except pytest.UsageError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)  # outside of the handler, or the text would stand twice


def own_item(collector: pytest.Collector, name: str, function: object) -> CaseItem:
    """The item of a user's own case; its id ends in `[agentstream]`, so that one worker gets all.

    Raises CollectError for a case that cannot be judged.
    """
    case = case_of(function)
    if case is None:
        raise TypeError(f"{name} is no case")
    try:
        running_of(collector.config).admit(case)
    except LookupError as error:
        raise collector.CollectError(f"agentstream: {error.args[0]}") from None
    return item_for(collector, f"{name}[{NAME}]", case)


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
    if config.getoption("help"):
        return None
    given = _given(config)
    typed = list(getattr(given, "file_or_dir", []))
    here = config.invocation_params.dir
    pyargs = bool(config.getoption("pyargs"))
    meant = {arg: word for arg in config.args if (word := _word(arg, here, pyargs)) is not None}
    if meant:
        config.args[:] = [arg for arg in config.args if arg not in meant and arg in typed]
        return list(meant.values())
    if typed:
        return None
    ways = ("url", "reference", "command", "plan")
    if any(getattr(given, f"agentstream_{way}") for way in ways):
        config.args[:] = []
        return []
    return None


def _given(config: pytest.Config) -> Any:
    """What the command line itself says, without what `addopts` adds."""
    parser: Any = config._parser  # no public way tells addopts from the command line
    return parser.parse_known_args([str(arg) for arg in config.invocation_params.args])


def _word(argument: str, here: Path, pyargs: bool) -> str | None:
    """The `agentstream…` word that an argument stands for; existing paths stand for themselves."""
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
