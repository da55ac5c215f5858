"""How a scenario reaches the server under test, and what is then known to be planted in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pytest_agentstream.scripts import (
    ECHO_TEXT,
    LONG,
    PAUSE,
    SCRIPTS,
    UPSTREAM,
    planted_by_script,
    script_of,
)
from pytest_agentstream.suggesting import asking, example
from pytest_agentstream.target import Scenario
from pytest_agentstream.templates import names
from pytest_agentstream.tolerances import HEAD_AT_ONCE, SILENCE_NEEDED
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_agentstream.target import Target

__all__ = ["ECHO_TEXT", "HEADER", "SCENARIOS", "Control", "control_of", "sends_prompt"]

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
    "flood": "a run that says some 12 MiB, as fast as it can",
    "expired": "a run that is kept for `retention` seconds only",
    "fail": "a failure that the agent reports itself",
    "interrupt": "a run that waits for a person",
    "block": "a tool that blocks its worker",
    "pauses": "a run that pauses for `pause` seconds between its events",
    "overloaded": "a start that is refused with 429 or 503",
    "upstream-error": "the LLM answers every call with 500",
    "upstream-rate-limit": "the LLM answers every call with 429 and Retry-After: 1",
    "upstream-rate-limit-later": "the same, once the run has called a tool",
    "upstream-unavailable": "the LLM answers every call with 503 and Retry-After: 1",
    "upstream-unavailable-later": "the same, once the run has called a tool",
    "upstream-cut": "the LLM's answer is cut off after some words",
    "upstream-short": "the LLM's answer ends after some words, without a finish reason",
    "upstream-garbage": "the LLM sends something that is no JSON after some words",
    "upstream-stall": "the LLM hangs after some words, for ever",
    "upstream-truncated": "the LLM stops after some words, for its length limit",
    "upstream-split": "the LLM sends `text`, with characters that come in two parts",
    "upstream-slow": "the LLM answers slowly, for longer than a run may go on for nobody",
}
"""Every scenario the suite knows, and what the server under test should do in it."""


@dataclass(frozen=True, slots=True)
class Control:
    """By which means a scenario is asked for, and the scenario.

    `name` is `default`, `mapped`, `header` or `double`. `tag` is by what the LLM double knows the
    calls of this run.
    """

    name: str
    scenario: Scenario
    tag: str | None = None


DOUBLE = "let the LLM double do it: --agentstream-double"


def control_of(
    target: Target,
    name: str,
    interval: float | None,
    seconds: float | None = None,
    *,
    scripted: bool = False,
) -> Control:
    """Find the control of a scenario; `interval` is H in seconds, where one is promised.

    `seconds` is how long it is to last, where the suite plants that and no mapping does. `scripted`
    asks for a script of the double's, where there is one, rather than for the header.

    A mapping that only declares something, and asks for nothing, leaves the asking to the header
    or the double. Raises `NotTested` with the setting that would provide a control.
    """
    mapped = target.scenarios.get(name)
    by_script = bool(target.double) and name in SCRIPTS
    by_header = target.control_header and not name.startswith(UPSTREAM)
    by_header = by_header and not (scripted and by_script)
    if mapped is not None and (_asks(name, mapped) or not (by_header or by_script)):
        return Control("mapped", _planted(mapped))
    if seconds is not None:
        mapped = (mapped or Scenario()).model_copy(update={"seconds": seconds})
    if by_header:
        return Control("header", _asked_by_header(target, name, interval, mapped))
    if by_script:
        return _asked_by_script(target, name, interval, mapped)
    if name == "complete":
        return Control("default", Scenario())
    option = DOUBLE
    if not name.startswith(UPSTREAM):
        asked = f"{example(target, name)}{_declared(name, interval)}"
        option = f"map it: [tool.agentstream.scenarios] {name} = {{ {asked} }}"
        option += f"; or {DOUBLE}" if name in SCRIPTS else ""
    raise NotTested(f"no control for the scenario `{name}` ({SCENARIOS[name]})", option)


SENT = ("json_body", "body", "method", "path", "query", "headers", "prompt")
"""What of a mapping makes the request; the rest is declared."""


def _asks(name: str, mapped: Scenario) -> bool:
    """Whether a mapping says what is sent; `complete` with a place for any text leaves it open."""
    if name == "complete" and mapped.prompt is None and "prompt" in names(_sent(mapped)):
        return False
    return any(getattr(mapped, key) not in (None, {}) for key in SENT)


def _sent(scenario: Scenario) -> dict[str, Any]:
    return {key: getattr(scenario, key) for key in SENT}


def _with_declared(planted: Scenario, mapped: Scenario | None) -> Scenario:
    """What is planted, and in its place what the user declares of the scenario."""
    if mapped is None:
        return planted
    declared = {key: getattr(mapped, key) for key in mapped.model_fields_set - set(SENT)}
    return planted.model_copy(update=declared)


def _asked_by_script(
    target: Target, name: str, interval: float | None, mapped: Scenario | None
) -> Control:
    """The request of `complete`, with a script for the double where the user's words belong."""
    planted = _with_declared(planted_by_script(name, interval), mapped)
    request = _spoken(target, name)
    if target.control_header:
        planted = _with_declared(planted.model_copy(update=_beside(name, interval)), mapped)
        asked = "llm" if planted.deadline is None else f"llm; deadline={planted.deadline:g}"
        request["headers"] = {**request.get("headers", {}), HEADER: asked}
    tag = f"{name}-{uuid4().hex[:12]}"
    prompt = script_of(name, planted, interval, tag)
    return Control("double", planted.model_copy(update={**request, "prompt": prompt}), tag)


def _beside(name: str, interval: float | None) -> dict[str, float]:
    """What the header asks for beside a script: how long a run may hang."""
    if name != "upstream-stall":
        return {}
    return {"deadline": round((interval or 0.0) * SILENCE_NEEDED * 1.05 + PAUSE, 3)}


def _spoken(target: Target, name: str) -> dict[str, Any]:
    """What is sent in `complete`, with {prompt} in the place of the user's words.

    Raises `NotTested` where there is no such place.
    """
    complete = target.scenarios.get("complete", Scenario())
    sent = {key: value for key, value in _sent(complete).items() if value not in (None, {})}
    sent.pop("prompt", None)
    if sends_prompt(complete):
        return sent
    for key in ("json_body", "query"):
        if key in sent and "prompt" in names(changed := asking(sent[key], "{prompt}")):
            return {**sent, key: changed}
    raise NotTested(
        f"the mapping of `complete` has no place for what `{name}` says to the LLM double",
        "write {prompt} where the user's words belong: [tool.agentstream.scenarios] complete = …",
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


def _asked_by_header(
    target: Target, name: str, interval: float | None, declared: Scenario | None
) -> Scenario:
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
            planted = Scenario(retention=0.8)
        case "fail":
            planted = Scenario(retryable=True)
        case "echo":
            planted = Scenario(text=ECHO_TEXT, verbatim=True)
    planted = planted.model_copy(update={"deterministic": True})
    planted = _with_declared(planted, declared)
    if name == "echo":
        planted = planted.model_copy(update={"prompt": planted.text})
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
