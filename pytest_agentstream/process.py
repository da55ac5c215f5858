"""A server under test as a process of ours: started, awaited, signalled, and ended at the end.

1. It leads a session and a process group of its own: signals go to the whole group, but SIGTERM
   to the leader alone, unless that is a wrapper or gone; what is left of the group is killed.
2. Its stdout and stderr go into a bounded log that a thread reads all the time.
3. Whoever signals it to end does so on purpose; any other end is a `Death`.
4. However the suite ends, the group ends with it (`watchdog`).
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio

from pytest_agentstream.ports import address_of, listens
from pytest_agentstream.process_life import Life
from pytest_agentstream.process_log import ProcessLog
from pytest_agentstream.target import Timeouts
from pytest_agentstream.verdicts import NotTested
from pytest_agentstream.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

START_LIMIT = Timeouts().start
"""Seconds in which a server has to listen, where no other limit is given."""

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL where no shutdown grace is declared."""

SLOW_START = 5.0
SLOW_END = 1.0
"""Seconds of waiting for a process after which whoever waits is told so."""

PAUSE = 0.01
SURELY = 10.0
"""Seconds in which a killed process is gone, if the machine works at all."""

SHOWN_LINES = 15
LIMIT_SETTING = "[tool.agentstream.timeouts] start"


class ProcessError(Exception):
    """The process can't be started, reached, signalled or measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process and its children hold: resident bytes, open descriptors, threads."""

    rss: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Death:
    """An end that nobody asked for: when (`time.monotonic`), and `exited with code 3`."""

    at: float
    words: str


