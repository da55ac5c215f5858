"""Retrying: which ends of an exchange may be tried again, when, and how often. Sans-IO.

1. What a retry can't change is never tried again: a refusal, an answer that is no stream, an
   in-stream error that says so.
2. What is said to be passing (429, 503, and what the dialect adds) is tried again after a delay.
3. A stream that broke off is resumed; one that ended cleanly without a terminal too, because its
   run may go on.
4. What the server asks for is the least that is waited. Beyond it the wait is drawn from a range
   that doubles with each attempt in vain, so that clients cut at once don't come back at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_tz
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_agentstream.recording import EndKind, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from pytest_agentstream.recording import Recording

PASSING = frozenset({429, 503})
"""Statuses that say "later" in every dialect (RFC 6585 4, RFC 9110 15.6.4)."""


class RetryClass(StrEnum):
    """Whether trying again can help."""

    NEVER = "never"
    AFTER_DELAY = "after a delay"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Decision:
    """The class of what happened, and why, in words."""

    retry: RetryClass
    why: str


@dataclass(frozen=True, slots=True)
class InStreamError:
    """What an in-stream error said: whether a retry helps (None: nothing), in how many seconds."""

    retryable: bool | None = None
    after: float | None = None


_ENDS: dict[EndKind, RetryClass] = {
    EndKind.COMPLETE: RetryClass.RESUME,
    EndKind.CLOSE_DELIMITED: RetryClass.RESUME,
    EndKind.CUT: RetryClass.RESUME,
    EndKind.RESET: RetryClass.RESUME,
    EndKind.TIMEOUT: RetryClass.RESUME,
    EndKind.REFUSED: RetryClass.RESUME,
    EndKind.DNS: RetryClass.RESUME,
    EndKind.TLS: RetryClass.NEVER,
    EndKind.PROTOCOL: RetryClass.NEVER,
    EndKind.LIMIT: RetryClass.NEVER,
    EndKind.STOPPED: RetryClass.NEVER,
    EndKind.UNKNOWN: RetryClass.NEVER,
}


def classify(
    recording: Recording,
    *,
    retryable_statuses: Iterable[int] = (),
    content_type: str = "text/event-stream",
    statuses: Iterable[int] = (200,),
    error: InStreamError | None = None,
) -> Decision:
    """Say whether a run whose last exchange this is, and which has no terminal, may be tried again.

    `retryable_statuses` are the dialect's, `statuses` and `content_type` those of its streams.
    """
    end = recording.end
    if recording.head is None:
        return Decision(_ENDS[end.kind], f"{end.kind}: {end.detail}")
    status = recording.head.status
    said = f"{status} {recording.head.reason}".strip()
    if status == 204:
        return Decision(RetryClass.NEVER, "204: the server says to stop")
    if status in PASSING or status in retryable_statuses:
        return Decision(RetryClass.AFTER_DELAY, said)
    if status not in statuses:
        return Decision(RetryClass.NEVER, said)
    media = (recording.head.value("content-type") or "").partition(";")[0].strip().lower()
    if media != content_type.lower():
        return Decision(
            RetryClass.NEVER, f"no stream: Content-Type is {media or 'absent'}, not {content_type}"
        )
    if error is not None and error.retryable is False:
        return Decision(RetryClass.NEVER, "an in-stream error says that a retry can't help")
    if error is not None and error.retryable and recording.ended_cleanly:
        return Decision(RetryClass.AFTER_DELAY, "an in-stream error says that a retry can help")
    if recording.ended_cleanly:
        return Decision(RetryClass.RESUME, f"{end.kind}: the body ended without a terminal")
    if end.phase is Phase.END:
        return Decision(RetryClass.NEVER, f"{end.kind}: {end.detail}")
    return Decision(_ENDS[end.kind], f"{end.kind}: {end.detail}")


class Backoff:
    """Waits between attempts: exponential with full jitter, above what the server asks for.

    `base` and `cap` are seconds; `attempts` bounds those in a row without progress, `total` all.
    """

    def __init__(
        self,
        random: Random,
        *,
        base: float = 0.25,
        cap: float = 8.0,
        attempts: int = 6,
        total: int = 100,
    ) -> None:
        self._random = random
        self._base = base
        self._cap = cap
        self._attempts = attempts
        self._total = total
        self._in_vain = 0
        self._made = 0

    @property
    def exhausted(self) -> str:
        """Why there is no further attempt, or an empty string."""
        if self._in_vain >= self._attempts:
            return f"{self._in_vain} attempts in a row brought nothing"
        if self._made >= self._total:
            return f"{self._made} attempts were made"
        return ""

    def progress(self) -> None:
        """Take note that the last attempt brought something."""
        self._in_vain = 0

    def next(self, floor: float | None = None) -> float:
        """Return the seconds to wait before the next attempt, `floor` or more.

        The first attempt after progress waits exactly the floor, where there is one.
        """
        reach = min(self._cap, self._base * 2**self._in_vain)
        jitter = 0.0 if floor is not None and self._in_vain == 0 else self._random.uniform(0, reach)
        self._in_vain += 1
        self._made += 1
        return (floor or 0.0) + jitter


_DAYS, _WEEKDAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun", "Mon|Tues|Wednes|Thurs|Fri|Satur|Sun"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_HTTP_DATE = re.compile(
    rf"(?:{_DAYS}), [0-9]{{2}} (?:{_MONTHS}) [0-9]{{4}} {_TIME} GMT"
    rf"|(?:{_WEEKDAYS})day, [0-9]{{2}}-(?:{_MONTHS})-[0-9]{{2}} {_TIME} GMT"
    rf"|(?:{_DAYS}) (?:{_MONTHS}) [ 0-9][0-9] {_TIME} [0-9]{{4}}"
)


def parse_http_date(text: str) -> datetime | None:
    """Return the time of an HTTP-date in any of its three forms (RFC 9110 5.6.7), or None."""
    text = text.strip()
    parsed = parsedate_tz(text) if _HTTP_DATE.fullmatch(text) else None
    if parsed is None:
        return None
    try:
        return datetime(*parsed[:6], tzinfo=UTC)
    except ValueError:
        return None


def parse_retry_after(text: str, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After asks for (RFC 9110 10.2.3), or None if it is malformed.

    A date counts from `now` (the wall clock, in UTC); one in the past is 0.
    """
    text = text.strip()
    if re.fullmatch("[0-9]+", text):
        return float(text)
    date = parse_http_date(text)
    if date is None:
        return None
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
