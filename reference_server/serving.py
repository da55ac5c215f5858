"""Serve an application with uvicorn: say where once it listens, end its runs when it is told to."""

from __future__ import annotations

import gc
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING, cast

import uvicorn

from reference_server.app import StreamCut
from reference_server.log import LogError, LogUnavailable

if TYPE_CHECKING:
    from types import FrameType

    from reference_server.app import ReferenceServer

LAST = 0.5
"""Seconds that other responses have at least, once runs and their streams have ended."""

COLLECTED = 20_000
"""New objects, until the garbage collector looks at them."""


class Server(uvicorn.Server):
    """uvicorn, with runs ended before connections are waited for."""

    def __init__(self, config: uvicorn.Config, app: ReferenceServer, path: str) -> None:
        super().__init__(config)
        self._app = app
        self._path = path

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the log, listen, then say so in one line on stdout."""
        try:
            await self._app.open()
        except (LogError, LogUnavailable) as error:
            sys.stderr.write(f"reference_server: {error}\n")
            raise SystemExit(2) from None
        await super().startup(sockets)
        for listening in self.servers[0].sockets:
            _bound(listening, self._app.settings.stalled)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"reference_server listening on http://{host}:{port}{self._path}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the runs, so that every open stream gets its terminal and ends by itself.

        Until they have, or the grace is over, whoever starts a run is still told 503. What is left
        of the grace other responses have.
        """
        began = time.monotonic()
        await self._app.close()
        left = self._app.settings.grace - (time.monotonic() - began)
        self.config.timeout_graceful_shutdown = cast("int", max(left, LAST))
        await super().shutdown(sockets)
        await self._app.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave with exit code 0 at the first signal, and without waiting at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True


def collect_seldom() -> None:
    """Spare the garbage collector what lives as long as its run.

    Every event makes some objects that are kept for a while, and none in a cycle: at the usual
    threshold, looking at all of them again and again takes a third of the time.
    """
    gc.freeze()
    gc.set_threshold(COLLECTED)


def serve(app: ReferenceServer, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    collect_seldom()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=app.parts.http,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    Server(config, app, app.encoder.start_path).run()


def _bound(listening: socket.socket, seconds: float) -> None:
    """Have connections ended whose peer acknowledges, or takes, nothing for that long.

    Whatever waits for such a peer would wait for ever; the system tells (RFC 5482), on Linux.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a record is about anything but a stream that was cut on purpose."""
    return not (record.exc_info and isinstance(record.exc_info[1], StreamCut))
