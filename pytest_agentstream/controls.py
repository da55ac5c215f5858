"""How a scenario reaches the server under test, and what is then known to be planted in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_agentstream.target import Scenario
from pytest_agentstream.templates import names
from pytest_agentstream.tolerances import HEAD_AT_ONCE, SILENCE_NEEDED
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_agentstream.target import Target

PAUSE = 0.7
"""Seconds; a shorter pause is not told apart from a busy machine."""

LONG = 2.4
"""Seconds; long enough that a client can be cut twenty times while the run lives."""

HEADER = "X-Agentstream-Scenario"

SCENARIOS: Mapping[str, str] = {
    "complete": "an ordinary run that ends well",
    "tools": "a run that calls at least one tool, as slow as `seconds` says",
    "silence": "a run with one silence of `seconds` in its middle",
    "slow-start": "a run that is silent for `seconds` before its first event",
    "crash": "an exception in the agent after some text",
    "crash-first": "an exception in the agent before the first event",
    "crash-cancelled": "the agent is cancelled (asyncio.CancelledError) after some text",
    "crash-exit": "the agent raises SystemExit after some text",
    "crash-tool": "an exception while a tool runs",
    "echo": "a run that answers with `text` and nothing else",
    "long": "a run of some hundred events",
    "huge": "a run of at least 10,000 events",
    "expired": "a run that is kept for `retention` seconds only",
    "fail": "a failure that the agent reports itself",
    "interrupt": "a run that waits for a person",
    "block": "a tool that blocks its worker",
    "pauses": "a run that pauses for `pause` seconds between its events",
    "overloaded": "a start that is refused with 429 or 503",
}
"""Every scenario the suite knows, and what the server under test should do in it."""


@dataclass(frozen=True, slots=True)
class Control:
    """By which means a scenario is asked for (`default`, `mapped`, `header`), and the scenario."""

    name: str
    scenario: Scenario


ECHO_TEXT = (
    "plain |1|Gr\u00fc\u00dfe, \u65e5\u672c\u8a9e, \U0001f30d\u200d\U0001f680|2|"
    "one\ntwo\rthree\r\nfour\n\nfive\r\rsix|3|"
    "a\u2028b\u2029c\u0085d|4| end"
)
"""What `echo` plants: characters of two to four bytes, every line end, Unicode separators."""


def control_of(target: Target, name: str, interval: float | None) -> Control:
    """Find the control of a scenario; `interval` is H in seconds, where one is promised.

    Raises `NotTested` with the setting that would provide one.
    """
    if name in target.scenarios:
        return Control("mapped", _planted(target.scenarios[name]))
    if target.control_header:
        return Control("header", _asked_by_header(target, name, interval))
    if name == "complete":
        return Control("default", Scenario())
    raise NotTested(
        f"no control for the scenario `{name}` ({SCENARIOS[name]})",
        f"map it: [tool.agentstream.scenarios] {name} = "
        f"{{ {_example(target, name)}{_declared(name, interval)} }}",
    )


def sends_prompt(scenario: Scenario) -> bool:
    """Whether what a mapping sends has a place for the text to echo, as far as it says."""
    if scenario.json_body is None and scenario.body is None and not scenario.query:
        return True  # the dialect's own start request
    sent = [scenario.json_body, scenario.body, scenario.query, scenario.path, scenario.headers]
    return "prompt" in names(sent)


def _planted(scenario: Scenario) -> Scenario:
    """The mapping with the text to echo, where it is declared to echo and says no text itself."""
    if not scenario.verbatim or scenario.text is not None:
        return scenario
    text = ECHO_TEXT if scenario.prompt is None else scenario.prompt
    return scenario.model_copy(update={"prompt": text, "text": text})


PLACEHOLDER = "a part of the exception's text"
"""Stands in suggested mappings; as a secret it would never be found, and so prove nothing."""


def _declared(name: str, interval: float | None) -> str:
    """The declarations without which a mapping of the scenario would leave cases untested."""
    h = interval or 15.0
    match name:
        case "silence":
            return f", seconds = {SILENCE_NEEDED * h:g}"
        case "slow-start" | "tools":
            return f", seconds = {2 * h:g}"
        case "crash" | "crash-first" | "crash-tool":
            return f', secret = "{PLACEHOLDER}"'
        case "pauses":
            return ", pause = 0.3"
        case "echo":
            return ", verbatim = true"
    return ""


def _asked_by_header(target: Target, name: str, interval: float | None) -> Scenario:
    """What is planted, asked for in the header of a request that is otherwise `complete`'s."""
    planted = Scenario()
    h = interval or 0.0
    match name:
        case "silence":
            seconds = max(h * SILENCE_NEEDED * 1.05, PAUSE)
            planted = Scenario(seconds=seconds, marker="before-the-silence-2c9b")
        case "pauses":
            planted = Scenario(pause=0.2)
        case "tools":
            planted = Scenario(seconds=max(h * 2.5, PAUSE))
        case "slow-start":
            planted = Scenario(seconds=max(h * 2.5, 2.2 * HEAD_AT_ONCE))
        case "crash":
            planted = Scenario(secret="srv-app-7f3a9c", marker="last-words-5d1e")
        case "crash-first" | "crash-tool":
            planted = Scenario(secret="srv-app-7f3a9c")
        case "long":
            planted = Scenario(seconds=LONG)
        case "expired":
            planted = Scenario(retention=0.3)
        case "fail":
            planted = Scenario(retryable=True)
        case "echo":
            planted = Scenario(prompt=ECHO_TEXT, text=ECHO_TEXT, verbatim=True)
    mapped = target.scenarios.get("complete", Scenario())
    headers = {**mapped.headers, HEADER: header_value(name, planted)}
    sent = {key: getattr(mapped, key) for key in ("json_body", "body", "method", "path", "query")}
    return planted.model_copy(update={**sent, "headers": headers})


