"""Say what an agent is to the server: an async iterator of events, given an assignment.

An agent yields events and returns. It never writes the terminal: the run does, so that there is
always one and only one. A failure it knows of is an `Error` event, after which nothing it yields
counts; an unknown one is an exception, of whatever kind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from reference_server.protocol import Event

if TYPE_CHECKING:
    from reference_server.scenario import Scenario
    from reference_server.settings import Settings


class NoAnswer(Exception):
    """Nobody answered in time: the run ends as interrupted."""


class Inbox:
    """Where a run's agent waits for a person: one question at a time, one answer to each."""

    def __init__(
        self, patience: float, waiting: Callable[[], None], going_on: Callable[[], None]
    ) -> None:
        self._patience = patience
        self._waiting = waiting
        self._going_on = going_on
        self._open: dict[str, asyncio.Future[str]] = {}

    def expect(self, request_id: str) -> None:
        """Open a question, before its `input_required` event is seen by anybody."""
        self._open[request_id] = asyncio.get_running_loop().create_future()

    def give(self, request_id: str, text: str) -> bool:
        """Answer a question; False for one that is not open, or answered already."""
        future = self._open.get(request_id)
        if future is None or future.done():
            return False
        future.set_result(text)
        return True

    async def answer(self, request_id: str) -> str:
        """Wait for the answer; raise NoAnswer when nobody gives it in time."""
        self._waiting()
        try:
            async with asyncio.timeout(self._patience):
                return await self._open[request_id]
        except TimeoutError:
            raise NoAnswer(request_id) from None
        finally:
            del self._open[request_id]
            self._going_on()


@dataclass(frozen=True, slots=True)
class Assignment:
    """What an agent is asked to do."""

    message: str
    scenario: Scenario
    inbox: Inbox = field(repr=False)
    settings: Settings = field(repr=False)


class Incomplete(Event):
    """What an agent yields last where its answer is not whole; never sent: `done` says it."""

    type: ClassVar[str] = "incomplete"
    reason: Literal["length", "content_filter", "empty"]


Agent: TypeAlias = Callable[[Assignment], AsyncIterator[Event]]
