"""The command line of the reference server: what may be said on it, and what comes of that."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from reference_server.app import ReferenceServer
from reference_server.defects import DEFECTS
from reference_server.encoders import ENCODERS
from reference_server.log import LogError
from reference_server.parts import Parts
from reference_server.protocol import native_schema
from reference_server.scenario import nearest
from reference_server.serving import serve
from reference_server.settings import Settings
from reference_server.upstreams import CONVERSATIONS, prepare
from reference_server.variations import VARIATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

DESCRIPTION = "Start the reference server: `python -m reference_server --port 0 --heartbeat 0.2`."


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line each."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"reference_server: {message}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, put the parts together, serve."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list_defects:
        _print(_defects(as_json=options.json))
        return
    if options.schema:
        _print([json.dumps(native_schema(), indent=2)])
        return
    tokens = {}
    for pair in options.token:
        user, separator, secret = pair.partition("=")
        if not (user and separator and secret):
            parser.error("--token must be USER=SECRET")
        tokens[secret] = user
    parts = Parts(encoder=ENCODERS[options.dialect])
    for name in options.variation:
        parts = VARIATIONS[name].make(parts)
    for name in options.defect:
        defect = DEFECTS[name]
        if defect.dialect != options.dialect and defect.dialect != "any":
            parser.error(f"--defect {name} needs --dialect {defect.dialect}")
        parts = defect.make(parts)
    settings = Settings(
        heartbeat=options.heartbeat,
        retry=options.retry,
        retention=options.retention,
        deadline=options.deadline,
        input_timeout=options.input_timeout,
        lease=options.lease,
        grace=options.grace,
        stalled=options.stalled,
        log=options.log,
        tokens=tokens,
        origins=frozenset(options.cors_origin),
        upstream=options.upstream or "openai",
        upstream_url=options.upstream_url,
    )
    if options.upstream is not None or options.upstream_url is not None:
        prepare(settings.upstream)
    try:
        server = ReferenceServer(settings, parts)
    except LogError as error:
        parser.error(f"--log: {error}")
    serve(server, options.host, options.port)


def _parser() -> Parser:
    defaults = Settings()
    parser = Parser(prog="python -m reference_server", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="0: any free one")
    parser.add_argument("--dialect", type=_known("dialect", ENCODERS), default="native")
    for name, text in {
        "heartbeat": "the promised interval H",
        "retry": "what clients are told to wait before they reconnect",
        "retention": "how long a finished run can be read",
        "deadline": "how long a run may take",
        "input-timeout": "how long a run waits for a person",
        "lease": "how long runs outlive the last sign of life of the process that produces them",
        "grace": "how long open streams have to end when the server is told to stop",
        "stalled": "how long a reader may take nothing before its connection is ended",
    }.items():
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=_seconds, default=default, metavar="SECONDS", help=text
        )
    parser.add_argument(
        "--log",
        default=defaults.log,
        metavar="LOG",
        help="where events are kept: memory, sqlite:PATH or redis://HOST:PORT/DB",
    )
    parser.add_argument("--token", action="append", default=[], metavar="USER=SECRET")
    parser.add_argument("--cors-origin", action="append", default=[], metavar="ORIGIN")
    parser.add_argument(
        "--upstream",
        type=_known("upstream", CONVERSATIONS),
        metavar="NAME",
        help="whose API the agent `llm` asks: openai (the default) or anthropic",
    )
    parser.add_argument(
        "--upstream-url",
        metavar="URL",
        help="that API's base URL, instead of the environment's",
    )
    parser.add_argument(
        "--defect", action="append", default=[], type=_known("defect", DEFECTS), metavar="NAME"
    )
    parser.add_argument(
        "--variation",
        action="append",
        default=[],
        type=_known("variation", VARIATIONS),
        metavar="NAME",
    )
    parser.add_argument("--list-defects", action="store_true", help="and exit")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("--schema", action="store_true", help="print the events' schemas and exit")
    return parser


def _known(what: str, table: object) -> Callable[[str], str]:
    names = list(table)  # type: ignore[call-overload]

    def read(name: str) -> str:
        if name not in names:
            hint = nearest(name, names)
            raise argparse.ArgumentTypeError(f"there is no {what} {name!r}{hint}")
        return name

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.01 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not seconds between 0.01 and 86400")
    return value


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _defects(*, as_json: bool) -> Iterable[str]:
    rows: list[dict[str, Any]] = [defect.row() for defect in DEFECTS.values()]
    if as_json:
        return [json.dumps(rows, indent=1)]
    return [f"{row['name']:34} {row['breaks']:32} {row['text']}" for row in rows]


def _print(lines: Iterable[str]) -> None:
    """Print them all, or as many as somebody reads: `… | head -1` is no error."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the exit
