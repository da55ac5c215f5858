"""The ledger: what a session did to the server under test, and whether that is still there."""

from __future__ import annotations

import threading
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.observing import Observation
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from pytest_agentstream.controls import Control
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Recording, Run

GIVEN = frozenset({"uuid", "prompt"})
"""What templates know without any setup step; no secrets."""


@dataclass
class Ledger:
    """What a session did to the server under test: runs started, in order, and whether it is gone.

    `limit` is the most runs that may be started, or None. `redact` learns every credential that was
    sent or received. Once `throttled`, runs are started one at a time.
    `repeats` are requests that resumed by repeating a start request; `refused` are scenarios that
    the server did not start, with the status.
    """

    limit: int | None = None
    redact: Redactor = field(default_factory=Redactor)
    observations: list[Observation] = field(default_factory=list)
    others: list[Recording] = field(default_factory=list)
    started: int = 0
    throttled: int = 0
    repeats: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    gone: str = ""
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    _death_judged: bool = False
    _readers: dict[int, anyio.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reading(self, seen: Observation) -> AbstractAsyncContextManager[object]:
        """Wait for one's turn to read a run, where the dialect allows it one reader at a time.

        A second reader may end the first, as MCP's servers do.
        """
        if seen.dialect.profile.resume.readers == "many":
            return nullcontext()
        return self._readers.setdefault(seen.number, anyio.Lock())

    def begin(self) -> None:
        """Count a run that is about to be started; raises `NotTested` above the limit."""
        with self._lock:
            if self.limit is not None and self.started >= self.limit:
                raise NotTested(
                    f"the limit of {self.limit} runs is used up",
                    f"allow more: --agentstream-max-runs {self.limit + 10}",
                )
            self.started += 1

    def add(self) -> None:
        with self._lock:
            self.started += 1

    def give_back(self) -> None:
        """Take back the count of a start that was refused."""
        with self._lock:
            self.started -= 1

    def keep(self, run: Run, dialect: Dialect, control: Control) -> Observation:
        with self._lock:
            self.redact.learn(value for name, value in run.captured if name not in GIVEN)
            self.redact.learn_from(run.exchanges)
            made = Observation(run, dialect, control.scenario, len(self.observations) + 1)
            self.observations.append(made)
            return made

    def note(self, recording: Recording) -> None:
        """Keep an exchange that is part of no run."""
        with self._lock:
            self.redact.learn_from([recording])
            self.others.append(recording)

    def lose(self, asker: str, run: Run) -> bool:
        """Take note that the server is gone; tell whether this run is the one to be judged on it.

        That is the first of those that were under way.
        """
        with self._lock:
            if not self.gone:
                self.gone = (
                    "the server under test stopped accepting connections; "
                    f"first seen by the probe `{asker}` ({run.last.end.detail})"
                )
            judged = run.first.head is not None and not self._death_judged
            self._death_judged = self._death_judged or judged
            return judged

    def place_of(self, recording: Recording) -> tuple[int, int] | None:
        """The run and exchange numbers of a recording, both from 1, or None for a lone request."""
        for seen in self.observations:
            for number, exchange in enumerate(seen.exchanges, 1):
                if exchange is recording:
                    return seen.number, number
        return None
