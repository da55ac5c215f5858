"""What a process says: read all the time, so that it never waits; the newest part is kept."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections import deque

KEPT = 1 << 18
"""Bytes of output that are kept; what is older is forgotten."""

LONGEST_LINE = 4096
"""Bytes; a longer line is kept in pieces of this length."""


class ProcessLog:
    """The lines that a process has written, one life after the other, each with its time."""

    def __init__(self) -> None:
        self._lines: deque[tuple[float, bytes]] = deque()
        self._kept = 0
        self._rest = b""
        self._rest_at = 0.0
        self._lock = threading.Lock()

    def tail(self, since: float | None = None, until: float | None = None) -> str:
        """What was said after `since` and before `until`, in `time.monotonic` seconds."""
        with self._lock:
            lines = list(self._lines)
            if self._rest:
                lines.append((self._rest_at, self._rest))
        return "\n".join(
            line.decode("utf-8", "replace")
            for at, line in lines
            if (since is None or at >= since) and (until is None or at <= until)
        )

    def keep(self, data: bytes) -> None:
        """Take what the process wrote, in whatever pieces."""
        now = time.monotonic()
        *lines, rest = (self._rest + data).split(b"\n")
        with self._lock:
            for line in lines:
                self._add(line.rstrip(b"\r"), now)
            whole = len(rest) - len(rest) % LONGEST_LINE
            if whole:
                self._add(rest[:whole], now)
            self._rest, self._rest_at = rest[whole:], now

    def finish(self) -> None:
        """Take what stands behind the last line end as a line: nothing more comes."""
        with self._lock:
            if self._rest:
                self._add(self._rest, self._rest_at)
            self._rest = b""

    def _add(self, line: bytes, at: float) -> None:
        for start in range(0, len(line) or 1, LONGEST_LINE):
            piece = line[start : start + LONGEST_LINE]
            self._lines.append((at, piece))
            self._kept += len(piece) + 1
        while self._kept > KEPT:
            self._kept -= len(self._lines.popleft()[1]) + 1


class Pipe:
    """One pipe into a log, read by a thread of its own; `sink` is for the process.

    Call `read` once the process is there, `close` where it is not, or is no more.
    """

    def __init__(self, log: ProcessLog) -> None:
        self._log = log
        self._source, self.sink = os.pipe()
        self._wake, self._waker = os.pipe()
        self._thread: threading.Thread | None = None

    def read(self) -> None:
        os.close(self.sink)
        self._thread = threading.Thread(target=self._read, name="agentstream-log", daemon=True)
        self._thread.start()

    def ended(self, seconds: float) -> bool:
        """Wait until nobody can write any more; return whether that came within `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def close(self) -> None:
        """Stop reading, also where something that escaped still holds the writing end."""
        if self._waker < 0:
            return
        if self._thread is None:
            os.close(self.sink)
        else:
            os.write(self._waker, b".")
            self._thread.join()
        for end in (self._source, self._wake, self._waker):
            os.close(end)
        self._waker = -1

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            while self._source in {key.fd for key, _ in selector.select()}:
                data = os.read(self._source, 65_536)
                if not data:
                    break
                self._log.keep(data)
        self._log.finish()
