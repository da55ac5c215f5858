"""Fixtures for every test: a server made of raw sockets, which does exactly what a test says."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from anyio.from_thread import start_blocking_portal

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self


@dataclass
class Peer:
    """One connection as the server sees it, its request already read."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    method: str = ""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def read_request(self) -> bool:
        """Read the next request; return whether there is one."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        line, *rest = head.decode("latin-1").strip().split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.headers = {
            name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)
        }
        self.body = await self.reader.readexactly(int(self.headers.get("content-length", 0)))
        return True

    async def send(self, *pieces: bytes | str) -> None:
        for piece in pieces:
            self.writer.write(piece.encode() if isinstance(piece, str) else piece)
        await self.writer.drain()

    async def head(self, status: str = "200 OK", **headers: str) -> None:
        """Send a head; `content_type="…"` becomes `Content-Type: …`."""
        lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]))

    async def stream(self, **headers: str) -> None:
        """Send the head of a chunked event stream."""
        await self.head(content_type="text/event-stream", transfer_encoding="chunked", **headers)

    async def chunk(self, data: bytes | str) -> None:
        raw = data.encode() if isinstance(data, str) else data
        await self.send(b"%x\r\n%b\r\n" % (len(raw), raw))

    async def end(self) -> None:
        """Send the last chunk."""
        await self.send("0\r\n\r\n")

    async def answer(self, status: str, body: str = "", **headers: str) -> None:
        await self.head(status, content_length=str(len(body.encode())), **headers)
        await self.send(body)

    async def reader_has_all(self) -> None:
        """Wait until all that was sent is acknowledged, so that a RST does not overtake it."""
        raw = self.writer.get_extra_info("socket")
        outq = 0x5411  # SIOCOUTQ: bytes sent and not acknowledged
        # the kernel tells nobody, so ask it again
        while struct.unpack("i", fcntl.ioctl(raw.fileno(), outq, b"\0" * 4))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def reset(self) -> None:
        """End the connection with a RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.gone.set()


@dataclass
class RawServer:
    """Play one script for each connection; the last one is played again and again."""

    scripts: tuple[Callable[[Peer], Awaitable[None]], ...]
    tls: ssl.SSLContext | None = None
    reads: bool = True
    peers: list[Peer] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self.failures:
            raise self.failures[0]

    @property
    def origin(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"http{'s' if self.tls else ''}://127.0.0.1:{port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        script = self.scripts[min(len(self.peers), len(self.scripts) - 1)]
        self.peers.append(peer)
        task = asyncio.get_running_loop().create_task(self._play(script, peer))
        self._tasks.add(task)

    async def _play(self, script: Callable[[Peer], Awaitable[None]], peer: Peer) -> None:
        try:
            if not self.reads or await peer.read_request():
                self.asked.set()
                await script(peer)
        except ConnectionError:
            pass  # the client went first
        except Exception as failure:
            self.failures.append(failure)
        finally:
            peer.writer.close()
            with suppress(ConnectionError):
                await peer.writer.wait_closed()
            peer.gone.set()


@pytest.fixture
def raw_server() -> type[RawServer]:
    """A server made of raw sockets: `async with raw_server((script, …)) as server`."""
    return RawServer


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[RawServer]]:
    """The same in a thread of its own, for synchronous code: `with serving(script) as server`."""

    @contextmanager
    def serve(*scripts: Callable[[Peer], Awaitable[None]], **options: Any) -> Iterator[RawServer]:
        server = RawServer(scripts, **options)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(server):
            yield server

    return serve
