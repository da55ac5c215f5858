"""Names of proxies in a Toxiproxy: whose they are, and whether their owner still lives.

A name is `agentstream-MACHINE-PID-SESSION-NUMBER`. One is stale, and may be removed by anybody,
where MACHINE is this one and no process has that PID any more. MACHINE stands for the host's name,
its boot and its process namespace, so that a PID is never looked for where it means another
process: a container that shares Toxiproxy with its host is another machine. A PID that was given
to another process meanwhile only keeps a stale proxy for longer.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from functools import cache
from pathlib import Path
from uuid import uuid4

_NAME = re.compile(r"agentstream-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{8}-[a-z0-9]+")


def session_prefix() -> str:
    """A new prefix of names for a session of this process."""
    return f"agentstream-{machine()}-{os.getpid()}-{uuid4().hex[:8]}-"


def is_stale(name: str) -> bool:
    """Whether the proxy of that name belonged to a process of this machine that is gone."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == machine() and not _lives(int(found[2]))


@cache
def machine() -> str:
    """Eight hexadecimal digits for this host, boot and process namespace."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [socket.gethostname()]
    if sys.platform == "linux":
        known += [boot.read_text().strip() if boot.exists() else "", _link(space)]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # no /proc, or none that may be read
        return ""


def _lives(pid: int) -> bool:
    if sys.platform == "win32" or pid == 0:  # there, a signal of 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
