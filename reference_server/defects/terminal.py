"""Defects of how a run ends when nothing crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.defects.seams import FailureSeen, agent, entries, with_payload
from reference_server.protocol import Error, Event, InputRequired, Token
from reference_server.registry import Registry
from reference_server.runs import Producer, Run
from reference_server.stream import Reader, Writer

if TYPE_CHECKING:
    from reference_server.log import Entry
    from reference_server.parts import Parts
    from reference_server.scenario import Scenario

Events = AsyncIterator[Event]


@defect("two-terminals", "terminal.exactly-one", "A `complete` run ends in `done` twice.")
def two_terminals(parts: Parts) -> Parts:
    class Twice(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            last = super().succeeded(run)
            return [*last, *last] if run.scenario.name == "complete" else last

    return replace(parts, producer=Twice)


@defect("no-terminal", "terminal.exactly-one", "A `tools` run ends well, without any terminal.")
def no_terminal(parts: Parts) -> Parts:
    class Endless(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            return [] if run.scenario.name == "tools" else super().succeeded(run)

    return replace(parts, producer=Endless)


@defect("no-done-after-error", "terminal.handled-failure", "A reported failure has no `done`.")
def no_done_after_error(parts: Parts) -> Parts:
    class NoDone(Producer):
        def reported(self, run: Run, error: Error) -> Sequence[Event]:
            return [error]

    return replace(parts, producer=NoDone)


@defect("token-after-done", "terminal.last", "A token follows the terminal.")
def token_after_done(parts: Parts) -> Parts:
    class OneMore(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            return [*super().succeeded(run), Token(text="PS")]

    return replace(parts, producer=OneMore)


@defect("open-after-done", "terminal.closes", "The stream stays open behind the terminal, silent.")
def open_after_done(parts: Parts) -> Parts:
    class StaysOpen(Writer):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            await super().write(reader, send)
            await asyncio.sleep(WATCHED)

    return replace(parts, writer=StaysOpen)


@defect(
    "open-after-error",
    "terminal.closes",
    "The stream of a run that failed stays open behind the terminal, silent.",
)
def open_after_error(parts: Parts) -> Parts:
    class StaysOpen(FailureSeen):
        async def write(self, reader: Reader, send: Callable[[bytes], Awaitable[None]]) -> None:
            await super().write(reader, send)
            if self.failed:
                await asyncio.sleep(WATCHED)

    return replace(parts, writer=StaysOpen)


@defect(
    "success-unsaid",
    "terminal.success-said",
    "A `complete` run returns early: the body ends well, and nothing says that the run did.",
)
def success_unsaid(parts: Parts) -> Parts:
    class Unsaid(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            return [] if run.scenario.name == "complete" else super().succeeded(run)

    return replace(parts, producer=Unsaid)


@defect(
    "success-is-cancelled",
    "terminal.success-said",
    "A `complete` run that goes well ends in `done` with status cancelled.",
)
def success_is_cancelled(parts: Parts) -> Parts:
    class Cancelled(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            last = super().succeeded(run)
            return [run.done("cancelled")] if run.scenario.name == "complete" else last

    return replace(parts, producer=Cancelled)


@defect(
    "failure-is-completed",
    "terminal.handled-failure",
    "A failure that the agent reports ends in `done` with status completed.",
)
def failure_is_completed(parts: Parts) -> Parts:
    class Completed(Producer):
        def reported(self, run: Run, error: Error) -> Sequence[Event]:
            return [error, run.done("completed")]

    return replace(parts, producer=Completed)


@defect("interrupt-unsaid", "terminal.interrupt-said", "The run waits for a person silently.")
def interrupt_unsaid(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            if not isinstance(event, InputRequired):
                yield event

    return agent(parts, change, "interrupt")


@defect(
    "interrupt-in-prose",
    "terminal.interrupt-said",
    "The run that waits for a person asks in the text of its answer only.",
)
def interrupt_in_prose(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        async for event in events:
            yield Token(text=event.prompt) if isinstance(event, InputRequired) else event

    return agent(parts, change, "interrupt")


@defect("interrupt-stuck", "terminal.interrupt-answered", "The run never goes on with the answer.")
def interrupt_stuck(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        asked = False
        async for event in events:
            if asked:
                await asyncio.sleep(WATCHED)
            yield event
            asked = isinstance(event, InputRequired)

    return agent(parts, change, "interrupt")


@defect(
    "interrupt-answer-refused",
    "terminal.interrupt-answered",
    "The answer to a run that waits for it gets 409.",
)
def interrupt_answer_refused(parts: Parts) -> Parts:
    class Refusing(Registry):
        def answer(self, run_id: str, request_id: str, text: str) -> bool:
            return False

    return replace(parts, registry=Refusing)


@defect("cut-on-shutdown", "terminal.on-shutdown", "SIGTERM cuts open streams off.")
def cut_on_shutdown(parts: Parts) -> Parts:
    class Deaf(Registry):
        async def close(self) -> None:
            self.closing = True

    return replace(parts, registry=Deaf)


@defect("deadline-ignored", "terminal.deadline", "A run may take for ever.")
def deadline_ignored(parts: Parts) -> Parts:
    class Patient(Registry):
        def deadline(self, scenario: Scenario) -> float:
            return 86_400.0

    return replace(parts, registry=Patient)


@defect("cancel-ignored", "cancel.explicit", "A cancelled run runs on.")
def cancel_ignored(parts: Parts) -> Parts:
    class Stubborn(Registry):
        async def cancel(self, run_id: str) -> None:
            return

    return replace(parts, registry=Stubborn)


@defect("cancel-says-completed", "cancel.explicit", "A cancelled run claims to be completed.")
def cancel_says_completed(parts: Parts) -> Parts:
    def change(entry: Entry) -> Iterator[Entry]:
        cancelled = entry.type == "done" and entry.payload["status"] == "cancelled"
        yield with_payload(entry, status="completed", num_turns=1) if cancelled else entry

    return entries(parts, change)


@defect("disconnect-kills", "disconnect.continues", "A run dies when its last reader goes.")
def disconnect_kills(parts: Parts) -> Parts:
    class Clingy(Registry):
        def live(self, run_id: str) -> Run | None:
            run = super().live(run_id)
            if run is not None:
                run.grace = 0.0
            return run

    return replace(parts, registry=Clingy)
