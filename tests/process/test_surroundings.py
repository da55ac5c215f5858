"""Several processes around one server: started at once, and given up at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pytest_agentstream import surroundings
from pytest_agentstream.process import ManagedProcess, ProcessError
from pytest_agentstream.surroundings import Surroundings, SurroundingsError
from pytest_agentstream.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("scripted.py")
PATIENCE = 30.0
"""Seconds, half of those in which a server has to listen."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def running(*modes: str) -> Iterator[Surroundings]:
    """What stands around a server with a process in each of these modes, ended at the end."""
    command = tuple((sys.executable, str(SCRIPT), mode, "{port}") for mode in modes)
    made = Surroundings(Target(url="http://127.0.0.1:{port}/chat", command=command))
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("modes", [("exits", "mute"), ("mute", "exits")])
async def test_one_of_them_fails(modes: tuple[str, ...]) -> None:
    """The others are waited for no more, and are no failures."""
    with running(*modes) as around, anyio.fail_after(PATIENCE):
        with pytest.raises(SurroundingsError, match="exited with code 7") as failure:
            await around.open()
        assert "does not listen" not in str(failure.value)
        assert "was ended before" not in str(failure.value)
        assert not any(process.alive for process in around.processes)


async def test_several_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that has ended when the first is told of is told of, too, in the order of commands."""
    until = ManagedProcess._until_it_listens
    with running("exits", "leaves", "mute") as around, anyio.fail_after(PATIENCE):

        async def once_both_have_ended(process: ManagedProcess, *arguments: Any) -> None:
            while any(one.exit_code is None for one in around.processes[:2]):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await until(process, *arguments)

        monkeypatch.setattr(ManagedProcess, "_until_it_listens", once_both_have_ended)
        with pytest.raises(SurroundingsError) as failure:
            await around.open()
    ours = [line for line in str(failure.value).splitlines() if not line.startswith(" ")]
    assert ours[0].startswith("the server under test exited with code 7 before it listened on ")
    assert ours[1].startswith("replica 2 exited with code 0 before it listened on ")
    assert len(ours) == 2


async def test_ends_are_counted_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process may end by itself so many times, whatever others do."""
    monkeypatch.setattr(surroundings, "MOST_DEATHS", 1)
    with running("serves", "serves") as around, anyio.fail_after(PATIENCE):
        await around.open()
        for process in around.processes:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait_ended(PATIENCE)
            await around.restore()
        os.kill(around.processes[1].pid, signal.SIGKILL)
        await around.processes[1].wait_ended(PATIENCE)
        with pytest.raises(ProcessError, match="replica 2 was started again 1 times"):
            await around.restore()
