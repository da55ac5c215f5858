"""A process of ours, with real ones: started, signalled, ended, and nothing left of it."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import anyio
import pytest

from pytest_agentstream.ports import listens
from pytest_agentstream.process import ManagedProcess, ProcessError
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., ManagedProcess]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def lives(pid: int) -> bool:
    """Whether a process is there and no mere zombie, whose parent may be anybody."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


async def get(process: ManagedProcess, path: str = "/") -> str:
    url = process.url.removesuffix("/chat") + path
    return await anyio.to_thread.run_sync(lambda: urlopen(url, timeout=20).read().decode())


async def die(process: ManagedProcess) -> None:
    """Make the server exit by a request."""
    host, _, port = process.url.split("/")[2].partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(b"POST /die HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_it_runs_until_it_is_stopped(managed: Make) -> None:
    """A process listens once started, has the environment it was given, and ends on SIGTERM."""
    process = managed(environment={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})

    await process.start()

    assert process.alive
    assert await listens(process.url)
    assert "'OPENAI_BASE_URL': 'http://127.0.0.1:1/v1'" in await get(process)
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)

    await process.stop()

    assert not process.alive
    assert process.exit_code == -signal.SIGTERM
    assert process.death is None
    assert process.notes == []
    assert not await listens(process.url)


async def test_one_that_exits_at_once(managed: Make) -> None:
    """The error says the exit code, what it said and the command, and nothing that is not so."""
    process = managed("exits")
    with pytest.raises(ProcessError) as failure:
        await process.start()
    text = str(failure.value)
    assert "the server under test exited with code 7 before it listened on port " in text
    first, said, command = text.splitlines()
    assert first.endswith(": what it said last may tell why")
    assert said == "  It said  no such configuration: prod.yaml"
    assert "scripted.py exits " in command


async def test_one_that_leaves_the_foreground(managed: Make) -> None:
    """Where it ends well before it listens, it is told to stay."""
    process = managed("leaves")
    with pytest.raises(ProcessError, match=r"exited with code 0 before .* stay in the foreground"):
        await process.start()


async def test_one_that_never_listens(managed: Make) -> None:
    """It is given up after the limit and ended; the error says what it said meanwhile, and which
    setting the limit is.
    """
    process = managed("mute", limit=1.0)
    limit = r" after 1 s: .*; where it takes longer: \[tool.agentstream.timeouts\] start = 2\n"
    with pytest.raises(ProcessError, match=rf"does not listen on port \d+ of 127.0.0.1{limit}"):
        await process.start()
    assert not process.alive
    assert "loading the model" in process.log_tail()


async def test_one_that_listens_and_dies(managed: Make) -> None:
    """An end that nobody asked for is a death, with its exit code; its last words are kept."""
    process = managed(environment={"APP_PASSWORD": "x"})
    await process.start()

    await die(process)

    assert await process.wait_ended(10) == 3
    assert process.death is not None
    assert process.death.words == "exited with code 3"
    assert process.log_tail().startswith("out of memory")
    assert not process.asked_to_end


async def test_one_that_ignores_sigterm(managed: Make) -> None:
    """It is killed after the grace, and that is said."""
    process = managed("stubborn", grace=0.2)
    await process.start()

    await process.stop()

    assert process.exit_code == -signal.SIGKILL
    assert process.notes == [
        "the server under test did not end within 0.2 s of SIGTERM and was killed (SIGKILL)"
    ]


async def test_one_that_ignores_a_declared_grace(managed: Make) -> None:
    """What was declared is said, for a process gets more than that before it is killed."""
    process = managed("stubborn", grace=0.3, declared=0.2)
    await process.start()

    await process.stop()

    [note] = process.notes
    assert note == (
        "the server under test did not end within the declared grace of 0.2 s and was killed "
        "(SIGKILL), 0.3 s after SIGTERM"
    )


