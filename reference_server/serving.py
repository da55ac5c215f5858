"""Serve an application with uvicorn: say where once it listens, end its runs when it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from reference_server.app import ReferenceServer

GRACE = 2
"""Seconds that open responses have to end, once their runs have."""


class Server(uvicorn.Server):
    """uvicorn, with runs ended before connections are waited for."""

    def __init__(self, config: uvicorn.Config, app: ReferenceServer, path: str) -> None:
        super().__init__(config)
        self._app = app
        self._path = path

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so in one line on stdout."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        print(f"reference_server listening on http://{host}:{port}{self._path}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the runs, so that every open stream gets its terminal and ends by itself."""
        await self._app.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave with exit code 0 at the first signal, and without waiting at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: ReferenceServer, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=app.parts.http,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    Server(config, app, app.encoder.start_path).run()
