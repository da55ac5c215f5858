"""The embedded fault proxy: a listener on loopback in the running asyncio loop.

It speaks to the client without TLS, and to an `https://` target with it, under the target's own
name. Bytes are passed on as they are, requests too: what counts events reads a copy.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import certifi

from pytest_agentstream.faults.connection import Connection
from pytest_agentstream.faults.model import (
    Refuse,
    UnsupportedFault,
    counts_http,
    describe,
    numbered,
    window_of,
)
from pytest_agentstream.faults.sides import Side

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from pytest_agentstream.faults.model import Fault, How, Plan

LOOPBACK = "127.0.0.1"
BACKLOG = 1024

CONNECT = 5.0
"""Seconds to reach the server, TLS included."""

RETRY_ACCEPT = 0.1
"""Seconds until the listener tries again, where the process has too many files open."""


class FaultProxy:
    """A proxy in front of the server of `target`, an `http://` or `https://` URL.

    Use it as `async with`; when that is left every socket it opened is closed. `ca_file` adds to
    the trusted certificates, `seed` repeats every chance, and with `raw` nothing is read as HTTP.
    `connections` are all that clients made, in order. See `Faults` for the rest.

    Raises ValueError for a URL that is none, or a `ca_file` that can't be used.
    """

    def __init__(
        self, target: str, *, ca_file: str | None = None, seed: int = 0, raw: bool = False
    ) -> None:
        parts = urlsplit(target)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"expected an absolute http:// or https:// URL, found {target!r}")
        self.seed = seed
        self.raw = raw
        self.chosen: Counter[str] = Counter()
        self.connections: list[Connection] = []
        self._parts = parts
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._plans: tuple[Plan, ...] = ()
        self._repeat = False
        self._played = 0
        self._listener: socket.socket | None = None
        self._address = (LOOPBACK, 0)
        self._connecting: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._came = asyncio.Event()
        self._zero = 0.0
        self._found: list[tuple[Any, ...]] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, as host and port."""
        return self._address

    def next_address(self) -> tuple[str, int]:
        """See `Faults`."""
        return self._address

    @property
    def url(self) -> str:
        """The target's URL with the proxy's origin."""
        host, port = self._address
        return urlunsplit(self._parts._replace(scheme="http", netloc=f"{host}:{port}"))

    async def __aenter__(self) -> Self:
        self._zero = asyncio.get_running_loop().time()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._connecting:
            task.cancel()
        for connection in self.connections:
            connection.close()
        # last: where it is left because of a cancellation, nothing behind an await is reached
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def describe(self) -> str:
        """See `Faults`."""
        plans = numbered([describe(plan) for plan in self._plans], repeat=self._repeat)
        return " | ".join([*plans, f"seed {self.seed}"])

    async def script(self, *plans: Iterable[Fault], repeat: bool = False) -> None:
        """See `Faults`."""
        made = tuple(tuple(plan) for plan in plans)
        for fault in (fault for plan in made for fault in plan):
            if self.raw and counts_http(fault):
                raise UnsupportedFault(
                    f"{fault.describe()} needs HTTP to be read, which a raw proxy doesn't; "
                    "use after_bytes, or a proxy that isn't raw"
                )
        self._plans, self._repeat, self._played = made, repeat, 0

    async def lift(self) -> None:
        """See `Faults`."""
        for connection in self.connections:
            connection.lift()

    async def cut(self, how: How = "fin") -> None:
        """See `Faults`."""
        for connection in self.connections:
            if not connection.over.is_set():
                connection.cut(how, "fault")

    async def connection(self, number: int) -> Connection:
        """Wait for a connection, 1 for the first, however long it takes."""
        while len(self.connections) < number:
            self._came.clear()
            await self._came.wait()
        return self.connections[number - 1]

    async def refuse(self) -> None:
        """See `Faults`."""
        listener, self._listener = self._listener, None
        if listener is not None:
            if self._retry is not None:
                self._retry.cancel()
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()

    async def accept(self) -> None:
        """See `Faults`."""
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(self._address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._address = listener.getsockname()
        self._await_clients(listener)

    def _await_clients(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listener.fileno(), self._welcome, listener)

    def _welcome(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    loop.remove_reader(listener.fileno())
                    self._retry = loop.call_later(RETRY_ACCEPT, self._await_clients, listener)
                    return
                continue  # that client went before it was accepted
            self._begin(Side(sock, "client"))

    def _begin(self, client: Side) -> None:
        number = len(self.connections) + 1
        plan = self._next_plan()
        connection = Connection(number, plan, client, f"{self.seed} {number}", self._zero)
        self.connections.append(connection)
        self._came.set()
        if any(isinstance(fault, Refuse) for fault in plan):
            connection.refuse()
            return
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _next_plan(self) -> Plan:
        index, self._played = self._played, self._played + 1
        if index >= len(self._plans):
            return self._plans[-1] if self._repeat and self._plans else ()
        return self._plans[index]

    async def _connect(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(CONNECT):
                server = await self._reach(window_of(connection.plan))
        except TimeoutError:
            connection.refuse(f"{self._parts.netloc} was not reached within {CONNECT:g} s")
        except (OSError, UnicodeError) as error:  # the latter of a name that IDNA doesn't take
            connection.refuse(f"{self._parts.netloc} was not reached: {error}")
        else:
            connection.join(server)

    async def _reach(self, window: int | None) -> Side:
        loop = asyncio.get_running_loop()
        if not self._found:
            self._found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        errors: list[OSError] = []
        for family, kind, protocol, _, address in self._found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                if window is not None:  # before the connection stands, which fixes its scale
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
                await loop.sock_connect(sock, address)
                if self._tls is not None:
                    sock = self._tls.wrap_socket(
                        sock, server_hostname=self._host, do_handshake_on_connect=False
                    )
                    await _shake_hands(sock)
                return Side(sock, "server")
            except OSError as error:
                sock.close()
                errors.append(error)
            except BaseException:
                sock.close()
                raise
        raise errors[0]


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            watch, forget = loop.add_reader, loop.remove_reader
        except ssl.SSLWantWriteError:
            watch, forget = loop.add_writer, loop.remove_writer
        fd = sock.fileno()
        watch(fd, _set, ready)
        try:
            await ready
        finally:
            forget(fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _tls(ca_file: str | None) -> ssl.SSLContext:
    # what the client trusts without a proxy, and what the machine trusts
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"ca_file: expected certificates in PEM at {ca_file}: {error}"
            ) from error
    return context
