"""Closing: how the two sides of a connection end, so that each peer sees just that.

1. A FIN stays a FIN: to close a socket with bytes in it that nobody has read would send a RST, so a
   client that got a FIN may still send for a while.
2. A RST comes behind what was sent before it: it waits until the client's kernel has that, for a
   RST discards what is still on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pytest_agentstream.faults.model import How
    from pytest_agentstream.faults.sides import Name, Side

LINGER = 1.0
"""Seconds for which a client that got a FIN may still send, before its connection is closed."""

RESET_WAIT = 1.0
"""Seconds that a RST waits at most."""

ASK_AGAIN = 0.001
"""Seconds; the kernel tells nobody that bytes were acknowledged."""

By = Literal["client", "server", "fault", "proxy"]


@dataclass(frozen=True, slots=True)
class SideEnd:
    """How the connection to one side ended: with what, whose doing it was, and when.

    `by` is `proxy` where it was closed, or could not reach the server. `at` is in seconds since the
    proxy began.
    """

    how: How
    by: By
    at: float


class Ends:
    """The sides of one connection that still have a socket, and how they ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, zero: float, over: Callable[[], None]
    ) -> None:
        self.noted: dict[Name, SideEnd] = {}
        self._open: dict[Name, Side] = {}
        self._loop = loop
        self._zero = zero
        self._over = over
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, name: Name) -> bool:
        return name in self._open

    def add(self, side: Side) -> None:
        self._open[side.name] = side

    def note(self, name: Name, how: How, by: By) -> None:
        """Take note of an end; what was noted first counts."""
        self.noted.setdefault(name, SideEnd(how, by, self._loop.time() - self._zero))

    def close(self, name: Name, how: How, by: By) -> None:
        """End one side now."""
        side = self._open.pop(name, None)
        if side is None:
            return
        self.note(name, how, by)
        self._loop.remove_reader(side.fd)
        if how == "rst":
            side.reset()
        else:
            side.close()
        if not self._open:
            self._disarm()
            self._over()

    def close_all(self, how: How, by: By) -> None:
        for name in tuple(self._open):
            self.close(name, how, by)

    def fin_client(self, by: By) -> None:
        """Send the client a FIN; it is closed once it has sent its own, or after a while."""
        client = self._open.get("client")
        if client is None:
            return
        self.note("client", "fin", by)
        try:
            client.fin()
        except OSError:
            self.close("client", "fin", by)
            return
        self._loop.add_reader(client.fd, self._discard, client)
        self._timer = self._loop.call_later(LINGER, self.close, "client", "fin", by)

    def reset(self, by: By, names: tuple[Name, ...] = ("client", "server")) -> None:
        """Reset sides, behind what was sent to the client."""
        for name in names:
            if name in self._open:
                self.note(name, "rst", by)
        self._reset(by, names, self._loop.time() + RESET_WAIT)

    def _reset(self, by: By, names: tuple[Name, ...], latest: float) -> None:
        self._disarm()
        client = self._open.get("client")
        if client is not None and self._loop.time() < latest and client.unacknowledged:
            self._timer = self._loop.call_later(ASK_AGAIN, self._reset, by, names, latest)
            return
        for name in names:
            self.close(name, "rst", by)

    def _discard(self, client: Side) -> None:
        try:
            data = client.recv(65536)
        except OSError:
            data = b""
        if data == b"":
            self.close("client", "fin", "client")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
