"""The command `agentstream`: run the suite apart from any project, and list what it knows."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.astray import astray
from pytest_agentstream.cli_help import (
    COLUMN,
    DIALECTS,
    DOUBLE,
    EXAMPLES,
    REQUIREMENTS,
    RUN,
    RUN_MORE,
    WIDTH,
    options,
)
from pytest_agentstream.plugin import OPTIONS, values_of_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INI = Path(__file__).with_name("isolated.ini")
PACKAGED = ("--pyargs", "conformance_cases")
UNWANTED = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
USAGE = "agentstream run URL [options] [agentstream/FAMILY.py[::CASE] ...]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `run` becomes the pytest process where it can."""
    parser = argparse.ArgumentParser(
        prog="agentstream",
        description="The conformance suite for agent streaming servers.",
        epilog=EXAMPLES,
        formatter_class=_AsWritten,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = _add(commands, "run", "judge the server at URL, apart from any project around", RUN)
    run.usage = USAGE
    run.epilog = f"{options()}\n{RUN_MORE}"
    double = _add(commands, "double", "run the LLM double alone, until Ctrl-C", DOUBLE)
    double.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="where to listen (4010, where `agentstream run --double` has its own); 0: a free port",
    )
    _add(commands, "requirements", "list what is judged, by tier", REQUIREMENTS)
    _add(commands, "dialects", "list the built-in dialects", DIALECTS)
    given, rest = parser.parse_known_args(arguments)
    if given.command != "run":
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        try:
            if given.command == "double":
                return _serve_double(given.port)
            lines = _requirements() if given.command == "requirements" else _dialects()
            print("\n".join(lines), flush=True)
        except BrokenPipeError:  # `… | head -1` is no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        return 0
    return _run(run, rest)


def _run(run: argparse.ArgumentParser, rest: Sequence[str]) -> int:
    """Judge what the words behind `run` say; says in one sentence what is wrong with them."""
    wrong = astray(rest, values_of_options(), Path.cwd(), prefix="--")
    if wrong:
        run.error(wrong)
    if _distributes(rest) and find_spec("xdist") is None:
        run.error(
            "-n and --dist need pytest-xdist, which is not installed here: pip install "
            "pytest-xdist, or leave them out (the suite's waits overlap without)"
        )
    ours, others = pytest_options(rest)
    urls = urls_in(others)
    filed = ("--agentstream-command=", "--agentstream-config=")
    in_file = any(option.startswith(filed) for option in ours)
    count = len(urls) + ("--agentstream-reference" in ours)
    if not count and in_file:  # then the URL stands in the configuration file
        packaged = any(word.startswith("agentstream") for word in others)
        return _call(pytest_command([*ours, *others, *(() if packaged else PACKAGED)]))
    if count != 1:
        found = " ".join(urls or others) or "none"
        bare = [word for word in others if re.match(r"[\w.-]+:\d+(/|$)", word)]
        if not urls and len(bare) == 1:
            found += f"; perhaps http://{bare[0]} is meant"
        run.error(
            "expected one URL such as http://127.0.0.1:8000/chat, or its path and the command that "
            "starts the server: /chat --command 'uvicorn app:app --port {port}', or --reference "
            f"for the bundled server; found {found}"
        )
    words = [f"--agentstream-url={word}" if word in urls else word for word in others]
    return _call(pytest_command([*ours, *words]))


def pytest_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options as the plugin names them, and all other words, which are pytest's or a URL.

    Ours may be named as here or as the plugin does.
    """
    takes = {f"--{name}": given.get("action") != "store_true" for name, given in OPTIONS}
    ours: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("--agentstream-"):
            name = f"--{name.removeprefix('--agentstream-')}"
        if name not in takes:
            others.append(word)
            continue
        if takes[name] and not equals:
            equals, value = "=", next(words, "")
        ours.append(f"--agentstream-{name[2:]}{equals}{value}")
    return ours, others


def urls_in(words: Sequence[str]) -> list[str]:
    """The words that are URLs, or paths of a URL: those that are no file, nor an option's value."""
    found = []
    for before, word in zip(("", *words), words, strict=False):
        is_path = word.startswith("/") and not before.startswith("--") and not Path(word).exists()
        if ("://" in word and not word.startswith("-")) or is_path:
            found.append(word)
    return found


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """The pytest command that runs the packaged suite and nothing of the project around it."""
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
        *(("-p", "xdist.plugin") if _distributes(arguments) else ()),
        "-o",
        f"cache_dir={_cache()}",
        *arguments,
    ]


def _distributes(arguments: Sequence[str]) -> bool:
    """Whether pytest-xdist is asked for."""
    return any(word.startswith(("-n", "--numprocesses", "--dist")) for word in arguments)


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


def _serve_double(port: int | None) -> int:
    from pytest_agentstream.doubles.alone import serve
    from pytest_agentstream.surroundings import FIXED_PORT

    return serve(FIXED_PORT if port is None else port)


def _requirements() -> Iterable[str]:
    from pytest_agentstream.catalogue import catalogue
    from pytest_agentstream.requirements import Tier

    for tier in Tier:
        wanted = [c.requirement for c in catalogue().values() if c.requirement.tier is tier]
        if wanted:
            yield f"{tier}"
        for one in wanted:
            yield f"  {one.slug:<36} {one.level:<6}  {one.text}"


def _dialects() -> Iterable[str]:
    from pytest_agentstream.dialects import builtin_names, load

    for name in builtin_names():
        yield f"{name:<20} {load(name).profile.title}"


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=COLUMN, width=WIDTH)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str, text: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=what, description=text, formatter_class=_AsWritten, allow_abbrev=False
    )
