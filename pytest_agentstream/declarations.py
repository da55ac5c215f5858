"""Declarations: what well-formed settings may still not say, found before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_agentstream.commands import EXAMPLE, problems_around, whole_url
from pytest_agentstream.controls import PLACEHOLDER, SCENARIOS, sends_prompt
from pytest_agentstream.dialects import DialectError, builtin_names
from pytest_agentstream.dialects import load as load_dialect
from pytest_agentstream.dialects.names import matches
from pytest_agentstream.target import PORT
from pytest_agentstream.templates import TemplateError, names, render
from pytest_agentstream.wording import listed, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.target import Target

Problem = tuple[str, str]
"""A dotted key, and what is wrong with it."""

ALWAYS_KNOWN = frozenset({"uuid", "prompt"})


def problems_of(target: Target, env: Mapping[str, str]) -> list[Problem]:
    """Return everything that would stop the session later, each with its key."""
    dialect, found = _dialect(target)
    return [
        *_url(target),
        *_files(target),
        *found,
        *_scenarios(target, dialect),
        *_setup(target),
        *_templates(target, dialect, env),
        *problems_around(target, env),
    ]


def _url(target: Target) -> Iterator[Problem]:
    expected = "expected an absolute http:// or https:// URL such as http://127.0.0.1:8000/chat"
    if target.command:
        expected += ', or its path: "/chat"'
    elif "{port}" in target.url or target.url.startswith("/"):
        where = "names {port}" if "{port}" in target.url else f"is {shown(target.url)}, a path"
        command = f"or what starts the server: --agentstream-command {EXAMPLE!r}"
        yield "url", f"{where}, and there is no command; {expected}, {command}"
        return
    try:
        parts = urlsplit(whole_url(target).replace(PORT, "8000"))
        templated = names(parts.netloc)
        good = templated or (parts.scheme in {"http", "https"} and parts.hostname)
        _ = templated or parts.port
    except ValueError as error:
        yield "url", f"is {shown(target.url)} ({error}); {expected}"
        return
    if "@" in parts.netloc:
        header = 'headers = { Authorization = "Basic {env:NAME}" }'
        yield "url", f"holds a user or password; expected them in a header: {header}"
    elif templated:
        yield (
            "url",
            (
                f"is {shown(target.url)}; expected its host and port written out: templates may "
                "stand in its path and query, and AGENTSTREAM_URL gives all of it"
            ),
        )
    elif not good:
        yield "url", f"is {shown(target.url)}; {expected}"


def _files(target: Target) -> Iterator[Problem]:
    if target.ca_file is not None and not Path(target.ca_file).is_file():
        yield (
            "ca_file",
            f"is {shown(target.ca_file)}, and there is no such file; expected one in PEM",
        )


def _dialect(target: Target) -> tuple[Dialect | None, list[Problem]]:
    if target.dialect is None:
        return None, []
    try:
        dialect = load_dialect(target.dialect)
    except DialectError as error:
        return None, [("dialect", f"cannot be used: {error}")]
    if target.dialect in builtin_names():
        return dialect, []
    return dialect, [("dialect", f"cannot be used: {words}") for words in _slugs(target, dialect)]


def _slugs(target: Target, dialect: Dialect) -> Iterator[str]:
    """Requirements that a user's own dialect speaks of and that do not exist."""
    from pytest_agentstream.catalogue import catalogue

    known = set(catalogue())
    for name in builtin_names():
        known |= load_dialect(name).profile.requirements.keys()
    for slug in dialect.profile.requirements:
        if not any(matches(one, slug) for one in known):
            yield (
                f'{target.dialect}: requirements."{slug}" is no requirement that is known; '
                f"expected one that `agentstream requirements` lists{nearest(slug, known)}"
            )


def _scenarios(target: Target, dialect: Dialect | None) -> Iterator[Problem]:
    for name, scenario in target.scenarios.items():
        if name not in SCENARIOS:
            hint = nearest(name, SCENARIOS)
            yield (
                f"scenarios.{name}",
                f"is no scenario that is known; expected {listed(SCENARIOS)}{hint}",
            )
        elif scenario.secret == PLACEHOLDER:
            yield (
                f"scenarios.{name}.secret",
                f"is still {shown(PLACEHOLDER)}; expected such a part, so that a leak is noticed",
            )
        elif scenario.verbatim and scenario.text is None and not sends_prompt(scenario):
            yield (
                f"scenarios.{name}.verbatim",
                (
                    "is true, and nothing that is sent says {prompt}; expected {prompt} where the "
                    "text to echo belongs, or the echoed text as `text`"
                ),
            )


def _setup(target: Target) -> Iterator[Problem]:
    for number, step in enumerate(target.setup):
        method, _, path = step.request.strip().partition(" ")
        if not path.strip() or not method.isalpha():
            yield (
                f"setup[{number}].request",
                f'is {shown(step.request)}; expected a method and a path, such as "POST /threads"',
            )
        for name, where in step.capture.items():
            kind, _, rest = where.partition(":")
            if kind not in {"json", "header"} or not rest:
                yield (
                    f"setup[{number}].capture.{name}",
                    f'is {shown(where)}; expected "json:path.to.value" or "header:Name"',
                )


def _templates(
    target: Target, dialect: Dialect | None, env: Mapping[str, str]
) -> Iterator[Problem]:
    """Templates that name nothing, also in the dialect's own start request."""
    captured: set[str] = set()
    for number, step in enumerate(target.setup):
        sent = {"request": step.request, "json": step.json_body, "headers": step.headers}
        yield from _unknown(f"setup[{number}]", sent, captured, env)
        captured |= step.capture.keys()
    # a port that nobody can fill in is complained about where the URL is
    yield from _unknown("url", target.url, captured | {"port"}, env)
    # these go with setup requests too, before anything is captured
    yield from _unknown("headers", target.headers, (), env)
    for name, scenario in target.scenarios.items():
        sent = scenario.model_dump(
            include={"json_body", "body", "path", "headers", "query"}, by_alias=True
        )
        yield from _unknown(f"scenarios.{name}", sent, captured, env)
    if dialect is not None:
        start = dialect.profile.start
        sent = {"json": start.json_body, "headers": start.headers}
        for key, words in _unknown("start", sent, captured, env):
            yield "dialect", f"cannot be used: {target.dialect}: {key} {words}"


def _unknown(
    key: str, value: Any, captured: Collection[str], env: Mapping[str, str]
) -> Iterator[Problem]:
    known = dict.fromkeys(ALWAYS_KNOWN | set(captured), "")
    for place, text in _texts(key, value):
        try:
            render(text, known, env)
        except TemplateError as error:
            yield place, f"cannot be sent: {error}"


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield key, value
        case dict():
            for name, item in value.items():
                yield key, str(name)
                yield from _texts(f"{key}.{name}", item)
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _texts(f"{key}[{number}]", item)
