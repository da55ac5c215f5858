"""The LLM double: a listener on loopback, and what goes to which path."""

from __future__ import annotations

import asyncio
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_agentstream.doubles.answering import answer, refuse
from pytest_agentstream.doubles.calls import Calls
from pytest_agentstream.doubles.connection import Connection, Gone, Refused
from pytest_agentstream.doubles.response import Response
from pytest_agentstream.wording import capped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from pytest_agentstream.doubles.calls import Call

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LIMIT = 16 * 1024 * 1024
"""Bytes of a request's body."""

ROUNDS = 4
"""Rounds of the loop in which a connection that asyncio has accepted reaches the double."""

KEY = "sk-double"
"""No secret: the SDKs refuse to start without a key, and the double takes any."""


class LlmDouble:
    """A scripted upstream that speaks as OpenAI's and Anthropic's APIs do. See docs/double.md.

    Use it as `async with`; it listens on a free port of 127.0.0.1, or on `port`, and closes all its
    connections when it is left. `limit` is the bytes that a request may have. Entering raises
    OSError where the port is in use.
    """

    def __init__(self, *, port: int = 0, limit: int = LIMIT) -> None:
        self._port = port
        self._limit = limit
        self._calls = Calls()
        self._open: dict[asyncio.Task[None], Connection] = {}

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables that point the official SDKs, and others, to the double."""
        return MappingProxyType(
            {
                "OPENAI_BASE_URL": f"{self.origin}/v1",
                "OPENAI_API_BASE": f"{self.origin}/v1",
                "OPENAI_API_KEY": KEY,
                "ANTHROPIC_BASE_URL": self.origin,
                "ANTHROPIC_API_KEY": KEY,
            }
        )

    @property
    def calls(self) -> Sequence[Call]:
        """Every call that is remembered, in the order in which they began, live ones too."""
        return self._calls.all

    async def wait_for(self, tag: str, *, ended: bool = False, seconds: float) -> Call:
        """Wait for a call that plays a script with this tag, and return the latest of them.

        With `ended`, wait until all of them have ended. Raises TimeoutError after so many seconds.
        """
        return await self._calls.wait_for(tag, ended=ended, seconds=seconds)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._welcome, self._limit), LOOPBACK, self._port
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        # a server that is closed forgets, open, what asyncio has accepted and not yet handed on
        for listener in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        self._server.close()
        tasks = list(self._open)
        for task, connection in self._open.items():
            connection.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _welcome(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._open[task] = connection
        task.add_done_callback(self._open.pop)

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._converse(connection)
        except Gone:
            connection.abort()  # what is left unsent would wait for a peer that reads no more
        except Exception as error:
            told = capped(f"{type(error).__name__}: {error}")
            logger.error("a connection of the double failed: %s", told)
        finally:
            connection.close()

    async def _converse(self, connection: Connection) -> None:
        try:
            while request := await connection.request():
                response = Response(connection, has_body=request.method != "HEAD")
                await answer(connection, request, response, self._calls)
        except Refused as refusal:
            await refuse(refusal, Response(connection))
            await connection.linger()