class ManagedProcess:
    """Run one command that serves `url`; use `close` at the end, whatever happens.

    `command` are its words, `environment` is added to this process's own, `grace` is how many
    seconds it may take to end, `declared` how many of them it was said to need, `limit` how many to
    listen. `notes` are sentences on what it did not
    do as it was asked to. Where a method takes `tell`, that is called with one sentence if it takes
    long. All methods raise `ProcessError`.
    """

    def __init__(
        self,
        command: Sequence[str],
        url: str,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: str | None = None,
        grace: float = GRACE,
        declared: float | None = None,
        limit: float = START_LIMIT,
        name: str = "the server under test",
    ) -> None:
        self.url = url
        self.name = name
        self.grace = grace
        self._declared = declared
        self.notes: list[str] = []
        self._command = list(command)
        self._environment = {"PYTHONUNBUFFERED": "1", **os.environ, **(environment or {})}
        self._cwd = cwd
        self._limit = limit
        self._log = ProcessLog()
        self._watchdog: Watchdog | None = None
        self._life: Life | None = None
        self._lock = threading.Lock()
        self._closed = False

    # -- what it is ---------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process's id, which is that of its group too."""
        return self._started.pid

    @property
    def alive(self) -> bool:
        return self._life is not None and self._life.alive

    @property
    def frozen(self) -> bool:
        return self.alive and self._started.frozen

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._life.exit_code if self._life else None

    @property
    def asked_to_end(self) -> bool:
        """Whether this life of it was, or is being, ended on purpose."""
        return self._life is not None and self._life.asked is not None

    @property
    def death(self) -> Death | None:
        """How its last life ended, where nobody asked for that."""
        life = self._life
        if life is None or life.alive or life.asked is not None:
            return None
        return Death(life.ended_at, life.describe())

    def log_tail(self, since: float | None = None, until: float | None = None) -> str:
        """The newest part of what it said, earlier lives included; not redacted.

        `since` and `until` are `time.monotonic` seconds.
        """
        return self._log.tail(since, until)

    # -- start and end ------------------------------------------------------------------------

    async def start(self, tell: Callable[[str], None] | None = None) -> None:
        """Start it and wait until it listens.

        Raises `ProcessError`, with what it said, where it does not, and where somebody else listens
        there already.
        """
        if self.alive:
            raise ProcessError(f"{self.name} runs already (process {self.pid})")
        if await listens(self.url):
            raise ProcessError(
                f"{self._place} is in use: another program listens there, and would be judged in "
                f"place of {self.name}; end it, or leave the port to the suite: write {{port}} in "
                "the command and in the url"
            )
        life = self._begin()
        try:
            await self._until_it_listens(life, tell)
        except BaseException:
            life.send(signal.SIGKILL)
            life.ended.wait(SURELY)
            raise

    async def stop(self) -> None:
        """Ask it to end, and kill it where it does not within the grace; `notes` say so then."""
        self.ask_to_end()
        with anyio.CancelScope(shield=True):
            if await self.wait_ended(self.grace) is None:
                self._give_up()
                await self.wait_ended(SURELY)

    async def restart(self) -> None:
        """End it where it lives, and start it on the same port."""
        if self.alive:
            await self.stop()
        await self.start()

    async def wait_ended(self, seconds: float) -> int | None:
        """Wait for its end; return its exit code, or None where it lives on after `seconds`."""
        with anyio.move_on_after(seconds):
            while self.alive:  # noqa: ASYNC110 - a thread learns of it, whichever loop runs
                await anyio.sleep(PAUSE)
        return self.exit_code

    def ask_to_end(self) -> None:
        """Send SIGTERM, to a frozen process too; `close` and `stop` wait for what comes of it."""
        if self.alive:
            self.terminate()
            self.thaw()

    def close(self, tell: Callable[[str], None] | None = None) -> None:
        """End it for good, as `stop` does, but without an event loop; may be called twice."""
        with self._lock:
            self._closed = True
        life = self._life
        try:
            if life is not None and life.alive:
                if life.asked is None:
                    self.ask_to_end()
                latest = (life.asked or 0.0) + self.grace
                if tell is not None and not life.ended.wait(min(SLOW_END, self.grace)):
                    left = max(latest - time.monotonic(), 0.0)
                    tell(f"waits for {self.name} to end, {left:.0f} s at most; Ctrl-C kills it")
                if not life.ended.wait(max(latest - time.monotonic(), 0.0)):
                    self._give_up()
        finally:
            if life is not None:
                life.send(signal.SIGKILL)
                life.ended.wait(SURELY)
                life.join(SURELY)
            watchdog, self._watchdog = self._watchdog, None
            if watchdog is not None:
                watchdog.close()

    def end_now(self, why: str) -> None:
        """Kill it, where it still lives, and have it not started again; `notes` say so, and why.

        Takes no lock, so that a handler of signals may call it.
        """
        self._closed = True
        life = self._life
        if life is None or life.killed or not life.alive:
            return
        asked = life.asked
        after = "" if asked is None else f", {time.monotonic() - asked:.1f} s after SIGTERM"
        self.notes.append(f"{self.name} was killed (SIGKILL) at {why}{after}")
        life.send(signal.SIGKILL)

    # -- signals --------------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask it to end (SIGTERM): the leader, or its group where that is a wrapper or gone."""
        self._started.send(signal.SIGTERM)

    def kill(self) -> None:
        """End its group at once (SIGKILL)."""
        self._started.send(signal.SIGKILL)

    def freeze(self) -> None:
        """Keep its group from running (SIGSTOP): connections stand, and nobody answers."""
        self._started.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its group run on (SIGCONT)."""
        self._started.send(signal.SIGCONT)

    # -- measuring ------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """Sample what the process and its children hold.

        Raises `NotTested` without psutil, and where one of them may not be looked at.
        """
        try:
            psutil: Any = import_module("psutil")
        except ModuleNotFoundError:
            raise NotTested(
                f"what {self.name} holds can't be measured: psutil is not installed",
                "install it: pip install 'pytest-agentstream[managed]'",
            ) from None
        if not self.alive:
            raise ProcessError(f"{self.name} {self._started.describe()}: nothing is to be measured")
        rss = descriptors = threads = 0
        try:
            leader = psutil.Process(self.pid)
            for one in (leader, *leader.children(recursive=True)):
                try:
                    with one.oneshot():
                        rss += one.memory_info().rss
                        descriptors += one.num_fds()
                        threads += one.num_threads()
                except psutil.NoSuchProcess:
                    if one is leader:
                        raise
        except psutil.NoSuchProcess:
            raise ProcessError(f"{self.name} ended while it was measured") from None
        except psutil.AccessDenied as denied:
            raise NotTested(
                f"what {self.name} holds can't be measured: process {denied.pid} of it may not be "
                "looked at",
                "run the suite as the user that all its processes have",
            ) from None
        return Usage(rss, descriptors, threads)

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _started(self) -> Life:
        if self._life is None:
            raise ProcessError(f"{self.name} was not started")
        return self._life

    @property
    def _place(self) -> str:
        host, port = address_of(self.url)
        return f"port {port} of {host}"

    def _begin(self) -> Life:
        if os.name != "posix":
            raise ProcessError(
                f"{self.name} can't be run by the suite on this system, which has no process "
                "groups; start it yourself, and give its URL without a command"
            )
        with self._lock:
            if self._closed:
                raise ProcessError(f"{self.name} is not started any more: the session has ended")
            if self._watchdog is None:
                self._watchdog = Watchdog()
            try:
                self._life = Life(
                    self._command, self._environment, self._cwd, self._log, self._watchdog
                )
            except (OSError, ValueError) as error:
                raise ProcessError(
                    f"{self.name} could not be started: {self._command[0]}: {error}"
                ) from None
            return self._life

    async def _until_it_listens(self, life: Life, tell: Callable[[str], None] | None) -> None:
        with anyio.move_on_after(self._limit):
            while life.alive:
                if await listens(self.url) and life.alive:
                    return
                if tell is not None and time.monotonic() - life.began >= SLOW_START:
                    tell(
                        f"waits for {self.name} to listen on {self._place}, {self._limit:g} s at "
                        f"most ({LIMIT_SETTING})"
                    )
                    tell = None
                await anyio.sleep(PAUSE)
        if life.asked is not None:
            raise ProcessError(f"{self.name} was ended before it listened")
        said = self.log_tail(life.began).splitlines()[-SHOWN_LINES:]
        problem = f"{life.describe()} before it listened on {self._place}"
        if life.alive:
            problem = f"does not listen on {self._place} after {self._limit:g} s"
            advice = (
                "it has to listen there, and {port} in the command is that port; where it takes "
                f"longer: {LIMIT_SETTING} = {2 * self._limit:g}"
            )
        elif life.exit_code == 0:
            advice = "it has to stay in the foreground, and {port} in the command is that port"
        else:
            advice = "what it said last may tell why" if said else "start it by hand to see why"
        lines = [
            f"  {'' if n else 'It said':<9}{line}" for n, line in enumerate(said or ["nothing"])
        ]
        raise ProcessError(
            "\n".join(
                [
                    f"{self.name} {problem}: {advice}",
                    *lines,
                    f"  Command  {shlex.join(self._command)}",
                ]
            )
        )

    def _give_up(self) -> None:
        late = f"{self.grace:g} s of SIGTERM and was killed (SIGKILL)"
        if self._declared is not None:
            late = (
                f"the declared grace of {self._declared:g} s and was killed (SIGKILL), "
                f"{self.grace:g} s after SIGTERM"
            )
        self.notes.append(f"{self.name} did not end within {late}")
        self._started.send(signal.SIGKILL)
