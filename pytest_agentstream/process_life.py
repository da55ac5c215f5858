"""One life of a process, from its start to its end, whoever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.process_log import Pipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentstream.process_log import ProcessLog
    from pytest_agentstream.watchdog import Watchdog

WRAPPERS = frozenset({"sh", "bash", "npm", "pnpm", "yarn", "make", "uv", "poetry", "honcho"})
"""Programs that run the server as their child, and may not tell it that it is to end."""

LEFT_BEHIND = 0.5
"""Seconds for what a server leaves behind that has ended as it wanted to; a container has none."""

GROUP_POLL = 0.01
GROUP_LIMIT = 60.0
"""Seconds; what nobody buries counts as living, and must not be waited for without end."""

LAST_WORDS = 0.3
"""Seconds; what a process said last is waited for that long behind its end."""


class Life:
    """A process in a session and a process group of its own; what it says goes into `log`.

    `began` and `ended_at` are `time.monotonic` seconds; `asked` is when it was first told to end,
    `killed` whether it was told to do so at once.
    `ended` is set once it has ended, and its whole group where it was told to: then `exit_code` is
    known, and nothing is left of the group. Raises OSError or ValueError where it can't be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: str | None,
        log: ProcessLog,
        watchdog: Watchdog,
    ) -> None:
        self.began = time.monotonic()
        self.ended = threading.Event()
        self.ended_at = 0.0
        self.asked: float | None = None
        self.frozen = False
        self.killed = False
        self._wrapped = Path(command[0]).name in WRAPPERS
        self._watchdog = watchdog
        self._pipe = Pipe(log)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._pipe.sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            self._pipe.close()
            raise
        watchdog.guard(self._process.pid)
        self._pipe.read()
        self._waiter = threading.Thread(target=self._wait, name="agentstream-process", daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.returncode if self.ended.is_set() else None

    def send(self, number: signal.Signals) -> None:
        """Signal its group, unless it has ended.

        SIGTERM goes to the leader alone, as it does in a container, unless that is a wrapper or
        gone: what a server has started is the server's to end.
        """
        self.killed |= number is signal.SIGKILL
        if number in {signal.SIGTERM, signal.SIGKILL} and self.asked is None:
            self.asked = time.monotonic()
        self.frozen = number is signal.SIGSTOP or (self.frozen and number is not signal.SIGCONT)
        if not self.alive:
            return
        leads = self._process.returncode is None and not self._wrapped
        if number is signal.SIGTERM and leads:
            self._process.send_signal(number)
        else:
            self._send_group(number)

    def _send_group(self, number: int) -> bool:
        """Whether there was somebody in its group to be signalled."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def describe(self) -> str:
        """How it ended, such as `exited with code 3` or `was ended by SIGKILL`."""
        code = self._process.returncode
        if code is None:
            return "lives"
        if code >= 0:
            return f"exited with code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    def join(self, seconds: float) -> None:
        """Wait for the thread that watches it."""
        self._waiter.join(seconds)

    def _wait(self) -> None:
        self._process.wait()
        self._wait_for_the_others()
        self.ended_at = time.monotonic()
        self._send_group(signal.SIGKILL)
        self._watchdog.guard(None)
        self._pipe.ended(LAST_WORDS)
        self._pipe.close()
        self.ended.set()

    def _wait_for_the_others(self) -> None:
        """Let what the leader has started end, where it was asked to, before the rest is killed.

        A leader that died of SIGTERM was a wrapper, whatever its name, and the server may be left.
        """
        if self.asked is None:
            return
        limit = GROUP_LIMIT
        if not self._wrapped:
            self._send_group(signal.SIGTERM)
            limit = GROUP_LIMIT if self._process.returncode == -signal.SIGTERM else LEFT_BEHIND
        latest = time.monotonic() + limit
        while not self.killed and time.monotonic() < latest and self._others_live():
            time.sleep(GROUP_POLL)

    def _others_live(self) -> bool:
        """Whether anybody is left of its group, but for zombies that nobody buries."""
        if not self._send_group(0):
            return False
        stats = [_stat(entry) for entry in Path("/proc").glob("[0-9]*/stat")]
        members = [state for state, group in filter(None, stats) if group == str(self.pid)]
        return not stats or any(state not in {"Z", "X"} for state in members)


def _stat(path: Path) -> tuple[str, str] | None:
    """The state and the process group of a process of Linux, unless it has gone."""
    try:
        state, _, group, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return state, group
