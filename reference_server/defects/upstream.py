"""Defects of what a server makes of an LLM that fails, hangs, or is no longer wanted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from reference_server.agent import Incomplete
from reference_server.defects.defect import defect
from reference_server.defects.heartbeat import WATCHED
from reference_server.protocol import Error, Event, Token
from reference_server.registry import Registry
from reference_server.runs import INTERNAL, Producer, Run
from reference_server.scenario import HEADER
from reference_server.scenarios import LLM
from reference_server.stream import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reference_server.agent import Agent, Assignment
    from reference_server.log import Entry
    from reference_server.parts import Parts
    from reference_server.scenario import Scenario

Events = AsyncIterator[Event]
Change = Callable[[Events], "AsyncGenerator[Event]"]

CUT = Error(error_type="cut", message="The body is cut here.", retryable=False)


def _asked(parts: Parts, change: Change) -> Parts:
    """Change what the agent `llm` says; what ends its run still closes its call."""
    inner = parts.agent

    async def changed(task: Assignment) -> Events:
        async with aclosing(cast("AsyncGenerator[Event]", inner(task))) as said:
            events = change(said) if task.scenario.name == LLM else said
            async with aclosing(events):
                async for event in events:
                    yield event

    return replace(parts, agent=changed)


def _when_it_fails(parts: Parts, kinds: tuple[str, ...], instead: Callable[[], Events]) -> Parts:
    """Say something instead of these errors of the upstream."""

    async def change(events: Events) -> AsyncGenerator[Event]:
        async for event in events:
            if isinstance(event, Error) and event.error_type in kinds:
                async for other in instead():
                    yield other
                return
            yield event

    return _asked(parts, change)


async def _nothing() -> Events:
    for _ in range(0):
        yield INTERNAL


async def _for_ever() -> Events:
    await asyncio.sleep(WATCHED)
    yield INTERNAL


async def _a_cut() -> Events:
    yield CUT


def _cutting(parts: Parts) -> Parts:
    class Cutting(Writer):
        def block(self, entry: Entry) -> bytes:
            if entry.payload.get("error_type") == CUT.error_type:
                raise ConnectionError("cut on purpose")
            return super().block(entry)

    return replace(parts, writer=Cutting)


@defect(
    "upstream-error-hangs",
    "terminal.on-upstream-error",
    "An upstream that answers with an error is waited for, with heartbeats.",
)
def upstream_error_hangs(parts: Parts) -> Parts:
    kinds = ("upstream_unavailable", "upstream_rate_limited")
    return _when_it_fails(parts, kinds, _for_ever)


@defect(
    "upstream-rate-limit-is-completed",
    "terminal.on-upstream-error",
    "An upstream's 429 ends the run as if the model had nothing to say.",
)
def upstream_rate_limit_is_completed(parts: Parts) -> Parts:
    return _when_it_fails(parts, ("upstream_rate_limited",), _nothing)


@defect(
    "upstream-cut-is-completed",
    "terminal.on-upstream-cut",
    "An answer that was cut off ends the run as if it were whole.",
)
def upstream_cut_is_completed(parts: Parts) -> Parts:
    return _when_it_fails(parts, ("upstream_unreachable",), _nothing)


@defect(
    "upstream-cut-is-passed-on",
    "terminal.on-upstream-cut",
    "An answer that was cut off cuts the stream off.",
)
def upstream_cut_is_passed_on(parts: Parts) -> Parts:
    return _when_it_fails(_cutting(parts), ("upstream_unreachable",), _a_cut)


@defect(
    "upstream-short-is-completed",
    "terminal.on-upstream-short",
    "An answer without a finish reason ends the run as if it were whole.",
)
def upstream_short_is_completed(parts: Parts) -> Parts:
    return _when_it_fails(parts, ("upstream_short",), _nothing)


@defect(
    "upstream-garbage-is-completed",
    "terminal.on-upstream-garbage",
    "Malformed data ends the run as if the answer were whole.",
)
def upstream_garbage_is_completed(parts: Parts) -> Parts:
    return _when_it_fails(parts, ("upstream_garbled",), _nothing)


@defect(
    "upstream-garbage-cuts-body",
    "terminal.on-upstream-garbage",
    "Malformed data cuts the stream off.",
)
def upstream_garbage_cuts_body(parts: Parts) -> Parts:
    return _when_it_fails(_cutting(parts), ("upstream_garbled",), _a_cut)


@defect("truncation-unsaid", "terminal.truncation-said", "A truncated answer is a plain success.")
def truncation_unsaid(parts: Parts) -> Parts:
    async def change(events: Events) -> AsyncGenerator[Event]:
        async for event in events:
            if not isinstance(event, Incomplete):
                yield event

    return _asked(parts, change)


@defect(
    "deadline-much-too-late", "terminal.deadline", "A run may take five times as long as it may."
)
def deadline_much_too_late(parts: Parts) -> Parts:
    class Late(Registry):
        def deadline(self, scenario: Scenario) -> float:
            return 5 * super().deadline(scenario)

    return replace(parts, registry=Late)


def _read_otherwise(parts: Parts, pause: Callable[[float], float | None]) -> Parts:
    """Wait otherwise for the events of runs whose LLM is asked; what is waited is a heartbeat."""
    runs: set[str] = set()

    class Noting(Producer):
        async def produce(self, run: Run, agent: Agent, task: Assignment) -> None:
            if run.scenario.name == LLM:
                runs.add(run.id)
            await super().produce(run, agent, task)

    class Waiting(Reader):
        async def next(self, seconds: float | None) -> list[Entry] | None:
            asked = seconds is not None and self.run in runs
            return await super().next(pause(seconds) if asked and seconds else seconds)

    return replace(parts, producer=Noting, reader=Waiting)


@defect(
    "no-heartbeat-while-upstream-stalls",
    "heartbeat.while-upstream-stalls",
    "There is no heartbeat while the LLM is waited for.",
)
def no_heartbeat_while_upstream_stalls(parts: Parts) -> Parts:
    return _read_otherwise(parts, lambda seconds: None)


@defect(
    "slow-heartbeat-while-upstream-stalls",
    "heartbeat.while-upstream-stalls",
    "While the LLM is waited for, a heartbeat comes only every 2.2 H.",
)
def slow_heartbeat_while_upstream_stalls(parts: Parts) -> Parts:
    return _read_otherwise(parts, lambda seconds: seconds * 4.4)


@defect(
    "later-rate-limit-is-final",
    "retry.consistent",
    "An upstream's 429 behind a tool call is called final; before, it is retryable.",
)
def later_rate_limit_is_final(parts: Parts) -> Parts:
    async def change(events: Events) -> AsyncGenerator[Event]:
        said = False
        async for event in events:
            said |= isinstance(event, Token)
            if said and isinstance(event, Error) and event.error_type == "upstream_rate_limited":
                event = event.model_copy(update={"retryable": False, "retry_after_ms": None})
            yield event

    return _asked(parts, change)


@defect(
    "characters-replaced",
    "framing.no-replacement-characters",
    "A character in two parts becomes a U+FFFD for each of them.",
)
def characters_replaced(parts: Parts) -> Parts:
    async def change(events: Events) -> AsyncGenerator[Event]:
        async for event in events:
            if isinstance(event, Token):
                raw = event.text.encode()
                at = next((i for i, byte in enumerate(raw) if byte > 0x7F), len(raw) - 1) + 1
                halves = (raw[:at], raw[at:])
                text = "".join(half.decode("utf-8", "replace") for half in halves)
                event = Token(text=text)
            yield event

    return _asked(parts, change)


@defect(
    "cancel-leaves-upstream",
    "cancel.explicit",
    "A cancelled run says so at once, and its LLM is read to the end for nobody.",
)
def cancel_leaves_upstream(parts: Parts) -> Parts:
    inner = parts.agent
    reading: set[asyncio.Task[None]] = set()

    async def changed(task: Assignment) -> Events:
        coming: asyncio.Queue[Event | None] = asyncio.Queue()

        async def read() -> None:
            async for event in inner(task):
                await coming.put(event)
            await coming.put(None)

        if task.scenario.name != LLM:
            async for event in inner(task):
                yield event
            return
        pump = asyncio.create_task(read())
        reading.add(pump)
        pump.add_done_callback(reading.discard)
        while (said := await coming.get()) is not None:
            yield said

    return replace(parts, agent=changed)


class _Lasting(Registry):
    """A registry that waits otherwise for the readers of runs that a disconnect cancels."""

    longer: float | None

    async def start(
        self, message: str, scenario: Scenario, *, owner: str, key: str | None, grace: float | None
    ) -> str:
        changed = None if grace is None or self.longer is None else grace + self.longer
        return await super().start(message, scenario, owner=owner, key=key, grace=changed)


@defect("disconnect-ignored", "disconnect.cancels", "A disconnect never cancels.")
def disconnect_ignored(parts: Parts) -> Parts:
    class Deaf(_Lasting):
        longer = None

    return replace(parts, registry=Deaf)


@defect("disconnect-cancels-late", "disconnect.cancels", "A disconnect cancels 6 s too late.")
def disconnect_cancels_late(parts: Parts) -> Parts:
    class Late(_Lasting):
        longer = 6.0

    return replace(parts, registry=Late)


@defect("disconnect-fails", "disconnect.continues", "A run fails when its last reader goes.")
def disconnect_fails(parts: Parts) -> Parts:
    class Failing(Registry):
        def live(self, run_id: str) -> Run | None:
            run = super().live(run_id)
            if run is not None and run.grace is None:
                run.grace = 0.0
            return run

        def _if_abandoned(self, run: Run) -> None:
            if run.readers == 0 and not self.closing:
                self._stop(run, INTERNAL, run.done("error"))

    return replace(parts, registry=Failing)


def _beside_a_reset(parts: Parts, harm: Callable[[H11Protocol], None]) -> Parts:
    """Harm the only other connection when a client resets its own: taken for the last one.

    Both are of `pauses`, so that it is clear which client's going is meant.
    """

    def is_meant(one: object) -> bool:
        scope = getattr(one, "scope", None) or {}
        asked = dict(scope.get("headers", ())).get(HEADER.encode(), b"")
        return bool(asked.startswith(b"pauses") and scope["method"] == "POST")

    class Careless(H11Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            others = [one for one in self.connections if isinstance(one, H11Protocol)]
            reset = isinstance(exc, ConnectionResetError)
            if reset and len(others) == 1 and is_meant(others[0]) and is_meant(self):
                harm(others[0])

    return replace(parts, http=Careless)


@defect(
    "reset-cuts-other",
    "disconnect.mid-event",
    "A client that resets its connection takes the one other stream with it.",
)
def reset_cuts_other(parts: Parts) -> Parts:
    return _beside_a_reset(parts, lambda other: other.transport.abort())


@defect(
    "reset-ends-process",
    "disconnect.mid-event",
    "A client that resets its connection beside one other stream ends the process.",
)
def reset_ends_process(parts: Parts) -> Parts:
    return _beside_a_reset(parts, lambda other: os._exit(1))
