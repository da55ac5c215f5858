"""Which part of the log of a process that the suite runs belongs to a finding."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.reading import Event
from pytest_agentstream.evidence import fit
from pytest_agentstream.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.redaction import Redactor
    from pytest_agentstream.scheduling import Timing
    from pytest_agentstream.verdicts import Finding

MOST_LINES = 16
MOST_NAMES = 3
WIDTH = 160
AFTERWARDS = 0.5
"""Seconds behind an exchange in which a server still writes about it, and a busy machine reads."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What colours a terminal; escaped like all that is not printable, it would only be noise."""

Window = tuple[float, float]
"""From when to when, in `time.monotonic` seconds."""


def exchanges_of(finding: Finding) -> list[Recording]:
    """The exchanges that a finding names."""
    found = [place.exchange for place in finding.places if isinstance(place, Event)]
    found += [place for place in finding.places if isinstance(place, Recording)]
    return found + ([finding.recording] if finding.recording is not None else [])


def window_of(exchanges: Sequence[Recording]) -> Window | None:
    """From when to when a run's exchanges took place; None where it has no times."""
    windows = [window for one in exchanges if (window := _of(one)) is not None]
    if not windows:
        return None
    return min(begun for begun, _ in windows), max(ended for _, ended in windows) + AFTERWARDS


def _of(recording: Recording) -> Window | None:
    try:
        begun = datetime.fromisoformat(recording.started).timestamp()
    except ValueError:
        return None
    begun += time.monotonic() - time.time()
    return begun, begun + recording.end.at


def joined(windows: Iterable[Window]) -> list[Window]:
    """The same windows in order, those that overlap as one."""
    found: list[Window] = []
    for begun, ended in sorted(windows):
        if found and begun <= found[-1][1]:
            begun, ended = found[-1][0], max(ended, found.pop()[1])
        found.append((begun, ended))
    return found


def beside(timings: Iterable[Timing], windows: Sequence[Window], own: Container[str]) -> list[str]:
    """The names of other probes than its `own` that asked the server something in these windows."""
    names = (
        one.name
        for one in timings
        if one.asks and one.name not in own
        if any(one.started < ended and one.ended > begun for begun, ended in windows)
    )
    return list(dict.fromkeys(names))


def log_lines(
    processes: Sequence[ManagedProcess],
    windows: Sequence[Window],
    redact: Redactor,
    others: Sequence[str] = (),
) -> tuple[str, ...]:
    """The last lines that the processes wrote in these windows, fit to be shown.

    `others` names probes whose lines may be among them: a log does not say who caused a line.
    """
    lines: list[str] = []
    for process in processes:
        said = "\n".join(filter(None, (process.log_tail(*one) for one in joined(windows))))
        lines += shown(said.splitlines(), redact, f"{process.name}: " if len(processes) > 1 else "")
    return (*_warning(others), *lines) if lines else ()


def _warning(others: Sequence[str]) -> list[str]:
    if not others:
        return []
    names = ", ".join(f"`{name}`" for name in others[:MOST_NAMES])
    more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
    return [f"(lines of probes that ran at the same time may be among these: {names}{more})"]


def shown(said: Sequence[str], redact: Redactor, prefix: str = "") -> list[str]:
    """The last of these lines: redacted, escaped and cut, as all is that a server says."""
    left_out = len(said) - MOST_LINES
    first = [f"{prefix}… {left_out} lines before"] if left_out > 0 else []
    last = (COLOURS.sub("", line) for line in said[-MOST_LINES:])
    return [*first, *(f"{prefix}{fit(line, redact, WIDTH)}" for line in last)]
