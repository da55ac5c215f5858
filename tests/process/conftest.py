"""A managed process around a scripted server, ended after each test, with nothing left of it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.ports import free_ports
from pytest_agentstream.process import ManagedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPT = Path(__file__).with_name("scripted.py")


def descriptors() -> set[str]:
    """What every open descriptor of this process is."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{one.name} {one.readlink()}")
        except OSError:
            continue  # the one that listed them
    return found


@pytest.fixture
def managed() -> Iterator[Callable[..., ManagedProcess]]:
    """Make a process in one of the script's modes; all are closed, and leave nothing behind."""
    made: list[ManagedProcess] = []
    before = {thread.name for thread in threading.enumerate()}
    opened = descriptors()

    def make(mode: str = "serves", *, port: int = 0, **options: Any) -> ManagedProcess:
        number = port or free_ports(1)[0]
        command = [sys.executable, str(SCRIPT), mode, str(number)]
        options.setdefault("limit", 20.0)
        made.append(ManagedProcess(command, f"http://127.0.0.1:{number}/chat", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if name.startswith("agentstream-")}
    pipes = {one for one in descriptors() - opened if "pipe:" in one}
    assert not pipes
