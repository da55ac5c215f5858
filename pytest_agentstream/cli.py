"""The command `agentstream`: run the suite apart from any project around it, and list what it knows."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.plugin import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

INI = Path(__file__).with_name("isolated.ini")
UNWANTED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
USAGE = "agentstream run URL [options]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="agentstream",
        description="The conformance suite for agent streaming servers.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        usage=USAGE,
        help="judge the server at URL, isolated from any project around",
        description="Judge the server at URL. Options are those of the plugin without their prefix "
        "(--dialect, --heartbeat, --config, …; see `pytest --help`), and pytest's own.",
        allow_abbrev=False,
    )
    run.add_argument("url", nargs="?", metavar="URL", help="the endpoint that starts a run")
    commands.add_parser("requirements", help="list every requirement, by tier")
    commands.add_parser("dialects", help="list the built-in dialects")
    given, rest = parser.parse_known_args(arguments)
    if given.command != "run":
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return _print_requirements() if given.command == "requirements" else _print_dialects()
    options = pytest_options(rest)
    if given.url is not None and "://" not in given.url:
        run.error(f"found {given.url!r}, expected a URL such as http://127.0.0.1:8000/chat")
    reference = "--agentstream-reference" in options
    if (given.url is None) != reference:
        run.error("give the URL of a server, or --reference for the bundled one")
    url = [] if given.url is None else [f"--agentstream-url={given.url}"]
    return _call(pytest_command([*url, *options]))


def pytest_options(arguments: Sequence[str]) -> list[str]:
    """The arguments with our option names as the plugin has them; others are pytest's own."""
    names = {f"--{name}" for name, _ in OPTIONS}
    found = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        known = name in names
        found.append(f"--agentstream-{name[2:]}{equals}{value}" if known else argument)
    return found


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """The pytest command that runs the packaged suite and nothing of the project around it."""
    workers = any(a.startswith(("-n", "--numprocesses", "--dist")) for a in arguments)
    return [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(INI),
        f"--rootdir={Path.cwd()}",
        "--noconftest",
        "-p",
        "pytest_agentstream.plugin",
        *(("-p", "xdist.plugin") if workers else ()),
        "-o",
        f"cache_dir={_cache()}",
        *arguments,
    ]


def _cache() -> Path:
    """A folder for `--lf` and the like, outside of the project."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    here = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:12]
    return Path(home) / "agentstream" / here


def _call(command: Sequence[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    print(f"agentstream: PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {shlex.join(command)}", flush=True)
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # pytest got it too, and ends in its own way


def _print_requirements() -> int:
    from pytest_agentstream.catalogue import catalogue
    from pytest_agentstream.requirements import Tier

    for tier in Tier:
        wanted = [c.requirement for c in catalogue().values() if c.requirement.tier is tier]
        if wanted:
            print(f"{tier}")
        for one in wanted:
            print(f"  {one.slug:<36} {one.level:<6}  {one.text}")
    return 0


def _print_dialects() -> int:
    from pytest_agentstream.dialects import builtin_names, load

    for name in builtin_names():
        print(f"{name:<20} {load(name).profile.title}")
    return 0
