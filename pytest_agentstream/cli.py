"""The command `agentstream`: run the suite apart from any project, and list what it knows."""

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
    """Run one command and return its exit code; `run` becomes the pytest process where it can."""
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
    commands.add_parser("requirements", help="list every requirement, by tier")
    commands.add_parser("dialects", help="list the built-in dialects")
    given, rest = parser.parse_known_args(arguments)
    if given.command != "run":
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        return _print_requirements() if given.command == "requirements" else _print_dialects()
    options, others = pytest_options(rest)
    urls = [word for word in others if "://" in word]
    if len(urls) + ("--agentstream-reference" in options) != 1:
        found = " ".join(urls or others) or "none"
        run.error(
            "expected one URL such as http://127.0.0.1:8000/chat, or --reference for the bundled "
            f"server; found {found}"
        )
    words = [f"--agentstream-url={word}" if word in urls else word for word in others]
    return _call(pytest_command([*options, *words]))


def pytest_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options as the plugin names them, and all other words, which are pytest's or a URL."""
    takes = {f"--{name}": "action" not in given for name, given in OPTIONS}
    takes["--header"] = True
    ours: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in takes:
            others.append(word)
            continue
        if takes[name] and not equals:
            equals, value = "=", next(words, "")
        ours.append(f"--agentstream-{name[2:]}{equals}{value}")
    return ours, others


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """The pytest command that runs the packaged suite and nothing of the project around it."""
    workers = any(a.startswith(("-n", "--numprocesses", "--dist")) for a in arguments)
    return [
        sys.executable,
        "-P",  # what lies in the current folder is not to be imported
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


def _call(command: list[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    print(f"agentstream: PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 {shlex.join(command)}", flush=True)
    if hasattr(os, "fork"):
        os.execve(command[0], command, environment)  # so that signals reach pytest itself
    return subprocess.call(command, env=environment)


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
