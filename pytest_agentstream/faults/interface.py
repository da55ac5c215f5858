"""The one interface of fault proxies: what a probe may ask of any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from pytest_agentstream.faults.model import Fault, How


class Faults(Protocol):
    """A proxy in front of one server, which injects what its script says.

    `address` is where it listens, as host and port: give it to `HttpTransport(via=…)`, and requests
    keep the server's URL and Host. `url` is the server's URL with the proxy's origin, for clients
    that can't do that.
    """

    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def url(self) -> str: ...

    async def script(self, *plans: Iterable[Fault], repeat: bool = False) -> None:
        """Say what happens to connections from now on: the n-th gets the n-th plan.

        Later ones get nothing, or with `repeat` the last plan again. Raises `UnsupportedFault`.
        """
        ...

    async def lift(self) -> None:
        """End what holds open connections: a stall goes on, a timeout closes."""
        ...

    async def cut(self, how: How = "fin") -> None:
        """End every open connection now."""
        ...

    async def refuse(self) -> None:
        """Let nobody connect any more: connections are refused as by a closed port."""
        ...

    async def accept(self) -> None:
        """Let clients connect again, at the same address."""
        ...

    def describe(self) -> str:
        """What the script says, in one line, with the seed that repeats it."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...
