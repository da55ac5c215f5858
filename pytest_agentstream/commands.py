"""What may be said of commands that start the server under test, and of what stands around it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_agentstream.faults import Toxiproxy, ToxiproxyError
from pytest_agentstream.target import PORT, is_loopback
from pytest_agentstream.templates import TemplateError, names, render
from pytest_agentstream.wording import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_agentstream.target import Target

EXAMPLE = "uvicorn app:app --port {port}"
URL = "expected an absolute http:// or https:// URL such as"


def problems_around(target: Target, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the commands, the replicas and Toxiproxy: dotted keys and sentences."""
    host = urlsplit(target.url).hostname if target.command else None
    if host is not None and not is_loopback(target.url):
        yield (
            "url",
            (
                f"names {shown(host)}, and the command is started on this machine; expected "
                "127.0.0.1, or a path alone, such as /chat"
            ),
        )
    yield from _folder(target)
    yield from _variables(target, env)
    many = len(target.command) > 1
    for number, words in enumerate(target.command):
        key = f"command[{number}]" if many else "command"
        problem = _words(target, words, env) or _port(target, words, number)
        if problem:
            yield key, problem
    known = not target.command or names_port(target.url)
    taken = {_place(target.url): "url"} if known else {}
    for number, url in enumerate(target.replicas):
        place = taken.setdefault(_place(url), f"replicas[{number}]")
        if is_absolute(url) and place != f"replicas[{number}]":
            yield (
                f"replicas[{number}]",
                f"is {shown(url)}, the same place as {place}; expected another process",
            )
        elif not is_absolute(url):
            yield f"replicas[{number}]", f"is {shown(url)}; {URL} http://127.0.0.1:8001/chat"
        elif urlsplit(url).path != urlsplit(target.url).path:
            yield (
                f"replicas[{number}]",
                (
                    f"is {shown(url)}; expected the path of the url, {urlsplit(target.url).path}, "
                    "on another host or port"
                ),
            )
    if target.toxiproxy is not None:
        try:
            Toxiproxy(target.toxiproxy)
        except ToxiproxyError as error:
            yield "toxiproxy", f"cannot be used: {error}"


def _place(url: str) -> tuple[str, int | None]:
    """The host and port that a URL means; every name of this machine's loopback is one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url, None
    return "localhost" if is_loopback(url) else host, port or {"https": 443}.get(parts.scheme, 80)


def is_absolute(url: str) -> bool:
    """Whether it has a scheme of HTTP's and a host, and no template in front of its path."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not names(parts.netloc)


def whole_url(target: Target) -> str:
    """The start endpoint as a URL, with `{port}` where the suite is to choose the port."""
    url = target.url
    if not target.command:
        return url
    if url.startswith("/"):
        return f"http://127.0.0.1:{PORT}{url}"
    parts = urlsplit(url)
    if PORT in parts.netloc or names_port(url):
        return url
    return parts._replace(netloc=f"{parts.netloc}:{PORT}").geturl()


def takes_port(target: Target, words: tuple[str, ...]) -> bool:
    """Whether a command is told its port, in its words or in its environment."""
    return "port" in names([*words, *target.env.values()])


def names_port(url: str) -> bool:
    """Whether a URL says itself which port is meant."""
    authority = urlsplit(url).netloc.rpartition("@")[2]
    return PORT not in authority and authority.rpartition(":")[2].isdigit()


def _known(target: Target) -> Mapping[str, str]:
    return dict.fromkeys(("port", "double") if target.double else ("port",), "")


def _folder(target: Target) -> Iterator[tuple[str, str]]:
    if target.cwd is not None and not Path(target.cwd).is_dir():
        yield "cwd", f"is {shown(target.cwd)}, and there is no such folder"


def _variables(target: Target, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in target.env.items():
        if not name or "=" in name or "\0" in name + value:
            yield f"env.{name or shown(name)}", "cannot be a variable; expected a name and a text"
        else:
            try:
                if "double" in names(value) and not target.double:
                    raise TemplateError("it names {double}, and there is none; expected --double")
                render(value, _known(target), env)
            except TemplateError as error:
                yield f"env.{name}", f"cannot be given to the server: {error}"


def _words(target: Target, words: tuple[str, ...], env: Mapping[str, str]) -> str:
    """What is wrong with the words themselves, or nothing."""
    if not words or not words[0]:
        return f"is empty; expected what starts the server, such as {shown(EXAMPLE)}"
    if any("\0" in word for word in words):
        return "holds a NUL character; expected words without any"
    try:
        program, *_ = render(words, _known(target), env)
    except TemplateError as error:
        return f"cannot be started: {error}"
    if len(words) == 1 and " " in program:
        return (
            f"is one word, {shown(words[0])}; expected the words of the command, each for itself, "
            "or a text that holds them all (several commands are a list of lists)"
        )
    if find_program(program, target, env) is None:
        return (
            f"starts with {shown(program)}, and no such program is found; expected one in PATH, or "
            "a path (no shell reads the command: where it needs one, write sh -c '…')"
        )
    return ""


def find_program(program: str, target: Target, env: Mapping[str, str]) -> str | None:
    """Where the program is, as the process would find it in its folder and its PATH."""
    if os.path.dirname(program):
        return shutil.which(Path(target.cwd or ".") / program)
    path = target.env.get("PATH", env.get("PATH"))
    with suppress(TemplateError):  # of which there is a sentence for the variable itself
        path = render(path, _known(target), env)
    return shutil.which(program, path=path)


def _port(target: Target, words: tuple[str, ...], number: int) -> str:
    """What is missing for the server to be found where it will listen, or nothing."""
    if takes_port(target, words):
        return ""
    if number:
        return "has no {port}; expected it, so that each replica gets a port of its own"
    if names_port(target.url):
        return ""
    return (
        "has no {port}, and the url has no port; expected {port} where the command takes its port, "
        "or a url that says where the server will listen: http://127.0.0.1:8000/chat"
    )
