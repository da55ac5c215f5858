"""Sides: one end of a proxied connection, a socket that never blocks, plain or in TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from typing import Literal

Name = Literal["client", "server"]

FIN_LOST_IN_TLS = (ssl.SSLZeroReturnError, ssl.SSLEOFError)
NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


class Side:
    """A connected socket; `name` says who is its peer.

    What an operation raises is an OSError: the connection was reset, or TLS broke.
    """

    __slots__ = ("fd", "name", "sock")

    def __init__(self, sock: socket.socket, name: Name) -> None:
        self.sock = sock
        self.name: Name = name
        self.fd = sock.fileno()
        sock.setblocking(False)
        # what is handed on goes at once, in the slices that came
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, size: int) -> bytes | None:
        """Return what has come, b"" for a FIN, None where nothing has come."""
        try:
            return self.sock.recv(size)
        except NOT_NOW:
            return None
        except FIN_LOST_IN_TLS:
            return b""

    def send(self, data: bytes | memoryview) -> int:
        """Return how many bytes the kernel has taken."""
        try:
            return self.sock.send(data)
        except NOT_NOW:
            return 0

    @property
    def pending(self) -> bool:
        """Whether there are bytes that the kernel knows nothing of any more."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def fin(self) -> None:
        """End the sending direction; what is in the kernel's buffer still goes out.

        In TLS too this is the FIN alone: the rest of the answer may still be on its way.
        """
        # SSLSocket.shutdown would take the bytes for plain ones from then on
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """End both directions with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    @property
    def unacknowledged(self) -> int:
        """Bytes sent that the peer's kernel has not acknowledged; a RST would discard them."""
        return _unacknowledged(self.sock)


if sys.platform == "linux":
    import fcntl

    SIOCOUTQ = 0x5411

    def _unacknowledged(sock: socket.socket) -> int:
        answer = fcntl.ioctl(sock.fileno(), SIOCOUTQ, b"\0" * 4)
        return int.from_bytes(answer, sys.byteorder)

elif sys.platform == "darwin":
    SO_NWRITE = 0x1024

    def _unacknowledged(sock: socket.socket) -> int:
        return sock.getsockopt(socket.SOL_SOCKET, SO_NWRITE)

else:

    def _unacknowledged(sock: socket.socket) -> int:
        return 0
