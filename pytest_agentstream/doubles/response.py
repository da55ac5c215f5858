"""One response on its way: heads, chunks and their halves, counted as they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_agentstream.doubles.speaking import compact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_agentstream.doubles.calls import Call
    from pytest_agentstream.doubles.connection import Connection

JSON = "application/json"


class Response:
    """The answer to one request. All that sends raises Gone where the peer has gone.

    `over` is whether the answer is complete, or was ended on purpose. Without `has_body`, as HEAD
    asks for it, only the head of a `whole` one is sent.
    """

    def __init__(self, connection: Connection, *, has_body: bool = True) -> None:
        self.call: Call | None = None
        self.request_id = ""
        self.over = False
        self._connection = connection
        self._has_body = has_body

    async def head(
        self,
        status: int,
        content_type: str,
        *,
        length: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Send the head; without a length the body is chunked."""
        await self._send(self._head(status, content_type, length, more))

    def _head(
        self, status: int, content_type: str, length: int | None, more: Mapping[str, str] | None
    ) -> bytes:
        headers = {"content-type": content_type, **(more or {})}
        if length is not None:
            headers["content-length"] = str(length)
        if self.request_id:
            headers |= {"x-request-id": self.request_id, "request-id": self.request_id}
        if self.call:
            self.call.status = status
        return self._connection.head(status, list(headers.items()))

    async def data(self, *parts: bytes) -> None:
        """Send parts of the body, all in one write."""
        await self._send(b"".join(map(self._connection.data, parts)))

    async def half(self, data: bytes) -> None:
        """Send the first half of a part of the body, with the framing that announces all of it."""
        framed = self._connection.data(data)
        await self._send(framed[: len(framed) // 2])

    async def end(self, *parts: bytes) -> None:
        """Send the last parts of the body with its end: who has read them may leave."""
        await self._send(b"".join(map(self._connection.data, parts)) + self._connection.end())
        self.over = True

    async def whole(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Send all of it."""
        head = self._head(status, content_type, len(body), more)
        sent = self._connection.data(body if self._has_body else b"")
        await self._send(head + sent + self._connection.end())
        self.over = True

    async def json(self, status: int, body: Any, more: Mapping[str, str] | None = None) -> None:
        """Send JSON."""
        await self.whole(status, compact(body), JSON, more)

    async def pause(self, seconds: float | None) -> None:
        """Send nothing for that long, or for ever."""
        if seconds != 0:
            await self._connection.pause(seconds)

    def cut(self) -> None:
        """Close the connection."""
        self.over = True
        self._connection.close()

    async def _send(self, data: bytes) -> None:
        await self._connection.send(data)
        if self.call:
            self.call.sent += len(data)
