"""What probes get where there is one server alone, and where there is a replica beside it."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from conformance_cases import durable
from conformance_cases.probes import elsewhere, replicas
from pytest_agentstream.probing import probe
from pytest_agentstream.verdicts import Failed, NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from pytest_agentstream.driving import Driver
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from tests.conftest import Peer, RawServer
    from tests.core.conftest import Opened

    Serving = Callable[..., AbstractContextManager[RawServer]]


async def good(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk('id: 1\ndata: {"content": "hi"}\n\ndata: [DONE]\n\n')
    await peer.end()


async def typed(peer: Peer) -> None:
    await peer.stream()
    await peer.chunk('event: chunk\nid: 1\ndata: {"content": "hi"}\n\n')
    await peer.chunk("event: complete\nid: 2\ndata: {}\n\n")
    await peer.end()


@probe(runs=0)
async def needing(replicas: Sequence[Driver]) -> int:
    """How many replicas there are."""
    return len(replicas)


@probe(runs=0, optional=("replicas",))
async def content_without(replicas: Sequence[Driver] | None) -> int:
    """How many replicas there are, if any."""
    return len(replicas or ())


@probe(scenarios=["complete"])
async def resumed_elsewhere(
    client: Driver, replicas: Sequence[Driver]
) -> tuple[Observation, Recording]:
    """A run, and the same run asked for at a replica."""
    run = await client.run("complete")
    return run, await replicas[0].resume(run, "1")


@probe(scenarios=["complete"])
async def drained(client: Driver) -> int:
    """The size of a run that nobody keeps."""
    return await client.drain("complete")


def test_a_resource_that_a_probe_can_do_without(session: Opened, serving: Serving) -> None:
    """A resource that is not there keeps a probe from running, unless it is optional for it."""
    with serving(good) as server, session(f"{server.origin}/chat") as opened:
        opened.begin([])
        with pytest.raises(NotTested, match="no further replica"):
            opened.scheduler.result(needing)
        assert opened.scheduler.result(content_without) == 0


def test_a_run_that_is_resumed_at_a_replica(session: Opened, serving: Serving) -> None:
    """A run is asked for at the replica itself, also where its start request is repeated for it."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(serving(typed)) for _ in range(2))
        here, there = urlsplit(one.origin).netloc, urlsplit(other.origin).netloc
        replicas = [f"{other.origin}/chat"]
        options = {"dialect": "generic-typed", "replicas": replicas}
        opened = stack.enter_context(session(f"{one.origin}/chat", **options))
        opened.begin([])

        run, answer = opened.scheduler.result(resumed_elsewhere)

    assert urlsplit(run.first.request.url).netloc == here
    assert urlsplit(answer.request.url).netloc == there
    assert [peer.method for peer in other.peers] == ["GET"]


def native(name: str = "a" * 22) -> str:
    return (
        f'event: turn\nid: {name}/1\ndata: {{"turn_number":1}}\n\n'
        f'event: done\nid: {name}/2\ndata: {{"status":"completed","num_turns":1}}\n\n'
    )


async def ordinary(peer: Peer) -> None:
    await peer.stream(Agentstream_Run="a" * 22)
    await peer.chunk(native())
    await peer.end()


@probe(scenarios=["complete"])
async def joined_late(client: Driver, replicas: Sequence[Driver]) -> Recording:
    """A run that is joined at a replica."""
    run = await client.run("complete")
    return await replicas[0].join_patiently(run.identified[0][0], 0.01)


@pytest.mark.parametrize(
    ("refusals", "status"),
    [
        (["404 Not Found"], 200),
        (["409 Conflict"], 200),
        (["404 Not Found"] * 2, 404),
        (["503 Service Unavailable", "404 Not Found"], 200),
    ],
)
def test_a_replica_that_is_behind(
    session: Opened, serving: Serving, refusals: list[str], status: int
) -> None:
    """A replica may have heard nothing of a run yet, once; and it may be busy."""
    left = list(refusals)

    async def behind(peer: Peer) -> None:
        if left:
            await peer.answer(left.pop(0), Retry_After="0")
        else:
            await ordinary(peer)

    with ExitStack() as stack:
        one, other = (stack.enter_context(serving(each)) for each in (ordinary, behind))
        options = {"dialect": "native", "replicas": [f"{other.origin}/v1/runs"]}
        opened = stack.enter_context(session(f"{one.origin}/v1/runs", **options))
        opened.begin([])

        answer = opened.scheduler.result(joined_late)

    assert answer.status == status


