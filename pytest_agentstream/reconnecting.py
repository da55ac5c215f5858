"""Reconnecting: what a client does next with a run that broke off. Sans-IO.

The cursor is what a browser would send: the last id that a complete block set, also one that
dispatched nothing (WHATWG HTML 9.2.6); or the cursor of the last event, where the dialect has
cursors of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.paths import find
from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.requesting import CannotResume, ForeignOrigin
from pytest_agentstream.retrying import InStreamError, RetryClass, classify, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.recording import Request, Run
    from pytest_agentstream.requesting import Requests
    from pytest_agentstream.retrying import Backoff, Decision

DETACHED = frozenset({201, 202})
"""Statuses by which a start says that its run streams elsewhere."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next request of a run, how many seconds to wait before it, and why it is made.

    `asked` is the part of the wait that the server asked for.
    """

    request: Request
    wait: float
    why: str
    asked: float = 0.0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """There is no next request, and why; the run's end is made up.

    `unwaited` says what would have had to be waited for, where that alone is the reason.
    """

    why: str
    unwaited: str = ""


class Reconnecting:
    """The reconnects of one run; a server that asks for over `patience` seconds is given up."""

    def __init__(
        self, dialect: Dialect, requests: Requests, backoff: Backoff, patience: float
    ) -> None:
        self._dialect = dialect
        self._profile = dialect.profile
        self._requests = requests
        self._backoff = backoff
        self._patience = patience
        self._cursors: list[str] = []  # the last of each exchange

    def decide(self, run: Run, events: Sequence[Event]) -> Decision:
        """Say what class of failure the last exchange of a run without terminal is.

        `events` are those of that exchange.
        """
        response = self._profile.response
        return classify(
            run.last,
            retryable_statuses=self._profile.errors.retryable_statuses,
            content_type=response.content_type,
            statuses=response.status,
            error=self._error(events),
        )

    def next(self, run: Run, events: Sequence[Event]) -> Attempt | GivenUp:
        """Return what to do next with a run that has no terminal.

        To be asked once behind each exchange; `events` are those of the last one.
        """
        decision = self.decide(run, events)
        self._cursors += [event.cursor.text for event in events if event.cursor is not None][-1:]
        detached = self._is_detached(run)
        if not detached and (decision.retry is RetryClass.NEVER or self._never_began(run)):
            return GivenUp(decision.why)
        try:
            request = self._request(run)
        except (CannotResume, ForeignOrigin) as error:
            return GivenUp(f"{decision.why}; not resumed: {error}")
        if detached:
            return Attempt(request, 0.0, decision.why)
        if run.last.is_stream and any(block.event for block in run.last.blocks):
            self._backoff.progress()
        floor = self._floor(run, events)
        if floor is not None and floor > self._patience:
            asked = f"the server asks for a wait of {floor:g} s, longer than {self._patience:g} s"
            return GivenUp(f"{decision.why}; given up: {asked}", asked)
        if _same_tail(run):
            return GivenUp(f"{decision.why}; given up: the same unfinished block came twice")
        if why := self._backoff.exhausted:
            return GivenUp(f"{decision.why}; given up: {why}")
        return Attempt(request, self._backoff.next(floor), decision.why, floor or 0.0)

    def _is_detached(self, run: Run) -> bool:
        first = run.first
        declared = first.status in DETACHED and first.status in self._profile.response.status
        return declared and len(run.exchanges) == 1 and first.ended_cleanly

    def _never_began(self, run: Run) -> bool:
        """Whether the start itself failed, so that there is no run to join."""
        first = run.first
        if len(run.exchanges) > 1:
            return False
        refused = first.head is not None and first.status not in self._profile.response.status
        return first.connected is None or refused

    def _request(self, run: Run) -> Request:
        start = run.first.request
        cursor = self._cursor(run)
        resume = self._profile.resume
        repeats = resume.path is None and resume.kind != "none"
        key = self._profile.start.idempotency_header
        safe = key is not None and any(name.lower() == key.lower() for name, _ in start.headers)
        if repeats and cursor is None and not safe:
            raise CannotResume(
                "no cursor was seen, and to repeat the start request would start another run"
            )
        try:
            return self._requests.resume(start, cursor, variables(self._dialect, run))
        except CannotResume:
            if resume.kind == "none" or cursor is not None or not safe:
                raise
            # "Same key and same user: the same run"
            return self._requests.resume(start, None, dict(run.captured), same_request=True)

    def _cursor(self, run: Run) -> str | None:
        match self._profile.cursor.source:
            case "sse-id":
                return _last_event_id(run) or None
            case "json-path":
                return self._cursors[-1] if self._cursors else None
            case _:
                return None

    def _error(self, events: Sequence[Event]) -> InStreamError | None:
        """What the last in-stream error says."""
        errors = [event for event in events if event.role is Role.ERROR]
        if not errors:
            return None
        last = errors[-1]
        declared = self._profile.errors
        retryable = find(last.payload, declared.retryable_path) if declared.retryable_path else None
        after = (
            find(last.payload, declared.retry_after_ms_path)
            if declared.retry_after_ms_path
            else None
        )
        return InStreamError(
            retryable if isinstance(retryable, bool) else None,
            after / 1000
            if isinstance(after, int | float) and not isinstance(after, bool) and after >= 0
            else None,
        )

    def _floor(self, run: Run, events: Sequence[Event]) -> float | None:
        """Return the longest wait in seconds that the server asked for, or None if for none."""
        asked: list[float] = []
        retry = _retry(run)
        if retry is not None:
            asked.append(retry / 1000)
        header = run.last.head.value("retry-after") if run.last.head else None
        after = parse_retry_after(header) if header else None
        if after is not None:
            asked.append(after)
        error = self._error(events)
        if error is not None and error.after is not None:
            asked.append(error.after)
        return max(asked, default=None)


def variables(dialect: Dialect, run: Run) -> dict[str, str]:
    """Return what templates may name for a run: what was captured, and `run` and `location`.

    The run is named by the header that the dialect declares, or by its first cursor that names one;
    what was said first counts.
    """
    known: dict[str, str] = {}
    header = dialect.profile.response.run_header
    for recording in run.exchanges:
        if recording.head is None:
            continue
        named = recording.head.value(header) if header else None
        location = recording.head.value("location")
        if named:
            known.setdefault("run", named)
        if location and not 300 <= recording.head.status < 400:
            known.setdefault("location", location)
    if "run" not in known:
        named = _run_of_cursors(dialect, run)
        if named:
            known["run"] = named
    return dict(run.captured) | known


def _run_of_cursors(dialect: Dialect, run: Run) -> str | None:
    if dialect.profile.cursor.source != "sse-id":
        return None
    for recording in run.exchanges:
        for block in recording.blocks:
            cursor = dialect.parse_cursor(block.id) if block.id and recording.is_stream else None
            if cursor is not None and cursor.run is not None:
                return cursor.run
    return None


def _last_event_id(run: Run) -> str:
    for recording in reversed(run.exchanges):
        if recording.is_stream:
            for block in reversed(recording.blocks):
                if block.id is not None:
                    return block.id
    return ""


def _same_tail(run: Run) -> bool:
    """Whether the server said the same half of an event twice, and meant it: it has no more."""
    *_, before, last = (None, *run.exchanges)
    if before is None or not (before.ended_cleanly and last.ended_cleanly and last.is_stream):
        return False
    torn = bool(last.blocks) and not last.blocks[-1].complete and last.blocks[-1].has_data
    return torn and before.body.endswith(last.blocks[-1].raw)


def _retry(run: Run) -> int | None:
    for recording in reversed(run.exchanges):
        if recording.is_stream:
            for block in reversed(recording.blocks):
                if b"retry" in block.raw and block.retry is not None:
                    return block.retry
    return None
