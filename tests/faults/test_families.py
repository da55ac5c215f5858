"""The families about coming back and signs of life, through both proxies: the same verdicts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.faults import FaultProxy, Latency, Slicer, Toxiproxy, ToxiproxyFaults
from pytest_agentstream.faults.toxiproxy_api import Api
from pytest_agentstream.ports import free_ports
from pytest_agentstream.reference import REFERENCE, reference_server
from pytest_agentstream.session import Session
from pytest_agentstream.settings import Loaded, Settings
from pytest_agentstream.verdicts import Verdict
from tests.services import Service, toxiproxy_server

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from pytest_agentstream.faults import Fault, Faults
    from pytest_agentstream.judging import CaseResult

FAMILIES = ("resume", "heartbeat")
CASES = {
    slug: case
    for slug, case in catalogue().items()
    if slug.partition(".")[0] in FAMILIES or slug == "ids.survive-reconnect"
}
BEHIND_DOUBLE = "heartbeat.while-upstream-stalls"
DEFECTS = {"seam-twice": "resume.no-duplicates", "slow-heartbeat": "heartbeat.keeps-pace"}
"""A defect for each family, and what it breaks."""

JUDGED = {Verdict.MET, Verdict.WARNED, Verdict.NOT_TESTED, Verdict.NOT_APPLICABLE}
MET = 20
"""Cases of these families that the reference server alone meets, at the least."""

ROUGH: tuple[Fault, ...] = (Slicer(average_size=200), Latency(latency=0.01))
"""A network that tears what belongs together, and is slow."""


@dataclass(frozen=True)
class Server:
    """A reference server in a process of its own, and the port of the double behind it."""

    url: str
    double: int


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    [port] = free_ports(1)
    upstream = ("--upstream", "openai", "--upstream-url", f"http://127.0.0.1:{port}/v1")
    with reference_server((*arguments, *upstream)) as url:
        yield Server(url, port)


@pytest.fixture(scope="module")
def reference() -> Iterator[Server]:
    """The reference server without a defect."""
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A Toxiproxy server of this module's own."""
    with toxiproxy_server() as service:
        yield service


def judge(
    server: Server, *slugs: str, url: str | None = None, toxiproxy: str | None = None
) -> tuple[dict[str, CaseResult], Counter[str]]:
    """Results of these families, by slug, and through which proxies connections went."""
    where = {"url": url or server.url, "double": server.double, "toxiproxy": toxiproxy}
    settings = Settings.model_validate({**REFERENCE, **where})
    session = Session(Loaded(settings, "a test"), catalogue())
    cases = {slug: CASES[slug] for slug in slugs or CASES}
    try:
        session.begin(cases.values())
        return {slug: session.judge(case) for slug, case in cases.items()}, session.ledger.faults
    finally:
        session.close()


def verdicts(results: dict[str, CaseResult]) -> set[Verdict]:
    return {result.verdict for result in results.values() if not is_our_lag(result)}


def is_our_lag(result: CaseResult) -> bool:
    """Whether a verdict is none for want of a processor: other tests run at the same time.

    Behind the double a run that comes late has ended before it could be watched for long enough.
    """
    if result.slug == BEHIND_DOUBLE and "and the run ended after" in result.reason:
        return result.verdict is Verdict.NOT_TESTED
    return result.verdict is Verdict.ERROR and result.reason.startswith("in doubt twice")


def expect_the_same(one: dict[str, CaseResult], other: dict[str, CaseResult]) -> None:
    """Fail with every result of which the verdict is another, and no admission of our own lag."""
    differ = [
        slug
        for slug in CASES
        if one[slug].verdict is not other[slug].verdict
        and not (is_our_lag(one[slug]) or is_our_lag(other[slug]))
    ]
    assert not differ, "\n".join(
        line for slug in differ for each in (one, other) for line in each[slug].lines()
    )
    assert verdicts(one) <= JUDGED
    assert sum(result.verdict is Verdict.MET for result in one.values()) >= MET


def test_faults_of_probes(reference: Server, service: Service) -> None:
    """Faults that probes ask for come to the same verdicts, and each case says which proxy."""
    by_embedded, no_choice = judge(reference)
    by_both, chosen = judge(reference, toxiproxy=service.url)
    expect_the_same(by_both, by_embedded)
    assert not no_choice
    assert chosen["Toxiproxy"] > 0
    assert chosen["embedded proxy: Toxiproxy cannot cut after an event"] > 0
    assert chosen["embedded proxy: Toxiproxy cannot cut idle connections"] > 0
    by_event = "(embedded proxy: Toxiproxy cannot cut after an event)"
    assert by_event in by_both["resume.many-cuts"].control
    assert "of the connection (Toxiproxy)" in by_both["resume.before-first-id"].control
    assert "Toxiproxy" not in by_embedded["resume.many-cuts"].control
    assert Api(service.url).proxies() == {}


def through(faults: Faults, server: Server, *slugs: str) -> dict[str, CaseResult]:
    """The results where every single connection goes through these faults."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(faults):

        async def script() -> None:
            await faults.script(ROUGH, repeat=True)

        portal.call(script)
        return judge(server, *slugs, url=faults.url)[0]


def test_a_rough_network(reference: Server, service: Service) -> None:
    """Behind slices and latency on every connection, the verdicts are the same by both proxies."""
    with Toxiproxy(service.url) as toxiproxy:
        by_toxiproxy = through(ToxiproxyFaults(reference.url, toxiproxy), reference)
    by_embedded = through(FaultProxy(reference.url), reference)
    expect_the_same(by_toxiproxy, by_embedded)
    behind = [by_toxiproxy[BEHIND_DOUBLE], by_embedded[BEHIND_DOUBLE]]
    assert any(found.verdict is Verdict.MET for found in behind)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_in_a_rough_network(service: Service, defect: str) -> None:
    """A server that does wrong is found out behind both proxies."""
    slug = DEFECTS[defect]
    with serving("--defect", defect) as server, Toxiproxy(service.url) as toxiproxy:
        by_toxiproxy = through(ToxiproxyFaults(server.url, toxiproxy), server, slug)
        by_embedded = through(FaultProxy(server.url), server, slug)
    both = [by_toxiproxy[slug], by_embedded[slug]]
    for found in both:
        assert found.verdict is Verdict.FAILED or is_our_lag(found), "\n".join(found.lines())
    assert any(found.verdict is Verdict.FAILED for found in both)
