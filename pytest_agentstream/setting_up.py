"""Setting up: the requests made before each run, and what is captured of their answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.paths import MISSING, find

if TYPE_CHECKING:
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import SetupStep

LONGEST_QUOTE = 300
"""Bytes of a refusal that an error message quotes."""


class SetupFailed(Exception):
    """A setup step was refused, or its answer lacks what is to be captured.

    `recording` is that step's exchange.
    """

    def __init__(self, message: str, recording: Recording) -> None:
        super().__init__(message)
        self.recording = recording


def captures(step: SetupStep, recording: Recording) -> dict[str, str]:
    """Return the variables that a setup step captures; raises `SetupFailed`."""
    if recording.head is None or not recording.ended_cleanly:
        end = recording.end
        raise SetupFailed(f"setup {step.request!r} failed: {end.kind}, {end.detail}", recording)
    if not 200 <= recording.head.status < 300:
        raise SetupFailed(
            f"setup {step.request!r} failed: expected 2xx, the server answered {_said(recording)}",
            recording,
        )
    return {name: _captured(name, where, step, recording) for name, where in step.capture.items()}


def _captured(name: str, where: str, step: SetupStep, recording: Recording) -> str:
    kind, _, path = where.partition(":")
    value: object = MISSING
    if kind == "header" and path and recording.head is not None:
        found = recording.head.value(path)
        value = MISSING if found is None else found
    elif kind == "json" and path:
        value = _in_json(recording.body, path, step, recording)
    else:
        raise SetupFailed(
            f"setup {step.request!r}: capture {name} = {where!r} is neither json:path.to.value "
            "nor header:Name",
            recording,
        )
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SetupFailed(
            f"setup {step.request!r}: expected a text or number for {name} at {where!r}, "
            f"the server answered {_said(recording)}",
            recording,
        )
    return str(value)


def _in_json(body: bytes, path: str, step: SetupStep, recording: Recording) -> object:
    try:
        return find(json.loads(body), path)
    except (ValueError, RecursionError) as error:
        raise SetupFailed(
            f"setup {step.request!r}: expected JSON with {path!r} ({error}), "
            f"the server answered {_said(recording)}",
            recording,
        ) from error


def _said(recording: Recording) -> str:
    head = recording.head
    quoted = recording.body[:LONGEST_QUOTE].decode("utf-8", "replace")
    status = f"{head.status} {head.reason}".strip() if head else "nothing"
    return f"{status}: {quoted!r}" if quoted else status
