"""The settings that are given on the command line."""

from __future__ import annotations

import shlex
from typing import Any

import pytest


def options_of(config: pytest.Config) -> dict[str, Any]:
    """The settings on the command line, by the names that settings have; raises UsageError."""
    options = {
        name: config.getoption(f"agentstream_{name}")
        for name in (
            "url", "dialect", "heartbeat", "control_header", "level", "require", "max_runs",
            "concurrency", "baseline", "report", "recordings", "seed", "double", "toxiproxy",
            "grace",
        )
    }  # fmt: skip
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if config.getoption("agentstream_replica"):
        given["replicas"] = config.getoption("agentstream_replica")
    if config.getoption("agentstream_command"):
        given["command"] = [_words(text) for text in config.getoption("agentstream_command")]
    if config.getoption("agentstream_allow"):
        given["allow"] = [word.strip() for word in config.getoption("agentstream_allow").split(",")]
    headers = {}
    for text in config.getoption("agentstream_header") or []:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise pytest.UsageError(
                f"--agentstream-header {text!r}: expected 'Name: value', such as 'X-Tenant: acme'"
            )
        headers[name.strip()] = value.strip()
    return {**given, "headers": headers} if headers else given


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise pytest.UsageError(
            f"--agentstream-command {command!r}: expected words as a shell reads them "
            f"({str(error).lower()})"
        ) from None
