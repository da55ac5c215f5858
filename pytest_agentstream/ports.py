"""Ports: which are free, and whether somebody listens."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import anyio

CHOSEN = range(20_000, 32_000)
"""Ports below those that systems hand out by themselves: nobody else takes one by chance."""

KNOCK_LIMIT = 1.0
"""Seconds in which a listener on this machine takes a connection."""

DEFAULT_PORTS = {"http": 80, "https": 443}


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens, all different."""
    taken: list[socket.socket] = []
    try:
        while len(taken) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.SystemRandom().choice(CHOSEN)))
            except OSError:
                one.close()
            else:
                taken.append(one)
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


def address_of(url: str) -> tuple[str, int]:
    """The host and port that a URL means."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]


async def listens(url: str) -> bool:
    """Whether somebody takes connections where the URL points."""
    host, port = address_of(url)
    with anyio.move_on_after(KNOCK_LIMIT), suppress(OSError):
        async with await anyio.connect_tcp(host, port):
            return True
    return False
