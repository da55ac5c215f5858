"""The one interface of fault proxies: what a probe may ask of any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable
    from typing import Self

    from pytest_agentstream.faults.model import Fault, How


class Faults(Protocol):
    """A proxy in front of one server, which injects what its script says.

    `next_address` is where the next connection is to be made, as host and port: give it to
    `HttpTransport(via=…)`, and requests keep the server's URL and Host. `address` is where it
    listens, and `url` the server's URL with that origin, for clients that can't ask each time; both
    raise `UnsupportedFault` where it listens at several places. `chosen` counts connections by the
    proxy that was chosen for them, in words; it is empty where there was no choice.
    """

    chosen: Counter[str]

    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def url(self) -> str: ...

    def next_address(self) -> tuple[str, int]:
        """Return where to make the next connection; to ask is to make it, and counts as that."""
        ...

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
