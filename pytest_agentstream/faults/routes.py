"""Which proxy a plan goes through: Toxiproxy where that can do it, the embedded one where not.

This is the one place of that choice. It is made for each plan, so that one script may use both;
`chosen` says what it was for each connection that was made.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_agentstream.faults.model import UnsupportedFault, describe, numbered
from pytest_agentstream.faults.proxy import FaultProxy
from pytest_agentstream.faults.toxiproxied import ToxiproxyFaults
from pytest_agentstream.faults.toxiproxy_plans import toxics_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from pytest_agentstream.faults.interface import Faults
    from pytest_agentstream.faults.model import Fault, How, Plan
    from pytest_agentstream.faults.toxiproxy import Toxiproxy


def faults_before(
    target: str, *, ca_file: str | None = None, seed: int = 0, toxiproxy: Toxiproxy | None = None
) -> Faults:
    """The faults before a server: through Toxiproxy as far as that goes, where there is one."""
    if toxiproxy is None:
        return FaultProxy(target, ca_file=ca_file, seed=seed)
    return FaultRoutes(target, toxiproxy, ca_file=ca_file, seed=seed)


def why_embedded(plan: Plan) -> str:
    """Why a plan goes through the embedded proxy, or an empty string where Toxiproxy can do it."""
    try:
        toxics_of(plan)
    except UnsupportedFault as unsupported:
        return str(unsupported)
    return ""


def needs_toxiproxy(plans: Iterable[Plan]) -> bool:
    """Whether Toxiproxy would inject any fault of these plans."""
    return any(plan and not why_embedded(plan) for plan in plans)


class FaultRoutes:
    """Both proxies before one server, each connection through the one that can do its plan.

    See `Faults`; what goes through the embedded one is named with the reason. Toxiproxy is asked
    for nothing before a script needs it: until then, connections without a fault are embedded, too.
    """

    def __init__(
        self, target: str, toxiproxy: Toxiproxy, *, ca_file: str | None = None, seed: int = 0
    ) -> None:
        self.chosen: Counter[str] = Counter()
        self._label = toxiproxy.label
        self._seed = seed
        self._embedded = FaultProxy(target, ca_file=ca_file, seed=seed)
        self._toxiproxied = ToxiproxyFaults(target, toxiproxy, ca_file=ca_file)
        self._plans: tuple[Plan, ...] = ()
        self._repeat = False
        self._played = 0
        self._both = False

    async def __aenter__(self) -> Self:
        await self._embedded.__aenter__()
        return self

    async def __aexit__(self, kind: object = None, error: object = None, *_: object) -> None:
        try:
            await self._embedded.__aexit__()
        finally:
            if self._both:
                await self._toxiproxied.__aexit__(kind, error)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, while the script has one plan for all connections, or none."""
        return self._only.address

    @property
    def url(self) -> str:
        """The target's URL with the proxy's origin, where it has an `address`."""
        return self._only.url

    def next_address(self) -> tuple[str, int]:
        """See `Faults`."""
        plan = self._plan(self._played)
        self._played += 1
        self.chosen[self._named(plan)] += 1
        return self._route(plan).next_address()

    async def script(self, *plans: Iterable[Fault], repeat: bool = False) -> None:
        """See `Faults`; no fault is unsupported."""
        made = tuple(tuple(plan) for plan in plans)
        if not self._both and needs_toxiproxy(made):
            await self._toxiproxied.__aenter__()
            self._both = True
        for route in self._routes:
            mine = [plan for plan in made if self._route(plan) is route]
            last = bool(mine) and self._route(made[-1]) is route
            await route.script(*mine, repeat=repeat and last)
        self._plans, self._repeat, self._played = made, repeat, 0

    async def lift(self) -> None:
        """See `Faults`."""
        await self._toxiproxied.lift()
        await self._embedded.lift()

    async def cut(self, how: How = "fin") -> None:
        """See `Faults`; a RST is unsupported where Toxiproxy, which has none, has a part in it."""
        for route in self._routes:
            await route.cut(how)

    async def refuse(self) -> None:
        """See `Faults`; open connections through Toxiproxy are closed, too."""
        await self._toxiproxied.refuse()
        await self._embedded.refuse()

    async def accept(self) -> None:
        """See `Faults`."""
        await self._toxiproxied.accept()
        await self._embedded.accept()

    def describe(self) -> str:
        """See `Faults`; with the proxy that each connection goes through."""
        words = [f"{describe(plan)} ({self._named(plan)})" for plan in self._plans]
        return " | ".join([*numbered(words, repeat=self._repeat), f"seed {self._seed}"])

    def _named(self, plan: Plan) -> str:
        if self._route(plan) is self._toxiproxied:
            return self._label
        why = why_embedded(plan)
        return f"embedded proxy: {why}" if why else "embedded proxy"

    @property
    def _routes(self) -> tuple[Faults, ...]:
        return (self._toxiproxied, self._embedded) if self._both else (self._embedded,)

    def _route(self, plan: Plan) -> Faults:
        return self._toxiproxied if self._both and not why_embedded(plan) else self._embedded

    @property
    def _only(self) -> Faults:
        """The one proxy that all connections go through."""
        further = () if self._repeat and self._plans else ((),)
        routes = [self._route(plan) for plan in (*self._plans, *further)]
        if any(route is not routes[0] for route in routes):
            raise UnsupportedFault(
                "connections at one address cannot go through both Toxiproxy and the embedded "
                "proxy: connect to next_address(), or let one plan repeat"
            )
        return routes[0]

    def _plan(self, index: int) -> Plan:
        if index < len(self._plans):
            return self._plans[index]
        return self._plans[-1] if self._repeat and self._plans else ()
