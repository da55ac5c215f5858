"""The order of a run: a state machine that a dialect's tables drive, and the hook for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pytest_agentstream.dialects.names import matches
from pytest_agentstream.dialects.paths import MISSING, find
from pytest_agentstream.dialects.reading import Outcome, Violation
from pytest_agentstream.dialects.spans import Spans
from pytest_agentstream.wording import capped, listed, shown

if TYPE_CHECKING:
    from pytest_agentstream.dialects.profile import Order, Profile, Progress
    from pytest_agentstream.dialects.reading import Event


class Machine(Protocol):
    """What judges the order of events within one run.

    `feed` gets every event of the run once, in order, up to the first terminal and it too. `gap`
    says that events before the next one were not seen, so that nothing may be concluded from their
    absence. `end` gets what the terminal says, or None where the run has none. None of them raises.
    """

    def feed(self, event: Event) -> list[Violation]: ...

    def gap(self) -> None: ...

    def end(self, how: Outcome | None) -> list[Violation]: ...


class TableMachine:
    """The machine that the tables `order` and `spans` of a dialect describe.

    An event breaks at most one rule of a kind, and one that its schema already complains of (a key
    missing, or no number) is passed over: one cause, one violation.
    """

    def __init__(self, profile: Profile) -> None:
        self._parts: list[Machine] = [_First(profile.order), *map(Spans, profile.spans)]
        if profile.order.progress is not None:
            self._parts.append(_Progress(profile.order.progress))
        if profile.order.counts:
            self._parts.append(_Counts(profile.order))
        if profile.order.sequence_path is not None:
            self._parts.append(_Sequence(profile.order.sequence_path))
        self._parts.append(_Constant(profile.order.constant))

    def feed(self, event: Event) -> list[Violation]:
        return [violation for part in self._parts for violation in part.feed(event)]

    def gap(self) -> None:
        for part in self._parts:
            part.gap()

    def end(self, how: Outcome | None) -> list[Violation]:
        return [violation for part in self._parts for violation in part.end(how)]


class _Part:
    """A part of the machine that has nothing to say of gaps and ends."""

    def gap(self) -> None:
        return

    def end(self, how: Outcome | None) -> list[Violation]:
        del how
        return []


class _First(_Part):
    def __init__(self, order: Order) -> None:
        self._first = order.first
        self._waiting = bool(order.first)

    def feed(self, event: Event) -> list[Violation]:
        if not self._waiting or event.ephemeral or not event.known:
            return []
        name = event.sentinel if event.type is None else event.type
        if name is None:
            return []
        self._waiting = False
        if any(matches(name, glob) for glob in self._first):
            return []
        wanted = f"{listed(f'`{one}`' for one in self._first)} as the first event"
        return [Violation("order.first", wanted, f"`{name}`", event)]

    def gap(self) -> None:
        self._waiting = False


class _Progress(_Part):
    def __init__(self, progress: Progress) -> None:
        self._of = progress
        self._last: dict[str, tuple[float, Event]] = {}

    def feed(self, event: Event) -> list[Violation]:
        if not matches(event.type, self._of.event):
            return []
        value = find(event.payload, self._of.value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            return []
        key = shown(find(event.payload, self._of.key)) if self._of.key else ""
        before = self._last.get(key)
        self._last[key] = (value, event)
        if before is None or value >= before[0]:
            return []
        expected = f"at least {before[0]}{_of(key)}, as before"
        return [Violation("order.progress-monotonic", expected, f"{value}", event)]

    def end(self, how: Outcome | None) -> list[Violation]:
        complete = self._of.complete
        if how is not Outcome.SUCCESS or complete is None:
            return []
        return [
            Violation(
                "order.progress-completes",
                f"{complete:g}{_of(key)} before success",
                f"{value} was the last",
                event,
            )
            for key, (value, event) in self._last.items()
            if value < complete
        ]


def _of(key: str) -> str:
    return f" of {key}" if key else ""


class _Counts(_Part):
    def __init__(self, order: Order) -> None:
        self._counts = dict(order.counts)
        self._ends = tuple(rule.event for rule in order.terminal)
        self._seen = dict.fromkeys(order.counts, 0)
        self._blind = False

    def feed(self, event: Event) -> list[Violation]:
        for field, glob in self._counts.items():
            self._seen[field] += matches(event.type, glob)
        if self._blind or not any(matches(event.type, glob) for glob in self._ends):
            return []
        found = []
        for field, seen in self._seen.items():
            said = find(event.payload, field)
            if isinstance(said, bool) or not isinstance(said, int | float) or said == seen:
                continue
            expected = f"{field} = {seen}, the `{self._counts[field]}` events that were sent"
            found.append(Violation("order.counts-agree", expected, shown(said), event))
        return found

    def gap(self) -> None:
        self._blind = True


class _Sequence(_Part):
    def __init__(self, path: str) -> None:
        self._path = path
        self._last: int | None = None

    def feed(self, event: Event) -> list[Violation]:
        number = find(event.payload, self._path)
        if isinstance(number, bool) or not isinstance(number, int):
            return []
        last, self._last = self._last, number
        if last is None or number == last + 1:
            return []
        wanted = f"{self._path} = {last + 1}, after {last}"
        return [Violation("order.sequence-contiguous", capped(wanted), capped(str(number)), event)]

    def gap(self) -> None:
        self._last = None


class _Constant(_Part):
    """Fields, and the run that cursors name, which are the same in every event that has them."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._known: dict[str, Any] = {}
        self._reported: set[str] = set()

    def feed(self, event: Event) -> list[Violation]:
        values = {path: find(event.payload, path) for path in self._paths}
        if event.cursor is not None and event.cursor.run is not None:
            values["the cursor's run"] = event.cursor.run
        found = []
        for path, value in values.items():
            if value is MISSING:
                continue
            known = self._known.setdefault(path, value)
            if known != value and path not in self._reported:
                self._reported.add(path)
                wanted = f"{path} = {shown(known)}, as in the first event"
                found.append(
                    Violation("schema.constant-identity", capped(wanted), shown(value), event)
                )
        return found
