"""A server, the proxy before it, and a client that tells exactly what came, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from pytest_agentstream.faults import FaultProxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pytest_agentstream.faults import Connection, Fault
    from tests.conftest import Peer, RawServer

    Script = Callable[[Peer], Awaitable[None]]

PATIENCE = 5.0
"""Seconds that anything here may take."""

REQUEST = b"GET /run HTTP/1.1\r\nHost: origin.example\r\n\r\n"


@dataclass
class Caller:
    """A client: `data` is what came so far, `end` how it ended: "fin", "rst", or "" while open."""

    sock: socket.socket
    data: bytes = b""
    end: str = ""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def read(self, size: int = 65536) -> bytes:
        """Read once; b"" is the end."""
        if self.end:
            return b""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, size)
        except ConnectionResetError:
            self.end = "rst"
            return b""
        self.data += data
        self.end = "" if data else "fin"
        return data

    async def read_until(self, ending: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.data.endswith(ending) and await self.read():
                pass
        assert self.data.endswith(ending), self.data

    async def read_all(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.read():
                pass

    def leave(self) -> None:
        self.sock.close()


@dataclass
class Bench:
    """The server, the proxy before it, and the clients that have called."""

    server: RawServer
    proxy: FaultProxy
    callers: list[Caller] = field(default_factory=list)

    async def call(self, request: bytes = REQUEST) -> Caller:
        """Connect to the proxy and send a request."""
        sock = socket.socket()
        sock.setblocking(False)
        caller = Caller(sock)
        self.callers.append(caller)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self.proxy.address)
            await caller.send(request)
        except ConnectionResetError:
            caller.end = "rst"
        return caller

    async def get(self) -> tuple[Caller, Connection]:
        """Call, and read all that comes until the connection ends."""
        caller = await self.call()
        await caller.read_all()
        return caller, self.proxy.connections[-1]

    async def hit(self, number: int = 1) -> Connection:
        """Wait until a fault has fired on that connection."""
        connection = self.proxy.connections[number - 1]
        async with asyncio.timeout(PATIENCE):
            await connection.hit.wait()
        return connection

    async def over(self, number: int = 1) -> Connection:
        """Wait until that connection is over."""
        connection = self.proxy.connections[number - 1]
        async with asyncio.timeout(PATIENCE):
            await connection.over.wait()
        return connection

    async def blocked(self, number: int = 1) -> Peer:
        """Wait until the server can't send any more on that connection."""
        peer = self.server.peers[number - 1]
        async with asyncio.timeout(PATIENCE):
            while not peer.writer.transport.get_write_buffer_size():  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
        return peer

    async def left(self, number: int = 1) -> Peer:
        """Wait until the server has seen the end of that connection."""
        peer = self.server.peers[number - 1]
        async with asyncio.timeout(PATIENCE):
            await peer.gone.wait()
        return peer


@pytest.fixture
def bench(raw_server: type[RawServer]) -> Callable[..., Any]:
    """`async with bench(script, [fault, …], …) as it`: a `Bench` whose server plays the script."""

    @asynccontextmanager
    async def opened(
        script: Script,
        *plans: list[Fault],
        repeat: bool = False,
        tls: ssl.SSLContext | None = None,
        reads: bool = True,
        host: str = "127.0.0.1",
        port: int | None = None,
        **options: Any,
    ) -> AsyncIterator[Bench]:
        async with raw_server((script,), tls, reads) as server, AsyncExitStack() as stack:
            target = urlsplit(server.origin)._replace(path="/run")
            target = target._replace(netloc=f"{host}:{port or target.port}")
            proxy = await stack.enter_async_context(FaultProxy(urlunsplit(target), **options))
            await proxy.script(*plans, repeat=repeat)
            made = Bench(server, proxy)
            try:
                yield made
            finally:
                for caller in made.callers:
                    caller.leave()

    return opened


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port
