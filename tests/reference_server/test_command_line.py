"""The process: one line on stdout, a clean exit at a signal, clear errors for wrong options."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

import reference_server
from reference_server.command_line import main
from reference_server.protocol import native_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

COMMAND = [sys.executable, "-m", "reference_server"]
PATIENCE = 10


def _process(*options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _lines(response: httpx.Response) -> Iterator[str]:
    return response.iter_lines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_properly(number: signal.Signals) -> None:
    """A stopped server ends its runs in a retryable error, their streams, and itself with 0."""
    with _process("--port", "0", "--heartbeat", "0.2") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.removeprefix("reference_server listening on ").strip()
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1/runs")

        headers = {"X-Agentstream-Scenario": "silence; seconds=60"}
        with httpx.stream("POST", url, json={"message": "x"}, headers=headers) as response:
            lines = _lines(response)
            next(lines)
            process.send_signal(number)
            rest = list(lines)

        out, err = process.communicate(timeout=PATIENCE)
    assert 'data: {"error_type":"shutdown","message":"The server is going down.",' in "\n".join(
        rest
    )
    assert rest[-4:-2] == ["event: done", 'data: {"status":"error"}']
    assert process.returncode == 0
    assert (out, err) == ("", "")


def test_a_crash_is_logged_on_stderr_only() -> None:
    """What an agent raised stands in the server's log; other dialects start at /chat."""
    with _process("--port", "0", "--dialect", "generic-data") as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("reference_server listening on ").strip()
        assert url.endswith("/chat")
        headers = {"X-Agentstream-Scenario": "crash; secret=srv/app"}
        body = httpx.post(url, json={"message": "x"}, headers=headers).text
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
    assert "srv/app" not in body
    assert "the agent failed at srv/app" in err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--defect", "no-heartbeet"], "there is no defect 'no-heartbeet'; did you mean"),
        (["--variation", "clrf"], "there is no variation 'clrf'; did you mean 'crlf'?"),
        (["--dialect", "nativ"], "there is no dialect 'nativ'; did you mean 'native'?"),
        (["--defect", "nan", "--dialect", "generic-data"], "--defect nan needs --dialect native"),
        (["--heartbeat", "soon"], "'soon' is not seconds between 0.01 and 86400"),
        (["--port", "70000"], "'70000' is not a port, 0 to 65535"),
        (["--token", "alice"], "--token must be USER=SECRET"),
        (
            ["--log", "sqllite:events.db"],
            "--log: there is no log 'sqllite:events.db'; memory, sqli",
        ),
        (["--log", "sqlite:"], "there is no log 'sqlite:'; memory, sqlite:PATH or redis://HOST"),
        (["--log", "redis://"], "there is no log 'redis://'"),
        (["--log", "redis://host:port/0"], "there is no log 'redis://host:port/0'"),
        (["--log", "redis://me:pa55@host/db"], "there is no log 'host/db'"),
        (["--lease", "never"], "'never' is not seconds between 0.01 and 86400"),
        (["--hartbeat", "1"], "unrecognized arguments: --hartbeat"),
    ],
)
def test_a_wrong_option_gets_one_clear_line(
    capsys: pytest.CaptureFixture[str], options: list[str], error: str
) -> None:
    """Exit code 2 and one line that says what was wrong and what is nearest."""
    with pytest.raises(SystemExit) as ended:
        main(options)

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert error in said
    assert said.startswith("reference_server: ")
    assert said.count("\n") == 1


def test_the_defects_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list-defects --json` prints the table."""
    main(["--list-defects", "--json"])

    rows = json.loads(capsys.readouterr().out)
    assert {"name", "breaks", "text", "dialect", "options"} == set(rows[0])
    assert len(rows) > 100


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--schema` prints one JSON Schema for each event type."""
    main(["--schema"])

    assert json.loads(capsys.readouterr().out) == native_schema()


@pytest.mark.parametrize(
    "options", [["--list-defects"], ["--list-defects", "--json"], ["--schema"]], ids=" ".join
)
def test_a_list_that_nobody_reads(options: list[str]) -> None:
    """`… | head -1` ends quietly, and is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*COMMAND, *options], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_packages_of_its_extra() -> None:
    """Where nothing but the standard library is there, one line names the extra to install."""
    done = subprocess.run(
        [sys.executable, "-S", *COMMAND[1:]],
        cwd=Path(reference_server.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "reference_server: needs starlette and uvicorn, not installed here: "
        "pip install 'pytest-agentstream[reference]'\n"
    )


def test_a_log_without_its_package_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is an extra; a server that lacks it names the extra."""
    monkeypatch.delitem(sys.modules, "reference_server.log.redis_streams", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)

    with pytest.raises(SystemExit) as ended:
        main(["--log", "redis://127.0.0.1/0"])

    assert ended.value.code == 2
    assert "pip install 'pytest-agentstream[redis]'" in capsys.readouterr().err
