"""Nothing outlives the suite: shells that kill a group, or remove a folder, once it is gone.

PR_SET_PDEATHSIG would do so on Linux alone, for one process alone, and when a mere thread ends.
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL = 'while read -r given; do group=$given; done; [ -z "$group" ] || kill -9 "-$group"'
"""Reads groups until the pipe closes, and then kills the last one named; an empty line is none."""

REMOVE = 'read -r _; for _ in 1 2 3 4 5; do rm -rf -- "$0" && exit; sleep 1; done'
"""Waits until the pipe closes; who is being killed just then may still write into the folder."""

PATIENCE = 2.0


class Watchdog:
    """Guard one process group at a time.

    Where there is no shell nothing is guarded: then only an orderly end stops the process.
    """

    def __init__(self) -> None:
        self._process = _shell(KILL)

    def guard(self, group: int | None) -> None:
        """Have this process group killed when we are gone; None: no group any more."""
        if self._process and self._process.stdin:
            with suppress(BrokenPipeError):  # somebody ended it: then nothing is guarded
                self._process.stdin.write(b"%s\n" % (b"" if group is None else b"%d" % group))
                self._process.stdin.flush()

    def close(self) -> None:
        """End the guard; call `guard(None)` before, or it does what it is there for."""
        _end(self._process)


@contextmanager
def fleeting_folder() -> Iterator[Path]:
    """Make a temporary folder that is removed in the end, however we end."""
    with TemporaryDirectory(prefix="agentstream-") as folder:
        shell = _shell(REMOVE, folder)
        try:
            yield Path(folder)
        finally:
            _end(shell)


def _shell(script: str, *arguments: str) -> subprocess.Popen[bytes] | None:
    """Run a script that waits for the end of its stdin, which is ours."""
    shell = which("sh")
    if shell is None:
        return None
    return subprocess.Popen(
        [shell, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what ends us must not end it
    )


def _end(shell: subprocess.Popen[bytes] | None) -> None:
    """Close its stdin, upon which it does what it is there for, and wait for that."""
    if shell is None:
        return
    if shell.stdin:
        shell.stdin.close()
    try:
        shell.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        shell.kill()
        shell.wait()
