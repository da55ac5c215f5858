"""One connection of the double: HTTP/1.1 through h11, with the peer's going noticed at any moment.

It reads all the time, also while it answers, since the end of what the peer sends is all there is
to notice that the peer has gone.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h11

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REQUEST_LIMIT = 30.0
"""Seconds that a request may take to come, from the first byte of its head on."""

AHEAD = 65536
"""Bytes that a peer may send before it has the answer to its last request."""

LINGER = 1.0
"""Seconds that a peer which still sends is listened to, so that it can read its refusal."""


class Gone(Exception):
    """The peer closed the connection."""


class Refused(Exception):
    """A request that is not read to its end: its status, why, and its path as far as known."""

    def __init__(self, status: int, why: str, path: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.path = path


@dataclass(frozen=True, slots=True)
class Request:
    """A request: names of headers in lower case, `path` without its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection. `opened` is called when it stands; `limit` is the size of a body in bytes."""

    def __init__(self, opened: Callable[[Connection], None], limit: int) -> None:
        self.gone_at: float | None = None
        self._opened = opened
        self._limit = limit
        self._http = h11.Connection(h11.SERVER)
        self._came = asyncio.Event()
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._ahead: int | None = None
        self._deaf = False
        self._ours = False
        self._taken = True

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(0)  # what is sent has been taken by the kernel
        self._writable.set()
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._ahead is not None:
            self._ahead += len(data)
            if self._ahead > AHEAD:
                self.abort()
                return
        self._http.receive_data(data)
        self._came.set()

    def eof_received(self) -> bool:
        self._leave()
        return True  # what is being written is for `close` to end

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        self._taken = False
        self._writable.clear()

    def resume_writing(self) -> None:
        self._taken = True
        self._writable.set()

    def _leave(self) -> None:
        if self.gone_at is None and not self._ours:
            self.gone_at = time.monotonic()
        self._gone.set()
        self._came.set()
        self._writable.set()

    # requests

    async def request(self) -> Request | None:
        """Read the next request; None where the peer goes before one.

        Raises Refused for one that is malformed, too large or too slow.
        """
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        self._ahead = None
        if self._http.our_state is not h11.IDLE:
            return None  # HTTP/1.0, or `Connection: close`
        path = ""
        try:
            await self._first_byte()
            async with asyncio.timeout(REQUEST_LIMIT):
                head = await self._event()
                if not isinstance(head, h11.Request):
                    return None
                path = _path(head)
                body = await self._body(head)
        except Gone:
            return None
        except TimeoutError:
            raise Refused(
                408, f"the request did not come within {REQUEST_LIMIT:g} s", path
            ) from None
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, f"malformed HTTP: {error}") from None
        self._ahead = 0
        return Request(
            head.method.decode("ascii"),
            _path(head),
            {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
            body,
        )

    async def _body(self, head: h11.Request) -> bytes:
        # h11 lets through one Content-Length only, and no sign in it
        sizes = [int(value) for name, value in head.headers if name == b"content-length"]
        if sizes and sizes[0] > self._limit:
            raise self._too_large(head)
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > self._limit:
                raise self._too_large(head)
        return bytes(body)

    def _too_large(self, head: h11.Request) -> Refused:
        why = f"the double takes at most {self._limit} bytes in one request"
        return Refused(413, why, _path(head))

    async def _first_byte(self) -> None:
        """Wait for a request to begin, however long that takes."""
        while not self._http.trailing_data[0]:
            if self._gone.is_set():
                raise Gone
            self._came.clear()
            await self._came.wait()

    async def _event(self) -> object:
        while True:
            self._came.clear()
            if self._http.they_are_waiting_for_100_continue:
                await self.send(
                    self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
                )
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._gone.is_set():
                raise Gone
            await self._came.wait()

    # answers

    @property
    def awaited(self) -> bool:
        """Whether the peer waits for the head of an answer."""
        return self._http.our_state is h11.SEND_RESPONSE

    def head(self, status: int, headers: Sequence[tuple[str, str]]) -> bytes:
        """Frame a head; without a Content-Length the body is chunked."""
        return self._framed(h11.Response(status_code=status, headers=list(headers)))

    def data(self, data: bytes) -> bytes:
        """Frame a part of the body."""
        return self._framed(h11.Data(data=data))

    def end(self) -> bytes:
        """Frame the end of the body."""
        return self._framed(h11.EndOfMessage())

    def _framed(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def send(self, data: bytes | None) -> None:
        """Send bytes as they are, and wait until they are taken. Raises Gone where they aren't.

        A peer that goes once they are is for the next call to notice.
        """
        if self._gone.is_set():
            raise Gone
        if data:
            self._transport.write(data)
        if self._transport.is_closing():
            await self._gone.wait()
            raise Gone
        await self._writable.wait()
        if not self._taken:
            raise Gone
        await asyncio.sleep(0)  # many short writes are not to hold up everybody else

    async def pause(self, seconds: float | None) -> None:
        """Send nothing for that long, or for ever. Raises Gone as soon as the peer goes."""
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise Gone

    async def linger(self) -> None:
        """End what is sent, and drop what still comes, for a while."""
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        self._deaf = True
        try:
            await self.pause(LINGER)
        except Gone:
            return

    def close(self) -> None:
        """Close the connection; what was sent still arrives."""
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once; the peer has not gone then."""
        self._ours = True
        self._transport.abort()


def _path(head: h11.Request) -> str:
    return head.target.decode("latin-1").partition("?")[0]