_ASKED: Mapping[str, tuple[str, str]] = {
    "crash-cancelled": ("crash", "kind=cancelled"),
    "crash-exit": ("crash", "kind=system-exit"),
    "crash-tool": ("crash", "kind=tool"),
    "huge": ("long", "events=10000"),
}
"""Scenarios that are asked for by another's name and a parameter of it."""


_WRITTEN: Mapping[type, Callable[[Any], str]] = {
    float: lambda value: f"{value:g}",
    bool: lambda value: str(value).lower(),
}


def header_value(name: str, planted: Scenario) -> str:
    """The header's value: the scenario, then what is planted in it, as `; key=value`."""
    asked, *written = _ASKED.get(name, (name,))
    for key, field in (
        ("seconds", "seconds"),
        ("seconds", "pause"),
        ("secret", "secret"),
        ("marker", "marker"),
        ("retryable", "retryable"),
        ("retention", "retention"),
    ):
        value = getattr(planted, field)
        if value is not None:
            written.append(f"{key}={_WRITTEN.get(type(value), str)(value)}")
    return "; ".join([asked, *written])


TEXT_KEYS = ("message", "prompt", "content", "input", "text", "query", "question")
"""Keys under which agents usually take what a user says."""


def _example(target: Target, name: str) -> str:
    """A mapping in the shape of the user's own `complete`, which asks for the scenario by name."""
    asked = "{prompt}" if name == "echo" else name
    complete = target.scenarios.get("complete", Scenario())
    parts = []
    for key, value in (
        ("method", complete.method),
        ("path", complete.path),
        ("query", complete.query or None),
        ("json", complete.json_body),
    ):
        if value is not None:
            body = _asking(value, asked) if key in {"query", "json"} else value
            parts.append(f"{key} = {_toml(body)}")
    if complete.json_body is None and not complete.query:
        parts.append(f'json = {{ message = "{asked}" }}')
    return ", ".join(parts)


def _asking(value: Any, asked: str) -> Any:
    """The same body with the user's words replaced: the first text, under TEXT_KEYS if any is."""
    texts = list(_texts(value, ()))
    usual = [place for place in texts if place and place[-1] in TEXT_KEYS]
    return _replaced(value, (usual or texts)[0], asked) if texts else value


def _texts(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    match value:
        case str() if "{env:" not in value:
            yield place
        case dict():
            for key, item in value.items():
                yield from _texts(item, (*place, key))
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _texts(item, (*place, number))


def _replaced(value: Any, place: tuple[str | int, ...], text: str) -> Any:
    if not place:
        return text
    first, *rest = place
    items = value.items() if isinstance(value, dict) else enumerate(value)
    changed = {k: _replaced(v, tuple(rest), text) if k == first else v for k, v in items}
    return changed if isinstance(value, dict) else list(changed.values())


def _toml(value: Any) -> str:
    """A value as it is written in an inline table; null, which TOML lacks, is left out."""
    match value:
        case dict():
            pairs = (f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
            return f"{{ {', '.join(pairs)} }}"
        case list() | tuple():
            return f"[{', '.join(_toml(item) for item in value if item is not None)}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
