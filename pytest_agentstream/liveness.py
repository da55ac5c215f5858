"""Whether the server is still there: what an end may mean, and who reports that it has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.recording import EndKind, Run
from pytest_agentstream.requesting import DEFAULT_PORTS

if TYPE_CHECKING:
    from pytest_agentstream.ledger import Ledger
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target

DEADLY = frozenset({EndKind.REFUSED, EndKind.CUT, EndKind.RESET})
"""Ends behind which there may be no server any more."""

DYING, ENDING = 0.1, 2.0
"""Seconds in which a process may still end that has cut a connection, or closed its listener."""

KNOCKS, KNOCK_PAUSE = 3, 0.3
"""How often, and every how many seconds, a server is tried before it counts as gone."""


class Liveness:
    """Notice for the probe `asker` that the server of `target` has gone.

    `faulty` says that its connections suffer faults, so that their ends need not be the server's.
    """

    def __init__(self, target: Target, ledger: Ledger, asker: str, *, faulty: bool) -> None:
        self._target = target
        self._ledger = ledger
        self._asker = asker
        self._faulty = faulty

    @property
    def process(self) -> ManagedProcess | None:
        """The process behind the target's URL, where the suite runs it."""
        return self._ledger.processes.get(self._target.origin)

    def stop_if_gone(self) -> None:
        """Raise `ServerGone` once the server does not accept connections any more."""
        if self._ledger.gone:
            raise self._ledger.server_gone

    async def check_run(self, run: Run, *, leaves: bool) -> None:
        """Look after the server where a run's end may be its death; the first such run is judged.

        Raises `ServerDied` or `ServerGone` for others. A client that `leaves` ended it by itself.
        """
        if run.last.end.kind in DEADLY and not await self._listens():
            await self._stop_if_dead(run.last)
            if not (leaves or self._ledger.lose(self._asker, run)):
                self.stop_if_gone()

    async def check(self, recording: Recording) -> None:
        """Look after the server where one exchange may show its death.

        Raises `ServerDied` or `ServerGone`.
        """
        telling = DEADLY if self.process is not None else {EndKind.REFUSED}
        if recording.end.kind in telling and not await self._listens():
            await self._stop_if_dead(recording)
            self._ledger.lose(self._asker, Run("", "", (recording,)))
        self.stop_if_gone()

    async def _stop_if_dead(self, recording: Recording) -> None:
        """Raise `ServerDied`, but once for all probes, where the process ended by itself."""
        if self.process is not None:
            await self.process.wait_ended(ENDING)
            if self.process.death is not None:
                raise self._ledger.bury(self._asker, self.process, recording)

    async def _listens(self) -> bool:
        """Whether the server accepts connections; one that is restarted has a moment for it.

        One that is ended on purpose counts as listening: nobody has lost it.
        """
        parts = self._target.parts
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        if self.process is not None and not self._faulty:
            await self.process.wait_ended(DYING)
        for _ in range(KNOCKS):
            process = self.process
            if process is not None and (process.asked_to_end or process.death is not None):
                return process.asked_to_end
            try:
                with anyio.fail_after(self._target.timeouts.connect):
                    await (await anyio.connect_tcp(parts.hostname or "", port)).aclose()
            except OSError as error:  # a time-out, too, says that it is busy, not that it is gone
                if isinstance(error, TimeoutError):
                    return True
                await anyio.sleep(KNOCK_PAUSE)
            else:
                return True
        return False
