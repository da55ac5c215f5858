"""Defects of what a crash does: to its own run's end, and to others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.defects.defect import defect
from reference_server.protocol import Event, Token, ToolResult
from reference_server.registry import Registry
from reference_server.runs import INTERNAL, Producer, Run
from reference_server.stream import Writer

if TYPE_CHECKING:
    from reference_server.agent import Agent, Assignment
    from reference_server.log import Entry, EventLog
    from reference_server.parts import Parts
    from reference_server.settings import Settings

Events = AsyncIterator[Event]

TRACEBACK = """Traceback (most recent call last):
  File "agent.py", line 12, in answer
    return tools[name](*arguments)
KeyError: 'search'"""


def _when_failed(
    parts: Parts,
    change: Callable[[Run, BaseException, Sequence[Event]], Sequence[Event]],
) -> Parts:
    class Failing(Producer):
        def failed(self, run: Run, exception: BaseException) -> Sequence[Event]:
            return change(run, exception, super().failed(run, exception))

    return replace(parts, producer=Failing)


CUT = INTERNAL.model_copy(update={"error_type": "cut"})


def _cutting(parts: Parts) -> Parts:
    """Cut the body off where the error `CUT` would be written."""

    class Cut(Writer):
        def block(self, entry: Entry) -> bytes:
            if entry.payload.get("error_type") == CUT.error_type:
                raise ConnectionError("cut on purpose")
            return super().block(entry)

    return replace(parts, writer=Cut)


def _plain(run: Run, exception: BaseException) -> bool:
    """Tell whether it is the plain crash: an Exception, behind some events."""
    return isinstance(exception, Exception) and run.scenario.name == "crash"


@defect("crash-says-nothing", "terminal.on-crash", "A crash ends the body well, without a word.")
def crash_says_nothing(parts: Parts) -> Parts:
    return _when_failed(parts, lambda run, error, last: [] if _plain(run, error) else last)


@defect("crash-cuts-body", "terminal.on-crash", "A crash cuts the body off.")
def crash_cuts_body(parts: Parts) -> Parts:
    return _when_failed(
        _cutting(parts),
        lambda run, error, last: [CUT, *last[1:]] if _plain(run, error) else last,
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
    "crash-first-cuts-body",
    "terminal.on-crash-before-first",
    "A crash before the first event cuts the body off, behind its head.",
)
def crash_first_cuts_body(parts: Parts) -> Parts:
    return _when_failed(
        _cutting(parts),
        lambda run, error, last: [CUT, *last[1:]] if run.scenario.name == "crash-first" else last,
    )


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
    "system-exit-cuts-body",
    "terminal.base-exceptions",
    "SystemExit cuts the body off; CancelledError ends as any exception does.",
)
def system_exit_cuts_body(parts: Parts) -> Parts:
    return _when_failed(
        _cutting(parts),
        lambda run, error, last: [CUT, *last[1:]] if isinstance(error, SystemExit) else last,
    )


@defect(
    "crash-is-completed",
    "terminal.crash-is-not-success",
    "A crash ends in `error`, then in `done` with status completed.",
)
def crash_is_completed(parts: Parts) -> Parts:
    return _when_failed(parts, lambda run, error, last: [INTERNAL, run.done("completed")])


@defect(
    "crash-unsaid-and-completed",
    "terminal.crash-is-not-success",
    "A crash ends as if the agent had said all it had to: in `done` with status completed.",
)
def crash_unsaid_and_completed(parts: Parts) -> Parts:
    return _when_failed(
        parts,
        lambda run, error, last: [run.done("completed")] if _plain(run, error) else last,
    )


@defect(
    "two-terminals-after-crash", "terminal.exactly-one", "A crash ends in `error`, `done`, `done`."
)
def two_terminals_after_crash(parts: Parts) -> Parts:
    return _when_failed(
        parts, lambda run, error, last: [*last, *last[1:]] if _plain(run, error) else last
    )


@defect("token-after-crash", "terminal.last", "A token follows the terminal of a crashed run.")
def token_after_crash(parts: Parts) -> Parts:
    late = Token(text="PS")
    return _when_failed(
        parts, lambda run, error, last: [*last, late] if _plain(run, error) else last
    )


@defect(
    "last-event-lost",
    "terminal.nothing-lost-before-crash",
    "The event yielded immediately before an exception is lost.",
)
def last_event_lost(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        held: Event | None = None
        async for event in events:
            if held is not None:
                yield held
            held = event

    inner = parts.agent

    def changed(task: Assignment) -> Events:
        plain = task.scenario.name == "crash" and task.scenario["kind"] == "exception"
        return change(inner(task)) if plain else inner(task)

    return replace(parts, agent=changed)


@defect(
    "last-event-halved",
    "terminal.nothing-lost-before-crash",
    "Of the text yielded immediately before an exception only the first half arrives.",
)
def last_event_halved(parts: Parts) -> Parts:
    async def change(events: Events) -> Events:
        held: Event | None = None
        try:
            async for event in events:
                if held is not None:
                    yield held
                held = event
        except Exception:
            if isinstance(held, Token):
                yield Token(text=held.text[: len(held.text) // 2])
            raise

    inner = parts.agent

    def changed(task: Assignment) -> Events:
        plain = task.scenario.name == "crash" and task.scenario["kind"] == "exception"
        return change(inner(task)) if plain else inner(task)

    return replace(parts, agent=changed)


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
    "exception-in-details",
    "terminal.no-internals",
    "The error's details have the exception's text, deep inside.",
)
def exception_in_details(parts: Parts) -> Parts:
    def change(run: Run, error: BaseException, last: Sequence[Event]) -> Sequence[Event]:
        said = INTERNAL.model_copy(update={"details": {"cause": [{"text": repr(error)}]}})
        return [said, *last[1:]]

    return _when_failed(parts, change)


@defect(
    "stack-trace",
    "terminal.no-stack-traces",
    "The error's message looks like a traceback, without the exception's text.",
)
def stack_trace(parts: Parts) -> Parts:
    said = INTERNAL.model_copy(update={"message": TRACEBACK})
    return _when_failed(
        parts, lambda run, error, last: [said, *last[1:]] if _plain(run, error) else last
    )


def _when_others(parts: Parts, harm: Callable[[Registry, Run], None]) -> Parts:
    """Harm, at a crash, the newest `silence` that was started before and is still going on."""

    class Contagious(Registry):
        def __init__(
            self, log: EventLog, settings: Settings, agent: Agent, producer: Producer
        ) -> None:
            super().__init__(log, settings, agent, producer)
            self._producer = _Telling(producer, self._crashed)

        def _crashed(self, crashed: Run) -> None:
            older = list(self._live)[: list(self._live).index(crashed.id)]
            beside = [self._live[run_id].run for run_id in older]
            silent = [run for run in beside if run.scenario.name == "silence"]
            if silent:
                harm(self, silent[-1])

    return replace(parts, registry=Contagious)


@defect(
    "crash-ends-others",
    "terminal.others-survive-crash",
    "A run's crash ends the newest `silence` that was started before it and is still going on.",
)
def crash_ends_others(parts: Parts) -> Parts:
    def end(registry: Registry, run: Run) -> None:
        registry._stop(run, INTERNAL, run.done("error"))

    return _when_others(parts, end)


@defect(
    "crash-cuts-others",
    "terminal.others-survive-crash",
    "A run's crash takes with it the newest `silence` that was started before and is still going "
    "on: its stream is cut, and its run has failed when it is joined again.",
)
def crash_cuts_others(parts: Parts) -> Parts:
    def end(registry: Registry, run: Run) -> None:
        cut.add(run.id)
        registry._stop(run, INTERNAL, run.done("error"))

    cut: set[str] = set()

    class Cutting(Writer):
        def block(self, entry: Entry) -> bytes:
            if entry.type == "error" and entry.run in cut:
                cut.remove(entry.run)
                raise ConnectionError("cut on purpose")
            return super().block(entry)

    return _when_others(replace(parts, writer=Cutting), end)


class _Telling(Producer):
    """A producer that tells of plain crashes behind another's back."""

    def __init__(self, inner: Producer, crashed: Callable[[Run], None]) -> None:
        self._inner = inner
        self._crashed = crashed

    async def produce(self, run: Run, agent: Agent, task: Assignment) -> None:
        await self._inner.produce(run, agent, task)
        if run.scenario.name == "crash" and run.scenario["kind"] == "exception":
            self._crashed(run)
