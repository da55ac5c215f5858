"""Read a finished run back from every cursor, wrong ones too: requests that start nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from pytest_agentstream.dialects.reading import Role
from pytest_agentstream.probing import probe
from pytest_agentstream.tolerances import SENT_WITHIN
from pytest_agentstream.verdicts import NotApplicable, NotTested
from pytest_agentstream.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.dialects.reading import Cursor
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.wire import Block

MOST_CURSORS = 40
"""Of a longer run the first and the last cursors are read back, and others in between."""

LONGEST_RETENTION = 30.0
EXPIRY_GRACE = 0.5
"""Seconds behind a retention after which a server has noticed that it is over."""

MANY_EVENTS = 10_000
AT_ONCE = 8
BEYOND = 1000
"""Blocks that a replay may have beyond twice those of its run: comments are none of the run's."""

AHEAD = 1000
MALFORMED = ("not a cursor", "-1", "1e9", "0x10", "१", "../../1", "{}", "9" * 400)
"""Cursors that no dialect has, frozen: words, signs, other digits, paths, too many digits."""


@dataclass(frozen=True)
class ReadBack:
    """One run as first seen, and what came back from each cursor."""

    first: Observation
    answers: tuple[tuple[Cursor, Recording], ...]


@dataclass(frozen=True)
class Answer:
    """One cursor, as text, and what the server answered to it."""

    cursor: str
    recording: Recording


@dataclass(frozen=True)
class TwoRuns:
    """A run that was asked for with a cursor of another run, and the answer."""

    asked: Observation
    other: Observation
    answer: Recording


def cursors_of(run: Observation) -> list[Cursor]:
    """The cursors of a run in the order sent; raises `NotTested` where it has fewer than two."""
    lasting = [c for e, c in run.identified if not e.ephemeral and e.role is not Role.HEARTBEAT]
    found = list(dict.fromkeys(lasting))
    if len(found) < 2:
        raise NotTested(
            f"`{run.scenario}` sent {len(found)} ids: there is nothing to resume behind"
        )
    return found


def beyond(run: Observation) -> Callable[[Block], Watch | None]:
    """Stop a replay that has far more blocks than its run: an endless one would take all room."""
    most = BEYOND + 2 * sum(len(exchange.blocks) for exchange in run.exchanges)
    seen = count(1)
    why = f"over {most} blocks came back"
    return lambda block: Watch(0, why) if next(seen) > most else None


async def replayed(
    client: Driver, run: Observation, cursor: str | None, **options: Any
) -> Recording:
    """Read a finished run back: that need be waited for less, and has no more than the run had."""
    bounds = {"on_block": beyond(run), **client.replaying}
    return await client.resume(run, cursor, **bounds, **options)


