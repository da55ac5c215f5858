"""What the LLM double is asked to do in each scenario, and what is thereby planted in the run.

A script travels in the message of the run: `[[agentstream: tag NAME; …]]`, see docs/double.md.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from pytest_agentstream.target import Scenario
from pytest_agentstream.tolerances import HEAD_AT_ONCE, SILENCE_NEEDED, stop_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

UPSTREAM = "upstream-"
"""How the scenarios begin in which the LLM behind the server fails, hangs, or is cut off."""

PAUSE = 0.7
"""Seconds; a shorter pause is not told apart from a busy machine."""

LONG = 2.4
"""Seconds; long enough that a client can be cut twenty times while the run lives."""

ECHO_TEXT = (
    "plain |1|Gr\u00fc\u00dfe, \u65e5\u672c\u8a9e, \U0001f30d\u200d\U0001f680|2|"
    "one\ntwo\rthree\r\nfour\n\nfive\r\rsix|3|"
    "a\u2028b\u2029c\u0085d|4| end"
)
"""What `echo` plants: characters of two to four bytes, every line end, Unicode separators."""

SPLIT_TEXT = "Gr\u00fc\u00dfe \u65e5\u672c\u8a9e \U0001f30d \U0001f680 end"
"""What `upstream-split` plants: the double cuts it within its characters."""

MARKER = "before-the-silence-2c9b"
SLOW_EVERY = 0.05
SLOW_MARGIN = 3.0
"""A slow answer lasts for so many times the limit within which its run is to stop, and longer where
that is asked for: who stops pays nothing."""

WORDS = "every 20ms; say 5 words"
SCRIPTS: Mapping[str, str] = {
    "complete": "every 5ms; say 12 words",
    "tools": "every 5ms; tool; say 8 words",
    "silence": "every 5ms; say 3 words; say {marker}; silence {seconds}; say 3 words",
    "slow-start": "head after {seconds}; every 5ms; say 8 words",
    "echo": "say {text}",
    "long": "every 8ms; say 300 words",
    "huge": "say 10000 words",
    "pauses": "every {pause}; say 6 words",
    "upstream-error": "everywhere; status 500",
    "upstream-rate-limit": "everywhere; status 429 retry-after 1",
    "upstream-rate-limit-later": f"{WORDS}; tool; status 429 retry-after 1",
    "upstream-unavailable": "everywhere; status 503 retry-after 1",
    "upstream-unavailable-later": f"{WORDS}; tool; status 503 retry-after 1",
    "upstream-cut": f"everywhere; {WORDS}; cut",
    "upstream-short": f"{WORDS}; no-finish; no-done",
    "upstream-garbage": f"everywhere; {WORDS}; garbage",
    "upstream-stall": f"everywhere; {WORDS}; stall",
    "upstream-truncated": f"{WORDS}; finish length",
    "upstream-split": "split; say {text}; split deltas; say {text}",
    "upstream-slow": "every 50ms; say {words} words",
}
"""Every scenario that the double can provoke, less the tag of its script.

What says `everywhere` is meant for all calls of a run, also those that do not stream: an outage.
"""


_TAG = re.compile(r"\[\[agentstream: tag ([^;]+);")


def script_of(name: str, declared: Scenario, interval: float | None, tag: str) -> str:
    """Return the script of a scenario, as it stands in the message."""
    slow = max(declared.seconds or 0.0, stop_limit(interval) * SLOW_MARGIN)
    steps = SCRIPTS[name].format(
        text=json.dumps(declared.text or ""),
        marker=json.dumps(f" {declared.marker} "),
        seconds=_duration(declared.seconds),
        pause=_duration(declared.pause),
        words=math.ceil(slow / SLOW_EVERY),
    )
    return f"[[agentstream: tag {tag}; {steps}]]"


def tag_in(prompt: str | None) -> str | None:
    """Return the tag of the script that the user's words are, or None where they are none."""
    found = _TAG.match(prompt or "")
    return found and found[1]


def _duration(seconds: float | None) -> str:
    return f"{round((seconds or 0.0) * 1000)}ms"


def planted_by_script(name: str, interval: float | None) -> Scenario:
    """Return what a script plants, where nothing else is declared; H is in seconds."""
    h = interval or 0.0
    planted: dict[str, object] = {"deterministic": True}
    match name:
        case "silence":
            planted |= {"seconds": max(h * SILENCE_NEEDED * 1.05, PAUSE), "marker": MARKER}
        case "slow-start":
            planted |= {"seconds": max(h * 2.5, 2.2 * HEAD_AT_ONCE)}
        case "long":
            planted |= {"seconds": LONG}
        case "pauses":
            planted |= {"pause": 0.2}
        case "echo":
            planted |= {"text": ECHO_TEXT, "verbatim": True}
        case "upstream-split":
            planted |= {"text": SPLIT_TEXT, "verbatim": True}
        case (
            "upstream-rate-limit"
            | "upstream-rate-limit-later"
            | "upstream-unavailable"
            | "upstream-unavailable-later"
        ):
            planted |= {"retryable": True}
    return Scenario.model_validate(planted)