LATE = 0.7
"""Seconds behind a start after which a replica has heard of it: later than it is first asked."""


class Replicated:
    """Two replicas of a server, the second of which hears of runs late, as its clients may."""

    def __init__(self, retry: int | None, refusal: str) -> None:
        self.began: dict[str, float] = {}
        self.keys: dict[str, str] = {}
        self.retry = retry
        self.refusal = refusal

    def start(self, key: str) -> str:
        name = self.keys.setdefault(key, f"{len(self.keys):022}")
        self.began.setdefault(name, time.monotonic())
        return name

    async def here(self, peer: Peer) -> None:
        await self.send(peer, self.start(peer.headers.get("idempotency-key", str(id(peer)))), 0)

    async def there(self, peer: Peer) -> None:
        if peer.method == "POST":
            await self.here(peer)
            return
        run, after = peer.headers["last-event-id"].split("/")
        if time.monotonic() - self.began[run] < LATE:
            await peer.answer(self.refusal)
        else:
            await self.send(peer, run, int(after))

    async def send(self, peer: Peer, run: str, after: int) -> None:
        await peer.stream(Agentstream_Run=run, Agentstream_Log="durable; retention=60; lease=1")
        said = [("turn", '{"turn_number":1}'), *[("token", '{"text":"x"}')] * 4]
        said.append(("done", '{"status":"completed","num_turns":1}'))
        for number, (kind, data) in enumerate(said, 1):
            due = self.began[run] + 0.05 * number
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if number > after:
                retry = "" if self.retry is None else f"retry: {self.retry}\n"
                block = f"event: {kind}\nid: {run}/{number}\n{retry}data: {data}\n\n"
                await peer.chunk(block)
        await peer.end()


def judge_elsewhere(session: Opened, serving: Serving, server: Replicated) -> None:
    """Judge durable.other-replica at a server."""
    with ExitStack() as stack:
        one, other = (stack.enter_context(serving(each)) for each in (server.here, server.there))
        options = {
            "dialect": "native",
            "replicas": [f"{other.origin}/v1/runs"],
            "scenarios": {"pauses": {"json": {"message": "pauses"}, "pause": 0.05}},
        }
        opened = stack.enter_context(session(f"{one.origin}/v1/runs", **options))
        opened.begin([])
        found = opened.scheduler.result(elsewhere)
        durable.test_other_replica(found, opened.dialect, opened.target)


@pytest.mark.parametrize("refusal", ["404 Not Found", "409 Conflict"])
def test_a_replica_that_is_no_later_than_its_clients(
    session: Opened, serving: Serving, refusal: str
) -> None:
    """A replica may hear of a run, or of its newest events, when its clients may come at last."""
    judge_elsewhere(session, serving, Replicated(1000, refusal))


@pytest.mark.parametrize("retry", [None, 100])
def test_a_replica_that_is_later(session: Opened, serving: Serving, retry: int | None) -> None:
    """One that has not heard of a run when its clients come accuses its server."""
    with pytest.raises(Failed, match="404"):
        judge_elsewhere(session, serving, Replicated(retry, "404 Not Found"))


def test_a_replica_whose_clients_come_late(
    session: Opened, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where clients stay away for longer than anybody is waited for, nothing is known."""
    monkeypatch.setattr(replicas, "LONGEST_AWAY", 0.1)
    with pytest.raises(NotTested, match="to stay away for 1 s"):
        judge_elsewhere(session, serving, Replicated(1000, "404 Not Found"))


def test_a_run_that_nobody_keeps(session: Opened, serving: Serving) -> None:
    """A run that is drained counts as one, and neither it nor its bytes are kept."""
    with serving(good) as server, session(f"{server.origin}/chat") as opened:
        opened.begin([])
        kept = len(opened.ledger.observations)

        size = opened.scheduler.result(drained)

    assert size == len('id: 1\ndata: {"content": "hi"}\n\ndata: [DONE]\n\n')
    assert len(opened.ledger.observations) == kept
    assert opened.ledger.started == kept + 1
