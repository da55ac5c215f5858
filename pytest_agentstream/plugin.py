"""The pytest plugin: options, and what switches the rest on.

While it is off, this module imports nothing but the standard library and pytest.
"""

from __future__ import annotations

import os
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_agentstream.fixtures import BlockingClient
    from pytest_agentstream.target import Target

OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("url", {"metavar": "URL", "help": "the server under test: the endpoint that starts a run"}),
    ("reference", {"action": "store_true", "help": "judge the bundled reference server"}),
    ("dialect", {"metavar": "NAME|FILE", "help": "a built-in dialect, or a TOML file of your own"}),
    ("config", {"metavar": "FILE", "help": "a file with [tool.agentstream]; default: the nearest"}),
    ("heartbeat", {"metavar": "SECONDS", "help": "the heartbeat interval that is promised, H"}),
    ("header", {"metavar": "'NAME: VALUE'", "action": "append", "help": "sent with every request"}),
    ("control-header", {"action": "store_true", "help":
        "ask for scenarios without a mapping in X-Agentstream-Scenario, which test builds honour"}),
    ("level", {"metavar": "must|should", "help": "the lowest level that makes a run red (must)"}),
    ("require", {"metavar": "TIER", "help": "an untested MUST is red, too, up to this tier: core, "
        "live, resilient, resumable, durable, hardened"}),
    ("allow", {"metavar": "CLASS,…", "help": "probe classes that are allowed beyond this machine's "
        "loopback, too: fuzz,load,attack"}),
    ("max-runs", {"metavar": "N", "help": "start at most N agent runs"}),
    ("concurrency", {"metavar": "N", "help": "at most N probes at once (16)"}),
    ("baseline", {"metavar": "FILE", "help": "known failures by slug (agentstream-baseline.toml)"}),
    ("plan", {"action": "store_true", "help": "send nothing; print which runs would be started"}),
    ("report", {"metavar": "FILE", "help": "write every verdict to FILE as JSON"}),
    ("recordings", {"metavar": "FILE", "help": "write every recording to FILE as JSONL"}),
    ("seed", {"metavar": "N", "help": "the seed of back-off and jitter (0)"}),
    ("double", {"action": "store_true", "help":
        "run a scripted LLM for the server under test to ask in place of a real one"}),
    ("command", {"metavar": "CMD", "action": "append", "help":
        "start the server under test: 'uvicorn app:app --port {port}'; again for each replica"}),
    ("replica", {"metavar": "URL", "action": "append", "help":
        "the start endpoint of a further replica that runs already"}),
    ("toxiproxy", {"metavar": "URL", "help": "inject faults with the Toxiproxy at this address"}),
    ("grace", {"metavar": "SECONDS", "help": "how long the server may take to shut down"}),
)  # fmt: skip

PREFIX = "--agentstream-"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("agentstream", "conformance of agent streaming servers")
    for name, options in OPTIONS:
        group.addoption(f"{PREFIX}{name}", dest=f"agentstream_{_key(name)}", **options)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Complain about words that went astray, before pytest takes them for paths or options."""
    if any(word.startswith(PREFIX) for word in args):
        from pytest_agentstream.astray import astray

        here = early_config.invocation_params.dir
        wrong = astray(args, values_of_options(), here, prefix=PREFIX)
        if wrong:
            raise pytest.UsageError(f"agentstream: {wrong}")


def values_of_options() -> dict[str, str | None]:
    """What the value of each option is called; None for a flag."""
    return {name: options.get("metavar") for name, options in OPTIONS}


def _key(name: str) -> str:
    return name.replace("-", "_")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "agentstream: a packaged conformance case")
    given = any(config.getoption(f"agentstream_{_key(name)}") for name, _ in OPTIONS)
    sent = "agentstream" in getattr(config, "workerinput", {})
    if given or sent or _names_the_suite(config) or _distributes_own_cases(config):
        from pytest_agentstream.switching import switch_on

        switch_on(config)


def _names_the_suite(config: pytest.Config) -> bool:
    here = config.invocation_params.dir
    for path in (arg.partition("::")[0] for arg in config.args):
        if path.partition("/")[0].partition(".")[0] == "conformance_cases":
            return True
        if path.partition("/")[0] == "agentstream" and not (here / path).exists():
            return True
    return False


def _distributes_own_cases(config: pytest.Config) -> bool:
    """Whether xdist may spread cases of a project that names its server in a file or variable.

    Only workers collect, and who distributes must know before.
    """
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        return False
    here = config.invocation_params.dir
    files = (folder / "agentstream.toml" for folder in (here, *here.parents))
    return (
        "AGENTSTREAM_URL" in os.environ
        or any(file.is_file() for file in files)
        or (
            config.inipath is not None
            and config.inipath.name == "pyproject.toml"
            and "[tool.agentstream" in config.inipath.read_text(encoding="utf-8", errors="replace")
        )
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Item | None:
    """Turn a user's own case into a case item, also where the suite is not switched on."""
    if not isinstance(obj, FunctionType) or "__agentstream_case__" not in vars(obj):
        return None  # asking no other object for an attribute: lazy ones of users do odd things
    from pytest_agentstream.switching import own_item

    return own_item(collector, name, obj)


@pytest.fixture(scope="session")
def agentstream_target(pytestconfig: pytest.Config) -> Target:
    """The server under test, as the settings describe it."""
    from pytest_agentstream.switching import ensure_running

    return ensure_running(pytestconfig).target


@pytest.fixture(scope="session")
def agentstream_client(pytestconfig: pytest.Config) -> BlockingClient:
    """The reference client, for plain synchronous tests: `run`, `resume`, `request`, `result`."""
    from pytest_agentstream.fixtures import BlockingClient
    from pytest_agentstream.switching import ensure_running

    return BlockingClient(ensure_running(pytestconfig))
