"""How a scenario reaches the server under test, and what is then known to be planted in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.target import Scenario
from pytest_agentstream.tolerances import SILENCE_NEEDED
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.target import Target

HEADER = "X-Agentstream-Scenario"

SCENARIOS: Mapping[str, str] = {
    "complete": "an ordinary run that ends well",
    "tools": "a run that calls at least one tool, slow enough for a heartbeat where `seconds` says so",
    "silence": "a run with one silence of `seconds` in its middle",
    "slow-start": "a run that is silent for `seconds` before its first event",
    "crash": "an exception in the agent after some text",
    "crash-first": "an exception in the agent before the first event",
    "crash-cancelled": "the agent is cancelled (asyncio.CancelledError) after some text",
    "crash-exit": "the agent raises SystemExit after some text",
    "crash-tool": "an exception while a tool runs",
    "echo": "a run that answers with `text` and nothing else",
    "long": "a run of some hundred events",
    "fail": "a failure that the agent reports itself",
    "interrupt": "a run that waits for a person",
    "block": "a tool that blocks its worker",
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
"""What `echo` plants: characters of two to four bytes, line ends of every kind, Unicode separators."""


def control_of(target: Target, name: str, interval: float | None) -> Control:
    """Find the control of a scenario; `interval` is H in seconds, where one is promised.

    Raises `NotTested` with the setting that would provide one.
    """
    if name in target.scenarios:
        return Control("mapped", target.scenarios[name])
    if target.control_header:
        return Control("header", _asked_by_header(name, interval))
    if name == "complete":
        return Control("default", Scenario())
    raise NotTested(
        f"no control for the scenario `{name}` ({SCENARIOS[name]})",
        f"map it: [tool.agentstream.scenarios] {name} = "
        f"{{ json = {_example(target, name)}{_declared(name, interval)} }}",
    )


def _declared(name: str, interval: float | None) -> str:
    """The declarations without which a mapping of the scenario would leave cases untested."""
    h = interval or 15.0
    match name:
        case "silence":
            return f", seconds = {SILENCE_NEEDED * h:g}"
        case "slow-start" | "tools":
            return f", seconds = {2 * h:g}"
        case "crash" | "crash-first" | "crash-tool":
            return ', secret = "a part of the exception\'s text"'
        case "echo":
            return ", verbatim = true"
    return ""


def _asked_by_header(name: str, interval: float | None) -> Scenario:
    planted = Scenario(deterministic=True)
    h = interval or 0.0
    match name:
        case "silence":
            planted = Scenario(seconds=max(h * SILENCE_NEEDED * 1.05, 0.1))
        case "slow-start" | "tools":
            planted = Scenario(seconds=max(h * 2.5, 0.1))
        case "crash":
            planted = Scenario(secret="srv-app-7f3a9c", marker="last-words-5d1e")
        case "crash-first" | "crash-tool":
            planted = Scenario(secret="srv-app-7f3a9c")
        case "echo":
            planted = Scenario(prompt=ECHO_TEXT, text=ECHO_TEXT, verbatim=True)
        case "crash-cancelled" | "crash-exit":
            pass
    return planted.model_copy(update={"headers": {HEADER: header_value(name, planted)}})


_KINDS = {"crash-cancelled": "cancelled", "crash-exit": "system-exit", "crash-tool": "tool"}


def header_value(name: str, planted: Scenario) -> str:
    """The header's value: the scenario, then what is planted in it, as `; key=value`."""
    parameters: dict[str, object] = {}
    if name in _KINDS:
        parameters["kind"] = _KINDS[name]
    for key in ("seconds", "secret", "marker"):
        value = getattr(planted, key)
        if value is not None:
            parameters[key] = f"{value:g}" if isinstance(value, float) else value
    written = [f"{key}={value}" for key, value in parameters.items()]
    return "; ".join(["crash" if name in _KINDS else name, *written])


def _example(target: Target, name: str) -> str:
    """A mapping in the shape of the user's own `complete`, which asks for the scenario by name."""
    complete = target.scenarios.get("complete")
    body = complete.json_body if complete else None
    if isinstance(body, dict) and body and all(isinstance(value, str) for value in body.values()):
        first, *others = body.items()
        named = [(first[0], name), *others]
        pairs = ", ".join(f"{key} = {json.dumps(value)}" for key, value in named)
        return f"{{ {pairs} }}"
    return f'{{ message = "{name}" }}'