async def read_back(client: Driver, run: Observation) -> ReadBack:
    """Read a run back from its cursors; a replay is not waited for like a run.

    Where the dialect allows a run one reader, a second would end the first: one after the other.
    """
    cursors = cursors_of(run)
    many = run.dialect.profile.resume.readers == "many"
    step = max(1, -(-len(cursors) // MOST_CURSORS)) if many else max(1, len(cursors) // 2)
    chosen = sorted({*range(0, len(cursors), step), len(cursors) - 2, len(cursors) - 1})
    answers: dict[int, Recording] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE if many else 1)

    async def ask(number: int) -> None:
        async with limiter:
            if any(not answer.ended_cleanly for answer in answers.values()) and not many:
                return  # one that never ends is told already, and each costs its time-out
            answers[number] = await replayed(client, run, cursors[number].text)

    async with anyio.create_task_group() as asking:
        for number in chosen:
            asking.start_soon(ask, number)
    return ReadBack(run, tuple((cursors[number], answers[number]) for number in sorted(answers)))


@probe(consent="read", runs=0)
async def readback(client: Driver, complete_run: Observation) -> ReadBack:
    """The finished `complete` run, read back from every cursor."""
    return await read_back(client, complete_run)


@probe(consent="read", runs=0)
async def crash_readback(client: Driver, crash_run: Observation) -> ReadBack:
    """The finished `crash` run, read back from every cursor."""
    return await read_back(client, crash_run)


@probe(consent="read", runs=0)
async def foreign_cursor(
    client: Driver, complete_run: Observation, dialect: Dialect, long_run: Observation
) -> TwoRuns:
    """A finished run, asked for with the cursor of another."""
    if "{" not in (dialect.profile.resume.path or ""):
        named = "(?P<run>" in (dialect.profile.cursor.pattern or "")
        raise NotApplicable(
            f"in the dialect {dialect.name} "
            + (
                "the cursor alone names the run: another run's cursor is a request for that run"
                if named
                else "neither the cursor nor the address names a run"
            )
        )
    cursors_of(complete_run)
    other = cursors_of(long_run)
    return TwoRuns(complete_run, long_run, await replayed(client, complete_run, other[0].text))


@probe(consent="fuzz", runs=0)
async def unusable_cursors(client: Driver, complete_run: Observation) -> list[Answer]:
    """The finished run, asked for with cursors that nobody ever sent."""
    cursors_of(complete_run)
    return [Answer(text, await replayed(client, complete_run, text)) for text in MALFORMED]


@probe(consent="read", runs=0)
async def future_cursor(client: Driver, complete_run: Observation, dialect: Dialect) -> Answer:
    """The finished run, asked for from a place far ahead of it."""
    last = cursors_of(complete_run)[-1]
    if last.number is None:
        raise NotApplicable(f"the dialect {dialect.name} does not number its cursors")
    start = last.text.rindex(str(last.number))
    number = str(last.number + AHEAD)
    text = last.text[:start] + number + last.text[start + len(str(last.number)) :]
    return Answer(text, await replayed(client, complete_run, text))


@probe(runs=0, optional=("future_cursor",))
async def refused_cursors(
    unusable_cursors: list[Answer], future_cursor: Answer | None
) -> list[Answer]:
    """The answers to every cursor of the finished run that is to be refused."""
    return [*unusable_cursors, *([future_cursor] if future_cursor else [])]


@probe(consent="read", runs=0)
async def same_request(client: Driver, complete_run: Observation) -> Answer:
    """The start request again, with the middle cursor in Last-Event-ID."""
    cursors = cursors_of(complete_run)
    middle = cursors[len(cursors) // 2].text
    again = await replayed(client, complete_run, middle, same_request=True)
    return Answer(middle, again)


@probe(consent="read", runs=0)
async def after_terminal(
    client: Driver, complete_run: Observation, dialect: Dialect
) -> list[Answer]:
    """The finished run, asked for from its very end: by resuming, and by starting again."""
    last = cursors_of(complete_run)[-1].text
    answers = [Answer(last, await replayed(client, complete_run, last))]
    if dialect.not_applicable("resume.same-request") is None:
        again = await replayed(client, complete_run, last, same_request=True)
        answers.append(Answer(last, again))
    return answers


def retention_of(run: Observation) -> float:
    """For how long a run is kept, in seconds; raises `NotTested` where that can't be waited for."""
    retention = run.declared.retention
    if retention is None:
        raise NotTested(
            "`expired` does not say for how long its run is kept",
            "declare it: expired = { …, retention = 5 }",
        )
    if retention > LONGEST_RETENTION:
        raise NotTested(
            f"a retention of {retention:g} s is not waited for", "map a run that is kept shorter"
        )
    return retention


@dataclass(frozen=True)
class Kept:
    """A run that is kept for `retention` seconds, and what came back within them."""

    run: Observation
    retention: float
    answer: Answer


@probe(scenarios=["expired"])
async def kept_run(client: Driver) -> Kept:
    """A run that is kept for a short time, asked for in the middle of that."""
    run = await client.run("expired")
    first = cursors_of(run)[0].text
    retention = retention_of(run)
    await anyio.sleep(retention / 2)
    return Kept(run, retention, Answer(first, await replayed(client, run, first)))


@probe(runs=0)
async def expired_cursor(client: Driver, kept_run: Kept) -> Answer:
    """A run that was kept for a short time only, asked for when that is over."""
    run = kept_run.run
    await anyio.sleep(kept_run.retention + EXPIRY_GRACE)
    cursors = cursors_of(run)
    middle = cursors[len(cursors) // 2].text
    return Answer(middle, await replayed(client, run, middle))


@dataclass(frozen=True)
class BesideReplay:
    """A run that was started while a long finished run was replayed, and that replay."""

    events: int
    replay: Recording
    beside: Observation


@probe(consent="load", scenarios=["huge", "complete"], exclusive=True)
async def beside_replay(client: Driver) -> BesideReplay:
    """An ordinary run, started while ten thousand events are replayed to someone else."""
    huge = await client.run("huge")
    events = len(cursors_of(huge))
    if events < MANY_EVENTS:
        raise NotTested(
            f"needs a run of {MANY_EVENTS} events, and `huge` sends {events}", "map a longer one"
        )
    first = huge.identified[0][1].text
    replays: list[Recording] = []

    async def replay() -> None:
        replays.append(await replayed(client, huge, first))

    async with anyio.create_task_group() as beside:
        beside.start_soon(replay)
        await anyio.sleep(SENT_WITHIN)  # nothing says that a request has arrived
        run = await client.run("complete")
    return BesideReplay(events, replays[0], run)


@probe(consent="read", runs=0)
async def header_and_query(
    client: Driver, complete_run: Observation, dialect: Dialect
) -> tuple[Answer, Answer]:
    """The same cursor in the query alone, and one in the header beside another in the query."""
    cursors = cursors_of(complete_run)
    name = dialect.profile.resume.query
    if name is None:
        raise NotApplicable(f"the dialect {dialect.name} has no cursor in the query")
    early, late = cursors[len(cursors) // 3].text, cursors[2 * len(cursors) // 3].text
    alone = await replayed(client, complete_run, None, query={name: early})
    beside = await replayed(client, complete_run, late, query={name: early})
    return Answer(early, alone), Answer(late, beside)
