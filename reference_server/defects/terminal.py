"""Defects of how a run ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.defects.seams import agent, entries, with_payload
from reference_server.protocol import Error, Event, InputRequired, Token, ToolResult
from reference_server.runs import INTERNAL, Producer, Registry, Run
from reference_server.stream import Reader, Writer

if TYPE_CHECKING:
    from reference_server.agent import Agent, Assignment
    from reference_server.log import Entry, EventLog
    from reference_server.parts import Parts
    from reference_server.settings import Settings

Events = AsyncIterator[Event]
SHORT = 0.05
"""Seconds within which an exception counts as raised right behind an event."""


@defect("two-terminals", "terminal.exactly-one", "A `complete` run ends in `done` twice.")
def two_terminals(parts: Parts) -> Parts:
    class Twice(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            last = super().succeeded(run)
            return [*last, *last] if run.scenario.name == "complete" else last

    return replace(parts, producer=Twice)


@defect("no-done-after-error", "terminal.exactly-one", "A reported failure has no `done`.")
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
    "success-unsaid",
    "terminal.success-said",
    "A `complete` run returns early: the body ends well, and nothing says that the run did.",
)
def success_unsaid(parts: Parts) -> Parts:
    class Unsaid(Producer):
        def succeeded(self, run: Run) -> Sequence[Event]:
            return [] if run.scenario.name == "complete" else super().succeeded(run)

    return replace(parts, producer=Unsaid)


def _when_failed(
    parts: Parts,
    change: Callable[[Run, BaseException, Sequence[Event]], Sequence[Event]],
) -> Parts:
    class Failing(Producer):
        def failed(self, run: Run, exception: BaseException) -> Sequence[Event]:
            return change(run, exception, super().failed(run, exception))

    return replace(parts, producer=Failing)


def _plain(run: Run, exception: BaseException) -> bool:
    """Tell whether it is the plain crash: an Exception, behind some events."""
    return isinstance(exception, Exception) and run.scenario.name == "crash"


@defect("crash-says-nothing", "terminal.on-crash", "A crash ends the body well, without a word.")
def crash_says_nothing(parts: Parts) -> Parts:
    return _when_failed(parts, lambda run, error, last: [] if _plain(run, error) else last)


@defect("crash-cuts-body", "terminal.on-crash", "A crash cuts the body off.")
def crash_cuts_body(parts: Parts) -> Parts:
    marked = INTERNAL.model_copy(update={"error_type": "cut"})

    class Cut(Writer):
        def block(self, entry: Entry) -> bytes:
            if entry.payload.get("error_type") == marked.error_type:
                raise ConnectionError("cut on purpose")
            return super().block(entry)

    return _when_failed(
        replace(parts, writer=Cut),
        lambda run, error, last: [marked, *last[1:]] if _plain(run, error) else last,
    )


@defect(
    "crash-first-says-nothing",
    "terminal.on-crash-before-first",
    "A crash before the first event is an empty stream that ends well.",
)
def crash_first_says_nothing(parts: Parts) -> Parts:
    def change(run: Run, error: BaseException, last: Sequence[Event]) -> Sequence[Event]:
        return [] if run.scenario.name == "crash-first" else last

    return _when_failed(parts, change)


@defect(
    "base-exceptions-swallowed",
    "terminal.base-exceptions",
    "SystemExit and CancelledError end the body well, without a word.",
)
def base_exceptions_swallowed(parts: Parts) -> Parts:
    def change(run: Run, error: BaseException, last: Sequence[Event]) -> Sequence[Event]:
        return last if isinstance(error, Exception) else []

    return _when_failed(parts, change)


@defect(
    "crash-is-completed",
    "terminal.crash-is-not-success",
    "A crash ends in `error`, then in `done` with status completed.",
)
def crash_is_completed(parts: Parts) -> Parts:
    return _when_failed(parts, lambda run, error, last: [INTERNAL, run.done("completed")])


@defect(
    "last-event-lost",
    "terminal.nothing-lost-before-crash",
    "The event yielded immediately before an exception is lost.",
)
def last_event_lost(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        held: Event | None = None
        coming = asyncio.ensure_future(anext(events))
        try:
            while True:
                await asyncio.wait({coming}, timeout=SHORT if held else None)
                if held is not None and (not coming.done() or coming.exception() is None):
                    yield held
                    held = None
                if coming.done():
                    if isinstance(coming.exception(), StopAsyncIteration):
                        if held is not None:
                            yield held
                        return
                    held = coming.result()
                    coming = asyncio.ensure_future(anext(events))
        finally:
            coming.cancel()

    return agent(parts, change, "crash")


@defect(
    "tool-result-after-error",
    "terminal.spans-after-crash",
    "A tool that a crash left open gets a result behind the error.",
)
def tool_result_after_error(parts: Parts) -> Parts:
    def change(run: Run, error: BaseException, last: Sequence[Event]) -> Sequence[Event]:
        if run.scenario["kind"] != "tool":
            return last
        late = ToolResult(tool_name="search", tool_use_id="call-1", status="error")
        return [last[0], late, *last[1:]]

    return _when_failed(
        parts,
        lambda run, error, last: change(run, error, last) if _plain(run, error) else last,
    )


@defect("exception-text", "terminal.no-internals", "The error's message is the exception's text.")
def exception_text(parts: Parts) -> Parts:
    def change(run: Run, error: BaseException, last: Sequence[Event]) -> Sequence[Event]:
        said = INTERNAL.model_copy(update={"message": str(error) or "cancelled"})
        return [said, *last[1:]]

    return _when_failed(parts, change)


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
    "crash-ends-others",
    "terminal.others-survive-crash",
    "A run's crash ends every `silence` that is going on beside it.",
)
def crash_ends_others(parts: Parts) -> Parts:
    class Contagious(Registry):
        def __init__(
            self, log: EventLog, settings: Settings, agent: Agent, producer: Producer
        ) -> None:
            super().__init__(log, settings, agent, producer)
            self._producer = _Telling(producer, self._crashed)

        def _crashed(self, crashed: Run) -> None:
            for work in self._live.values():
                if work.run is not crashed and work.run.scenario.name == "silence":
                    self._stop(work.run, INTERNAL, work.run.done("error"))

    return replace(parts, registry=Contagious)


class _Telling(Producer):
    """A producer that tells of plain crashes behind another's back."""

    def __init__(self, inner: Producer, crashed: Callable[[Run], None]) -> None:
        self._inner = inner
        self._crashed = crashed

    async def produce(self, run: Run, agent: Agent, task: Assignment) -> None:
        await self._inner.produce(run, agent, task)
        if run.scenario.name == "crash" and run.scenario["kind"] == "exception":
            self._crashed(run)


@defect("cut-on-shutdown", "terminal.on-shutdown", "SIGTERM cuts open streams off.")
def cut_on_shutdown(parts: Parts) -> Parts:
    class Deaf(Registry):
        async def close(self) -> None:
            self.closing = True

    return replace(parts, registry=Deaf)


@defect("deadline-ignored", "terminal.deadline", "A run may take for ever.")
def deadline_ignored(parts: Parts) -> Parts:
    class Patient(Registry):
        def __init__(
            self, log: EventLog, settings: Settings, agent: Agent, producer: Producer
        ) -> None:
            super().__init__(log, replace(settings, deadline=86_400.0), agent, producer)

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
