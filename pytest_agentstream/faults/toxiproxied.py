"""Faults by Toxiproxy: one proxy in it for each plan, and each connection goes to that of its plan.

1. Toxiproxy knows no n-th connection, and a toxic that is added changes those that stand. So a plan
   has a proxy of its own, whose toxics stay as they are while anybody is connected; it is the
   client that connects to another one each time (`next_address`).
2. An https server is reached through an embedded proxy behind Toxiproxy, which speaks TLS and
   injects nothing: toxics then count the bytes of HTTP, as without TLS.
3. When it is left, Toxiproxy is asked whether every proxy was there all the time, as it was made.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from pytest_agentstream.faults.model import UnsupportedFault, describe, numbered
from pytest_agentstream.faults.proxy import FaultProxy
from pytest_agentstream.faults.toxics import Timeout
from pytest_agentstream.faults.toxiproxy_api import ToxiproxyError
from pytest_agentstream.faults.toxiproxy_plans import has_chance, toxics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self, TypeVar, TypeVarTuple

    from pytest_agentstream.faults.model import Fault, How, Plan
    from pytest_agentstream.faults.toxiproxy import Member, Toxiproxy

    Made = TypeVar("Made")
    Arguments = TypeVarTuple("Arguments")

LEAVE = 0.5
"""Seconds for the removal of proxies where all is cancelled; a session removes what is left."""

CHANCE = " (chance is Toxiproxy's own, not repeatable)"


class ToxiproxyFaults:
    """Faults before the server of `target`, an `http://` or `https://` URL, by a `Toxiproxy`.

    See `Faults`. `ca_file` adds to the trusted certificates. What the server's side sees, and when
    a fault was injected, is not known. Where Toxiproxy has gone, entering, leaving and `script`
    raise `ToxiproxyError`. Raises ValueError for a URL that is none, or a `ca_file` that can't be
    used.
    """

    def __init__(self, target: str, toxiproxy: Toxiproxy, *, ca_file: str | None = None) -> None:
        self._toxiproxy = toxiproxy
        self._parts = urlsplit(target)
        self._embedded = FaultProxy(target, ca_file=ca_file)  # checks the URL, too
        self._upstream = self._parts.netloc.rpartition("@")[2]
        if self._parts.port is None:
            self._upstream = f"{self._upstream.rstrip(':')}:80"
        self._plans: tuple[Plan, ...] = ()
        self._repeat = False
        self._played = 0
        self.chosen: Counter[str] = Counter()
        self._accepts = True
        self._of: dict[Plan, Member] = {}
        self._made: list[Member] = []

    async def __aenter__(self) -> Self:
        if self._toxiproxy.gone:
            raise ToxiproxyError(self._toxiproxy.gone)
        if self._parts.scheme == "https":
            await self._embedded.__aenter__()
            self._upstream = "{}:{}".format(*self._embedded.address)
        try:
            await self._make([()])
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, kind: object = None, error: object = None, *_: object) -> None:
        try:
            if error is None or isinstance(error, Exception):  # no cancellation
                await self.check()
        finally:
            await self._leave()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, while the script has one plan for all connections, or none."""
        if len(self._plans) > 1 or (self._plans and not self._repeat):
            raise UnsupportedFault(
                "Toxiproxy cannot give connections at one address different plans: connect to "
                "next_address(), or let the plan repeat"
            )
        return self._of[self._plan(0)].address

    @property
    def url(self) -> str:
        """The target's URL with the proxy's origin, where it has an `address`."""
        host, port = self.address
        return urlunsplit(self._parts._replace(scheme="http", netloc=f"{host}:{port}"))

    def next_address(self) -> tuple[str, int]:
        """See `Faults`."""
        plan = self._plan(self._played)
        self._played += 1
        self.chosen[self._toxiproxy.label] += 1
        return self._of[plan].address

    async def script(self, *plans: Iterable[Fault], repeat: bool = False) -> None:
        """See `Faults`."""
        made = tuple(tuple(plan) for plan in plans)
        await self._make(made)
        self._plans, self._repeat, self._played = made, repeat, 0

    async def lift(self) -> None:
        """See `Faults`."""
        for plan, member in tuple(self._of.items()):
            lasting = [
                toxic["name"]
                for fault, toxic in zip(plan, toxics_of(plan), strict=True)
                if isinstance(fault, Timeout)
            ]
            if lasting:
                # what is lifted is lifted for the connections that stand, not for later ones
                del self._of[plan]
                self._made.remove(member)
                await self._make([plan])
                for name in lasting:
                    await _apart(self._toxiproxy.remove, member, name)
                kept = tuple(one for one in member.toxics if one["name"] not in lasting)
                self._made.append(replace(member, toxics=kept))

    async def cut(self, how: How = "fin") -> None:
        """See `Faults`; a RST is unsupported."""
        if how == "rst":
            raise UnsupportedFault("Toxiproxy cannot reset connections at any moment")
        for member in self._made:
            await _apart(self._toxiproxy.enable, member, False)
            if self._accepts:
                await _apart(self._toxiproxy.enable, member, True)

    async def refuse(self) -> None:
        """See `Faults`; open connections are closed, too."""
        self._accepts = False
        for member in self._made:
            await _apart(self._toxiproxy.enable, member, False)

    async def accept(self) -> None:
        """See `Faults`."""
        self._accepts = True
        for member in self._made:
            await _apart(self._toxiproxy.enable, member, True)

    async def check(self) -> None:
        """Raise `ToxiproxyError` unless all that was made is there as it should be."""
        await _apart(self._toxiproxy.check, self._made, self._accepts)

    def describe(self) -> str:
        """See `Faults`."""
        words = [describe(plan) + (CHANCE if has_chance(plan) else "") for plan in self._plans]
        return " | ".join([*numbered(words, repeat=self._repeat), self._toxiproxy.label])

    def _plan(self, index: int) -> Plan:
        if index < len(self._plans):
            return self._plans[index]
        return self._plans[-1] if self._repeat and self._plans else ()

    async def _make(self, plans: Iterable[Plan]) -> None:
        toxics = {plan: toxics_of(plan) for plan in plans if plan not in self._of}
        for plan, wanted in toxics.items():
            member = await _apart(self._toxiproxy.make, self._upstream, wanted)
            self._of[plan] = member
            self._made.append(member)
            if not self._accepts:
                await _apart(self._toxiproxy.enable, member, False)

    async def _leave(self) -> None:
        # shielded: this is where a cancellation comes by, too, and nobody else may be left to do it
        with anyio.move_on_after(LEAVE, shield=True):
            with suppress(ToxiproxyError):  # it has gone, or the session's end removes them
                for member in self._made:
                    await _apart(self._toxiproxy.delete, member)
        if self._parts.scheme == "https":
            await self._embedded.__aexit__()


async def _apart(function: Callable[[*Arguments], Made], *arguments: *Arguments) -> Made:
    """Call in a worker thread what blocks; it ends soon, whoever waits."""
    return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)
