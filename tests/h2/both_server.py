"""A server that speaks HTTP/2 and HTTP/1.1 over TLS, with every answer as a test wants it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, StreamEnded
from h2.exceptions import ProtocolError

from tests.conftest import Peer

if TYPE_CHECKING:
    from typing import Self

TLS = Path(__file__).parents[1] / "tls"
CA_FILE = str(TLS / "cert.pem")
PROTOCOLS = ("h2", "http/1.1")
RUN = b'data: {"text": "word"}\n\ndata: [DONE]\n\n'
BAD_FRAME = bytes.fromhex("000000 04 00 00000001")
"""SETTINGS on a stream, a connection error (RFC 9113 6.5)."""

HEADERS = ((":status", "200"), ("content-type", "text/event-stream"))

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said over HTTP/2: more headers; a reset, a farewell or a bad frame.

    `instead` is where it stands: instead of the head, else behind the first event.
    """

    headers: tuple[Header, ...] = ()
    trouble: Literal["", "reset", "farewell", "bad frame"] = ""
    instead: bool = True


@dataclass
class BothServer:
    """Answer each start with the same short run, over the protocol that the handshake chose."""

    answer: Answer
    protocols: tuple[str, ...] = PROTOCOLS
    asked: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(CA_FILE, TLS / "key.pem")
        tls.set_alpn_protocols(list(self.protocols))
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        said = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        for each in said:
            if isinstance(each, Exception):
                raise each

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.sockets[0].getsockname()[1]}/run"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._talk(reader, writer)))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        # the client went first; or h2 was sent more behind a farewell, its own or the client's
        with suppress(ConnectionError, ProtocolError):
            if chosen == "h2":
                await self._talk_http2(reader, writer)
            else:
                await self._talk_http1(Peer(reader, writer))
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def _talk_http1(self, peer: Peer) -> None:
        if await peer.read_request():
            self.asked.append("HTTP/1.1")
            await peer.stream(connection="close")
            await peer.chunk(RUN)
            await peer.end()

    async def _talk_http2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # without its own checks h2 sends what it would never accept
        unchecked = H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        http2 = H2Connection(unchecked)
        http2.initiate_connection()
        writer.write(http2.data_to_send())
        while data := await reader.read(65536):
            for event in http2.receive_data(data):
                self._react(http2, event)
            writer.write(http2.data_to_send())
            if "HTTP/2" in self.asked and self.answer.trouble == "bad frame":
                writer.write(BAD_FRAME)
            await writer.drain()

    def _react(self, http2: H2Connection, event: Event) -> None:
        if isinstance(event, DataReceived):
            http2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        if not isinstance(event, StreamEnded):
            return
        self.asked.append("HTTP/2")
        trouble = self.answer.trouble
        if not (trouble and self.answer.instead):
            http2.send_headers(event.stream_id, (*HEADERS, *self.answer.headers))
            http2.send_data(event.stream_id, RUN, end_stream=not trouble)
        if trouble == "reset":
            http2.reset_stream(event.stream_id, error_code=1)
        elif trouble == "farewell":
            http2.close_connection(error_code=1)