async def test_waits_that_are_told(managed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits long for a start or an end is told once what for, and for how long at most."""
    monkeypatch.setattr("pytest_agentstream.process.SLOW_START", 0.1)
    monkeypatch.setattr("pytest_agentstream.process.SLOW_END", 0.1)
    told: list[str] = []
    with pytest.raises(ProcessError):
        await managed("mute", limit=1.0).start(told.append)
    [line] = told
    assert line.startswith("waits for the server under test to listen on port ")
    assert line.endswith(" of 127.0.0.1, 1 s at most ([tool.agentstream.timeouts] start)")

    process = managed("stubborn", grace=0.6)
    await process.start()
    process.close(told.append)
    assert told[1:] == ["waits for the server under test to end, 0 s at most; Ctrl-C kills it"]


async def test_an_end_that_is_hurried(managed: Make) -> None:
    """It is killed in the midst of its grace, not started again, and that is said."""
    process = managed("stubborn", grace=60.0)
    await process.start()
    process.ask_to_end()

    process.end_now("Ctrl-C")
    process.end_now("Ctrl-C")
    process.close()

    assert process.exit_code == -signal.SIGKILL
    [note] = process.notes
    assert note.startswith("the server under test was killed (SIGKILL) at Ctrl-C, 0.")
    assert note.endswith(" s after SIGTERM")
    with pytest.raises(ProcessError, match="the session has ended"):
        await process.start()


async def test_a_port_in_use(managed: Make) -> None:
    """Where somebody else listens, nothing is started: that one would be judged by mistake."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = managed(port=port)
        with pytest.raises(ProcessError, match=f"port {port} of 127.0.0.1 is in use: another prog"):
            await process.start()
    assert process.exit_code is None
    with pytest.raises(ProcessError, match="was not started"):
        process.kill()


@pytest.mark.parametrize(
    ("command", "cwd", "said"),
    [
        (["uvcorn", "app:app"], None, r"could not be started: uvcorn: .*No such file"),
        ([str(Path(__file__))], None, r"could not be started: .*Permission denied"),
        ([sys.executable], "/no/such/folder", r"could not be started: .*/no/such/folder"),
    ],
    ids=["unknown", "not executable", "no folder"],
)
async def test_a_command_that_cannot_be_started(
    command: list[str], cwd: str | None, said: str
) -> None:
    """The error names the program and why it cannot be started."""
    process = ManagedProcess(command, "http://127.0.0.1:9/chat", cwd=cwd)
    with pytest.raises(ProcessError, match=said):
        await process.start()
    process.close()


async def test_a_kill_and_a_restart(managed: Make) -> None:
    """A process killed on purpose has not died; it can be started again, on the same port."""
    process = managed()
    await process.start()
    url, first = process.url, process.pid

    process.kill()

    assert process.asked_to_end
    assert await process.wait_ended(10) == -signal.SIGKILL
    assert process.death is None

    await process.restart()

    assert process.url == url
    assert process.pid != first
    assert process.alive
    assert not process.asked_to_end
    with pytest.raises(ProcessError, match="runs already"):
        await process.start()


async def test_a_restart_of_one_that_lives(managed: Make) -> None:
    """What lives is stopped first."""
    process = managed()
    await process.start()
    first = process.pid
    await process.restart()
    assert process.pid != first
    assert not lives(first)


async def test_a_frozen_process(managed: Make) -> None:
    """A frozen process takes connections and answers nothing, until it is thawed."""
    process = managed()
    await process.start()
    process.freeze()
    assert process.frozen
    assert await listens(process.url)

    answers: list[str] = []
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            answers.append(await get(process))

        group.start_soon(ask)
        assert await process.wait_ended(0.2) is None
        assert answers == []
        process.thaw()

    assert len(answers) == 1
    assert not process.frozen


async def test_a_frozen_process_can_be_stopped(managed: Make) -> None:
    """To stop a frozen process thaws it, or SIGTERM would wait for ever."""
    process = managed(grace=20.0)
    await process.start()
    process.freeze()
    await process.stop()
    assert process.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("how", ["stopped", "killed", "died"])
async def test_children_go_with_it(managed: Make, how: str) -> None:
    """However the leader ends, the rest of its group ends too."""
    process = managed("parent")
    await process.start()
    await said(process, "child ")
    child = int(process.log_tail().split("child ")[1].split()[0])
    assert lives(child)

    match how:
        case "stopped":
            await process.stop()
        case "killed":
            process.kill()
        case "died":
            await die(process)

    await process.wait_ended(10)
    with anyio.fail_after(10):
        while lives(child):  # noqa: ASYNC110 - a grandchild's end is told to nobody
            await anyio.sleep(0.01)


@pytest.mark.parametrize("command", ["sh", "wrapper", "itself"])
async def test_one_that_drains(managed: Make, tmp_path: Path, command: str) -> None:
    """A server that drains has its grace, also behind a wrapper that dies at once."""
    process = managed("drains", grace=20.0)
    words = process._command
    wrapper = tmp_path / "serve"
    wrapper.write_text(f"#!/bin/sh\ntrue && {shlex.join(words)}\n:\n")
    wrapper.chmod(0o755)
    wrapped = {"sh": ["sh", "-c", f"true && {shlex.join(words)}; :"], "wrapper": [str(wrapper)]}
    process._command = wrapped.get(command, words)
    await process.start()

    await process.stop()

    assert "draining" in process.log_tail()
    assert "drained" in process.log_tail()
    assert process.notes == []


async def test_what_a_server_started_is_told_last(managed: Make) -> None:
    """SIGTERM reaches the children of a server that is no wrapper once that has ended."""
    process = managed("drains with a child", grace=20.0)
    await process.start()

    await process.stop()

    assert process.exit_code == 0
    said = process.log_tail().split()
    assert said[-3:] == ["draining", "drained", "child"]


async def test_what_a_server_leaves_behind(managed: Make) -> None:
    """Children that ignore SIGTERM don't hold up the end of a server that has ended well."""
    process = managed("drains with a stubborn child", grace=20.0)
    await process.start()
    began = time.monotonic()

    await process.stop()

    assert time.monotonic() - began < 10
    assert process.notes == []


async def test_one_that_talks_all_the_time(managed: Make) -> None:
    """Six megabytes of output block nothing, and only the newest part of it is kept."""
    process = managed("chatty")
    await process.start()
    await said(process, "said it all")
    tail = process.log_tail()
    assert tail.endswith("said it all")
    assert len(tail) < 300_000


async def said(process: ManagedProcess, words: str, times: int = 1) -> None:
    """Wait until the log has the words so many times: it listens before they have been read."""
    with anyio.fail_after(10):
        while process.log_tail().count(words) < times:  # noqa: ASYNC110 - a thread reads it
            await anyio.sleep(0.01)


async def test_the_log_of_one_life_or_another(managed: Make) -> None:
    """The log goes on over a restart; a part of it is found by its time."""
    process = managed("parent")
    await process.start()
    await said(process, "child ", 1)
    between = time.monotonic()
    await process.restart()
    await said(process, "child ", 2)
    assert process.log_tail(since=between).count("child ") == 1
    assert process.log_tail(until=between).count("child ") == 1


async def test_what_it_holds(managed: Make) -> None:
    """Memory, descriptors and threads are those of the process and its children."""
    alone, with_child = managed(), managed("parent")
    await alone.start()
    await with_child.start()
    assert with_child.usage().rss > alone.usage().rss > 1 << 20
    assert with_child.usage().threads == alone.usage().threads + 1
    assert alone.usage().descriptors > 3

    alone.kill()
    await alone.wait_ended(10)
    with pytest.raises(ProcessError, match="was ended by SIGKILL: nothing is to be measured"):
        alone.usage()


async def test_what_it_holds_without_psutil(managed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psutil nothing is measured, and the extra to install is named."""
    process = managed()
    await process.start()
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(NotTested, match=r"pip install 'pytest-agentstream\[managed\]'"):
        process.usage()


async def test_what_may_not_be_looked_at(managed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system hides a process of the server's, that is said, and is no error of ours."""
    process = managed()
    await process.start()

    psutil: Any = import_module("psutil")

    def denied(one: Any) -> int:
        raise psutil.AccessDenied(one.pid)

    monkeypatch.setattr(psutil.Process, "num_fds", denied)
    with pytest.raises(NotTested, match=f"process {process.pid} of it may not be looked at"):
        process.usage()


async def test_one_that_goes_while_it_is_measured(
    managed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends in the midst of it holds nothing that could be told; its child may go."""
    process = managed("parent")
    await process.start()
    psutil: Any = import_module("psutil")
    gone: set[int] = set()
    threads = psutil.Process.num_threads

    def unless_gone(one: Any) -> Any:
        if one.pid in gone:
            raise psutil.NoSuchProcess(one.pid)
        return threads(one)

    monkeypatch.setattr(psutil.Process, "num_threads", unless_gone)
    [child] = psutil.Process(process.pid).children()
    gone.add(child.pid)
    assert process.usage().threads >= 1
    gone.add(process.pid)
    with pytest.raises(ProcessError, match="the server under test ended while it was measured"):
        process.usage()


async def test_a_closed_one_is_not_started(managed: Make) -> None:
    """What is closed stays closed, so that nothing is left behind by whoever comes too late."""
    process = managed()
    await process.start()
    pid = process.pid
    process.close()
    process.close()
    assert not lives(pid)
    with pytest.raises(ProcessError, match="the session has ended"):
        await process.restart()


async def test_a_start_that_is_cancelled(managed: Make) -> None:
    """Whoever gives up waiting leaves no process behind."""
    process = managed("mute")
    with anyio.move_on_after(0.3):
        await process.start()
    assert not process.alive
    assert not lives(process.pid)


ABANDON = """
import anyio, os, signal, sys
from pytest_agentstream.process import ManagedProcess
process = ManagedProcess(sys.argv[1:], "http://127.0.0.1:" + sys.argv[-1])
anyio.run(process.start)
print(process.pid, flush=True)
signal.pause()
"""


async def test_it_does_not_outlive_us(managed: Make) -> None:
    """A process that runs a server and is killed takes the server with it, children included."""
    template = managed("parent")
    words = [sys.executable, "-c", ABANDON, *template._command]
    ours = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert ours.stdout is not None
    server = int(ours.stdout.readline())
    assert lives(server)

    ours.kill()
    ours.communicate()

    with anyio.fail_after(10):
        while lives(server):  # noqa: ASYNC110 - it is no child of this process
            await anyio.sleep(0.01)
