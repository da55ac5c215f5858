"""Detection: which built-in dialect a first answer speaks, by marks that each dialect declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.dialects.loading import builtin_names, load
from pytest_agentstream.dialects.names import matches

if TYPE_CHECKING:
    from pytest_agentstream.dialects.dialect import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.recording import Recording


def detect(recording: Recording) -> list[str]:
    """Return the names of the built-in dialects whose marks an answer bears.

    One name is an answer; none and several are not. A response header that is a dialect's own
    decides, unless no event is one of that dialect's.
    """
    dialects = [load(name) for name in builtin_names()]
    if by_header := [one.name for one in dialects if _has_header(one, recording)]:
        return by_header
    return [one.name for one in dialects if _bears_marks(one, recording)]


def _has_header(dialect: Dialect, recording: Recording) -> bool:
    marks = dialect.profile.detect
    if not (marks.header and recording.head and recording.head.values(marks.header)):
        return False
    types = [event.type for event in dialect.events(recording)]
    return not types or any(matches(name, glob) for name in types for glob in marks.events)


def _bears_marks(dialect: Dialect, recording: Recording) -> bool:
    marks = dialect.profile.detect
    if marks.header:
        return False
    events = dialect.events(recording)
    payloads = [event.payload for event in events if isinstance(event.payload, dict)]
    if any(key in payload for payload in payloads for key in marks.without):
        return False
    if marks.events:
        return _named(dialect, events)
    if not marks.keys or any(_has_event_line(event) for event in events):
        return False
    typed = [event for event in events if event.sentinel is None]
    return bool(typed) and all(
        isinstance(event.payload, dict) and not event.payload.keys().isdisjoint(marks.keys)
        for event in typed
    )


def _named(dialect: Dialect, events: tuple[Event, ...]) -> bool:
    marks = dialect.profile.detect
    types = [event.type for event in events if _has_event_line(event)]
    if marks.only_declared and not (len(types) == len(events) and all(e.known for e in events)):
        return False
    return any(matches(name, glob) for name in types for glob in marks.events)


def _has_event_line(event: Event) -> bool:
    return any(line.name == "event" and line.value for line in event.block.lines)
