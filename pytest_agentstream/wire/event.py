"""What a block dispatches (WHATWG HTML 9.2.6, "interpreting an event stream")."""

from __future__ import annotations

from typing import NamedTuple

LONGEST_RETRY = 2**63 - 1


class Event(NamedTuple):
    """What a block dispatches.

    `type` is "message" where the block names none. `data` joins the data lines with LF.
    `last_event_id` is the newest id that the stream has set so far, here or earlier; "" if none.
    """

    type: str
    data: str
    last_event_id: str


def join_data(raw: bytes) -> bytes:
    """Return the values of all data lines of a block, joined with LF."""
    lines = (line.partition(b":") for line in raw.splitlines())
    return b"\n".join(value.removeprefix(b" ") for name, _, value in lines if name == b"data")


def read_retry(digits: bytes) -> int:
    """Return a retry value in milliseconds, at most `LONGEST_RETRY`."""
    significant = digits.lstrip(b"0") or b"0"
    if len(significant) > len(str(LONGEST_RETRY)):  # int() refuses thousands of digits
        return LONGEST_RETRY
    return min(int(significant), LONGEST_RETRY)
