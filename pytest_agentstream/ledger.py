"""The ledger: what a session did to the server under test, and whether that is still there."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from pytest_agentstream.observing import Observation
from pytest_agentstream.redaction import Redactor
from pytest_agentstream.verdicts import Finding, NotTested, ServerDied, ServerGone

if TYPE_CHECKING:
    from pytest_agentstream.controls import Control
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.recording import Recording, Run
    from pytest_agentstream.verdicts import Outcome

GIVEN = frozenset({"uuid", "prompt"})
"""What templates know without any setup step; no secrets."""


@dataclass
class Ledger:
    """What a session did to the server under test: runs started, in order, and whether it is gone.

    `limit` is the most runs that may be started, or None. `redact` learns every credential that was
    sent or received. Once `throttled`, runs are started one at a time.
    `processes` are those that the suite runs, by the origin that each serves; `deaths` says which
    of them ended by themselves, and `alone` that one probe has the server for itself. `repeats` are
    requests that resumed by repeating a start request; `refused` are scenarios that the server did
    not start, with the status. `unkept` says what was not recorded for want of memory, a sentence
    each. `faults` counts connections through fault proxies by the proxy, with the reason where it
    is not the one that was asked for; it is empty where only the embedded one is used.
    """

    limit: int | None = None
    redact: Redactor = field(default_factory=Redactor)
    observations: list[Observation] = field(default_factory=list)
    others: list[Recording] = field(default_factory=list)
    started: int = 0
    throttled: int = 0
    repeats: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unkept: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    gone: str = ""
    alone: bool = False
    deaths: list[str] = field(default_factory=list)
    processes: dict[str, ManagedProcess] = field(default_factory=dict)
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    _death_judged: bool = False
    _askers: dict[int, str] = field(default_factory=dict)  # by the ids of exchanges, all kept
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

    def keep(self, run: Run, dialect: Dialect, control: Control, asker: str = "") -> Observation:
        """Keep a run, and which probe started it."""
        with self._lock:
            self._askers.update((id(exchange), asker) for exchange in run.exchanges)
            self.redact.learn(value for name, value in run.captured if name not in GIVEN)
            self.redact.learn_from(run.exchanges)
            made = Observation(run, dialect, control.scenario, len(self.observations) + 1)
            self.observations.append(made)
            return made

    def controls(self) -> dict[str, list[str]]:
        """The scenarios of all runs, by the control that asked for them."""
        found: dict[str, set[str]] = {}
        for seen in self.observations:
            control = seen.run.control.partition(",")[0]  # behind it is what it went through
            found.setdefault(control, set()).add(seen.scenario)
        return {control: sorted(found[control]) for control in sorted(found)}

    def note(self, recording: Recording, asker: str = "") -> None:
        """Keep an exchange that is part of no run, and which probe sent it."""
        with self._lock:
            self._askers[id(recording)] = asker
            self.redact.learn_from([recording])
            self.others.append(recording)

    def lack_memory(self, sentence: str) -> None:
        """Take note that something was not recorded, once for each such sentence."""
        with self._lock:
            if sentence not in self.unkept:
                self.unkept.append(sentence)

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

    def bury(self, asker: str, process: ManagedProcess, recording: Recording) -> Outcome:
        """Take note that a process ended by itself; return what the probe that saw it has to raise.

        That is a finding for the first one, and that the server is gone for all others.
        """
        words = process.death.words if process.death else "ended"
        with self._lock:
            self._askers[id(recording)] = asker
            if self.gone:
                return self.server_gone
            meanwhile = (
                f"during the probe `{asker}`"
                if self.alone
                else f"while probes ran at the same time, `{asker}` among them"
            )
            self.gone = f"{process.name} {words} {meanwhile}"
            self.deaths.append(self.gone)
        return ServerDied(
            Finding(
                f"{process.name} to live on, whatever it is asked",
                self.gone,
                recording=recording,
                breaks="everybody who is connected, and whoever comes before it is up again",
                hint="its log says why; nobody asked it to end",
            )
        )

    @property
    def server_gone(self) -> ServerGone:
        return ServerGone(f"server gone: {self.gone}", "see its log for why it ended")

    def asker_of(self, recording: Recording) -> str:
        """The probe that sent a request, or an empty string where that is not known."""
        return self._askers.get(id(recording), "")

    def run_around(self, recording: Recording) -> tuple[Recording, ...]:
        """All exchanges of the run that one of them belongs to; of a lone request itself."""
        place = self.place_of(recording)
        return (recording,) if place is None else self.observations[place[0] - 1].exchanges

    def place_of(self, recording: Recording) -> tuple[int, int] | None:
        """The run and exchange numbers of a recording, both from 1, or None for a lone request."""
        for seen in self.observations:
            for number, exchange in enumerate(seen.exchanges, 1):
                if exchange is recording:
                    return seen.number, number
        return None
