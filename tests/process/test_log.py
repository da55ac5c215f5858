"""The log of a process: lines with their times, bounded, in whatever pieces they come."""

from __future__ import annotations

import os
import time

from pytest_agentstream.process_log import KEPT, LONGEST_LINE, Pipe, ProcessLog


def test_lines_in_pieces() -> None:
    """A line is a line however it is cut; a carriage return is no part of it."""
    log = ProcessLog()
    for piece in (b"fi", b"rst\r\nsec", b"ond\n", b"thi"):
        log.keep(piece)
    assert log.tail() == "first\nsecond\nthi"
    log.finish()
    log.keep(b"fourth\n")
    assert log.tail() == "first\nsecond\nthi\nfourth"


def test_when_a_line_without_end_was_said() -> None:
    """What stands behind the last line end was said when it came, not when it is asked for."""
    log = ProcessLog()
    log.keep(b"first\nlast words")
    behind = time.monotonic()
    time.sleep(0.01)
    assert log.tail(until=behind) == "first\nlast words"
    assert log.tail(since=behind) == ""
    log.finish()
    assert log.tail(until=behind) == "first\nlast words"


def test_blank_lines() -> None:
    """A blank line is a line, and takes its room."""
    log = ProcessLog()
    log.keep(b"one\n\n\r\ntwo\n")
    assert log.tail() == "one\n\n\ntwo"
    log.keep(b"\n" * 2 * KEPT)
    assert len(log.tail()) < KEPT


def test_bytes_that_are_no_text() -> None:
    """What is not UTF-8 is shown as far as it can be."""
    log = ProcessLog()
    log.keep(b"caf\xe9\n")
    assert log.tail() == "caf\ufffd"


def test_a_line_without_end() -> None:
    """A line that never ends is kept in pieces, of which the newest stay."""
    log = ProcessLog()
    for _ in range(100):
        log.keep(b"x" * LONGEST_LINE)
    assert KEPT - 2 * LONGEST_LINE < len(log.tail().replace("\n", "")) <= KEPT


def test_only_the_newest_is_kept() -> None:
    """Old lines are forgotten."""
    log = ProcessLog()
    log.keep(b"".join(b"%06d %s\n" % (number, b"x" * 93) for number in range(10_000)))
    lines = log.tail().splitlines()
    assert lines[-1].startswith("009999")
    assert KEPT // 110 < len(lines) <= KEPT // 100


def test_somebody_keeps_the_pipe_open() -> None:
    """Reading can be ended although the writing end is still open somewhere."""
    log = ProcessLog()
    pipe = Pipe(log)
    escaped = os.dup(pipe.sink)
    pipe.read()
    os.write(escaped, b"said\n")
    assert not pipe.ended(0.1)
    pipe.close()
    pipe.close()
    assert pipe.ended(0.0)
    assert log.tail() == "said"
    os.close(escaped)
