"""The reference client, the real proxy and the real reference server, and what a journey showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream.client import Client
from pytest_agentstream.dialects import load
from pytest_agentstream.faults import FaultProxy
from pytest_agentstream.observing import Observation
from pytest_agentstream.reference import REFERENCE, reference_server
from pytest_agentstream.retrying import Backoff
from pytest_agentstream.target import Scenario, Target, Timeouts
from pytest_agentstream.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from pytest_agentstream.dialects.reading import Event
    from pytest_agentstream.faults import Fault
    from pytest_agentstream.recording import Recording, Run

    Beside = Callable[["FaultProxy", "NotedBackoff"], Coroutine[Any, Any, None]]

PATIENCE = 30.0
"""Seconds that one journey may take, on a machine that is busy."""

HEARTBEAT = 2.0
"""The server's H in seconds: longer than the pauses here, so that they are idle."""

BASE, CAP = 0.02, 0.08
"""The reference client's waits, in seconds, made short."""

ECHOED = "Grüße aus Zürich: serves ☕ and 🍰 to everyone."


class NotedBackoff(Backoff):
    """The client's own waits; `floors` and `waits` are what was asked for and what was chosen."""

    def __init__(self, seed: int, attempts: int = 6) -> None:
        super().__init__(Random(seed), base=BASE, cap=CAP, attempts=attempts)
        self.floors: list[float | None] = []
        self.waits: list[float] = []
        self.renew()

    def renew(self) -> None:
        """Let `asked` be waited for once more."""
        self.asked = anyio.Event()

    def next(self, floor: float | None = None) -> float:
        self.floors.append(floor)
        self.waits.append(super().next(floor))
        self.asked.set()
        return self.waits[-1]


@dataclass
class Journey:
    """One run through the proxy, and the same run read back whole, without it."""

    run: Run
    whole: Recording | None
    backoff: NotedBackoff
    described: str
    seen: Observation = field(init=False)

    def __post_init__(self) -> None:
        self.seen = Observation(self.run, load("native"), Scenario(), 1)

    @property
    def text(self) -> str:
        """What a user would see, put together from all exchanges; what came twice stands twice."""
        return self.seen.text

    @property
    def ends(self) -> list[str]:
        """How each exchange ended, with the phase of a time-out."""
        ends = [exchange.end for exchange in self.run.exchanges]
        return [f"{end.kind} {end.phase}" if end.phase else f"{end.kind}" for end in ends]

    @property
    def asked(self) -> list[str]:
        """Each request: its method, and the number of the event that it asks to go on behind."""
        requests = [exchange.request for exchange in self.run.exchanges]
        cursors = [dict(request.headers).get("Last-Event-ID", "/") for request in requests]
        pairs = zip(requests, cursors, strict=True)
        return [f"{one.method} {cursor.partition('/')[2]}".strip() for one, cursor in pairs]

    @property
    def pauses(self) -> list[float]:
        """Seconds between the end of each exchange and the beginning of the next."""
        began = [datetime.fromisoformat(exchange.started) for exchange in self.run.exchanges]
        return [
            (later - earlier).total_seconds() - exchange.end.at
            for earlier, later, exchange in zip(began, began[1:], self.run.exchanges, strict=False)
        ]

    @property
    def identities(self) -> list[tuple[str, str, str]]:
        """Every event of every exchange, in order of arrival: type, id and data."""
        return [identity(event) for event in self.seen.events]

    @property
    def read_back(self) -> list[tuple[str, str, str]]:
        """Every event of the run, as it is read back once it is over."""
        assert self.whole is not None, "there was no run to be read back"
        return [identity(event) for event in load("native").events(self.whole)]


def identity(event: Event) -> tuple[str, str, str]:
    sent = event.block.event
    assert sent is not None
    return sent.type, sent.last_event_id, sent.data


Travel = Any
"""`travel(plan, …, scenario=…, timeouts=…, seed=…, beside=…) -> Journey`."""


@pytest.fixture(scope="session")
def reference() -> Iterator[str]:
    """The start endpoint of a reference server that asks clients to wait 0.1 s."""
    with reference_server(("--heartbeat", f"{HEARTBEAT:g}")) as url:
        yield url


@pytest.fixture(scope="session")
def hurried() -> Iterator[str]:
    """The start endpoint of one that lets clients come back at once, for the many cuts."""
    with reference_server(("--heartbeat", f"{HEARTBEAT:g}", "--retry", "0.01")) as url:
        yield url


@pytest.fixture(scope="session")
def travel(reference: str) -> Callable[..., Journey]:
    """Send the client on a journey: `travel([fault, …], …)` has a plan for each connection."""

    def go(*plans: Iterable[Fault], url: str = reference, **options: Any) -> Journey:
        return anyio.run(lambda: journey(url, *plans, **options))

    return go


async def journey(
    url: str,
    *plans: Iterable[Fault],
    scenario: str = "echo",
    prompt: str = ECHOED,
    seed: int = 0,
    attempts: int = 6,
    timeouts: Timeouts | None = None,
    beside: Beside | None = None,
    closed: bool = False,
    **options: Any,
) -> Journey:
    """Follow one run through the plans, with `beside` going on beside it; `closed` is the port."""
    credentials = dict(REFERENCE["headers"])
    target = Target(url=url, dialect="native", heartbeat=HEARTBEAT, headers=credentials)
    client = Client(target, load("native"))
    mapped = Scenario(prompt=prompt, headers={"X-Agentstream-Scenario": scenario})
    backoff = NotedBackoff(seed, attempts)
    with anyio.fail_after(PATIENCE):
        async with FaultProxy(url, seed=seed) as proxy, anyio.create_task_group() as group:
            await proxy.script(*plans)
            if closed:
                await proxy.refuse()
            if beside is not None:
                group.start_soon(beside, proxy, backoff)
            travelling = client.over(HttpTransport(via=proxy.address))
            run = await travelling.run(
                "journey",
                mapped,
                timeouts=timeouts or Timeouts(),
                backoff=backoff,
                watch=0.2,
                **options,
            )
            group.cancel_scope.cancel()
            described = proxy.describe()
        began = any(exchange.is_stream for exchange in run.exchanges)
        whole = await client.resume(run, None) if began else None
    return Journey(run, whole, backoff, described)
