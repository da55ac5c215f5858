"""`agentstream double`, as a process."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from openai import OpenAI

from tests.doubles.conftest import PATIENCE, script

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.doubles.conftest import Running

COMMAND = [str(Path(sys.executable).with_name("agentstream")), "double"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the command until it has said all lines that it says at its start."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    try:
        yield process, [process.stdout.readline().strip() for _ in range(6)]
    finally:
        process.kill()
        process.communicate()


def test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where it listens and the environment to paste, which is all that an SDK needs."""
    with running("--port", "0") as (process, lines):
        first, *exports = lines
        port = first.removeprefix("listening on http://127.0.0.1:")
        assert port.isdecimal()
        for line in exports:
            word, assignment = shlex.split(line)
            name, _, value = assignment.partition("=")
            assert word == "export"
            monkeypatch.setenv(name, value)
        assert f":{port}/v1" in os.environ["OPENAI_BASE_URL"]
        with OpenAI() as openai:
            answer = openai.responses.create(model="m", input=script("everywhere; say 2 words"))
        assert answer.output_text == "word1 word2"
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said, complaints) == (0, "", "")


def test_interrupted_while_it_streams(double: Running) -> None:
    """Ctrl-C ends open streams with it, without a traceback."""
    import json

    from tests.doubles.conftest import PATHS, Raw, body, request

    with running("--port", "0") as (process, lines):
        origin = lines[0].removeprefix("listening on ")
        content = json.dumps(body("anthropic", script("say 2 words; stall")))
        raw = Raw(origin, request(PATHS["anthropic"], content)).read_until(b"word2")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
        raw.read_all()


def test_a_port_in_use(double: Running) -> None:
    """A port in use is one clear line."""
    port = double.origin.rpartition(":")[2]
    done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"agentstream double: can't listen on 127.0.0.1:{port} (")
    assert done.stderr.count("\n") == 1


def test_an_impossible_port() -> None:
    """A port that is none is one clear line, or a usage error."""
    for port, code in (("99999", 1), ("x", 2)):
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True)
        assert done.returncode == code
        assert "Traceback" not in done.stderr
