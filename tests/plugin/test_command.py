"""A command that starts the server under test: judged, ended, and each way to be wrong said."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.plugin.test_stopping import children_of, interrupt, lives, wait_for

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SCRIPT = Path(__file__).parents[1] / "process" / "scripted.py"
STATUS = "agentstream/http.py::test_status"
REFERENCE = shlex.join(
    [sys.executable, "-m", "reference_server", "--port", "{port}", "--heartbeat", "0.2"]
)


def scripted(mode: str, *more: str, port: str = "{port}") -> str:
    """The command of the scripted server, as a user writes it."""
    return shlex.join([sys.executable, str(SCRIPT), mode, port, *more])


def judge(project: Project, command: str, *arguments: str, url: str = "/chat") -> pytest.RunResult:
    """Run the suite on a server of the command's, in a dialect that the scripted one speaks."""
    return project.run(
        f"--agentstream-url={url}",
        f"--agentstream-command={command}",
        "--agentstream-dialect=generic-data",
        *arguments,
    )


def test_a_command_is_judged(project: Project) -> None:
    """The server is started on a free port, judged at its path, and gone afterwards."""
    result = project.run(
        "--agentstream-url=/v1/runs",
        f"--agentstream-command={REFERENCE}",
        "--agentstream-dialect=native",
        STATUS,
    )
    result.assert_outcomes(passed=1)
    out = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "agentstream: starts *python* -m reference_server --port '{port}' *",
            "agentstream: the server under test: process * at http://127.0.0.1:*/v1/runs",
            "agentstream: dialect native; first events: *",
        ]
    )
    pid = int(out.split("the server under test: process ")[1].split()[0])
    assert not lives(pid)


def test_one_that_exits_at_once(project: Project) -> None:
    """What it said is in one message, and no case is judged."""
    result = judge(project, scripted("exits"), STATUS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: agentstream: the server under test exited with code 7 before it listened on *",
            "  It said  no such configuration: prod.yaml",
            f"  Command  {sys.executable} {SCRIPT} exits *",
        ]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(["runs started: 0"])


@pytest.mark.parametrize(("quiet", "told"), [((), 1), (("-q",), 1), (("-q", "-q"), 0)], ids=str)
def test_one_that_never_listens(project: Project, quiet: tuple[str, ...], told: int) -> None:
    """The terminal says what is waited for, though output is captured; the error names the limit
    and its setting.
    """
    project.write(
        agentstream_toml="[tool.agentstream.timeouts]\nstart = 1.5\n",
        conftest_py="from pytest_agentstream import process\nprocess.SLOW_START = 0.2\n",
    )
    result = judge(project, scripted("mute"), *quiet, STATUS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.outlines if line.startswith("agentstream: waits for ")]
    assert len(lines) == told
    assert all(
        line.startswith("agentstream: waits for the server under test to listen on port ")
        and line.endswith(" of 127.0.0.1, 1.5 s at most ([tool.agentstream.timeouts] start)")
        for line in lines
    )
    result.stderr.fnmatch_lines(
        [
            "ERROR: *does not listen on * after 1.5 s: *: [[]tool.agentstream.timeouts] start = 3",
            "  It said  loading the model",
        ]
    )


def test_a_port_in_use(project: Project, server: str) -> None:
    """A server that somebody else runs on the port is not judged in its place."""
    port = server.split("/")[2].partition(":")[2]
    result = judge(project, scripted("serves", port=port), STATUS, url=server)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: agentstream: port {port} of 127.0.0.1 is in use: another program listens there*"]
    )


BAD = {
    "unknown program": (
        "uvcorn app:app --port {port}",
        "/chat",
        '--agentstream-command starts with "uvcorn", and no such program is found',
    ),
    "no port anywhere": (
        f"{sys.executable} app.py",
        "/chat",
        "--agentstream-command has no {port}, and the url has no port; expected {port} where",
    ),
    "no words": ("''", "/chat", "--agentstream-command is empty; expected what starts the server"),
    "open quote": ("uvicorn 'app", "/chat", "expected words as a shell reads them (no closing"),
    "unknown template": (
        f"{sys.executable} {{prot}}",
        "/chat",
        "--agentstream-command cannot be started: unknown variable in the template {prot}; did",
    ),
    "bad url": (
        f"{sys.executable} {{port}}",
        "chat",
        "expected an absolute http:// or https:// URL such as http://127.0.0.1:8000/chat, or its",
    ),
}


@pytest.mark.parametrize(("command", "url", "said"), BAD.values(), ids=list(BAD))
def test_a_command_that_cannot_be_used(project: Project, command: str, url: str, said: str) -> None:
    """What is wrong with it is said before anything is started."""
    result = judge(project, command, url=url)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_command_without_quotes(project: Project) -> None:
    """Words of a command that stand behind it are neither paths nor options of pytest's."""
    command = ("--agentstream-command", "uvicorn", "app:app", "--port", "{port}")
    result = project.run(*command, "--agentstream-url=/chat")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: agentstream: --agentstream-command is 'uvicorn' alone, and 'app:app --port {port}' "
        "stands behind it; expected the whole command in quotes: --agentstream-command 'uvicorn "
        "app:app --port {port}'\n"
    ) in result.stderr.str()


def test_a_port_for_the_double(project: Project) -> None:
    """The option is a flag; a number behind it is no path."""
    result = project.run(f"--agentstream-url={project.url}", "--agentstream-double", "4011")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: agentstream: --agentstream-double takes no value, and found '4011'; *= 4011"]
    )


def test_no_url_for_a_command(project: Project) -> None:
    """A command alone does not say which of its paths starts a run."""
    result = project.run(f"--agentstream-command={scripted('serves')}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "nothing says which of its paths starts a run: give --agentstream-url /chat" in (
        result.stderr.str()
    )


def test_a_death_is_one_finding(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies in a probe fails one case, with its last words; nothing else is red."""
    monkeypatch.setenv("APP_PASSWORD", "correct-horse")
    project.write(
        agentstream_toml=f"""
            [tool.agentstream]
            url = "/chat"
            dialect = "generic-data"
            command = {json.dumps(scripted("dies"))}
            [tool.agentstream.scenarios]
            crash = {{ json = {{ message = "dies" }} }}
            """
    )
    result = project.run("agentstream", "--agentstream-report=verdicts.json")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, passed=result.parseoutcomes()["passed"])
    out = result.stdout.str()
    assert "Expected     the server under test to live on, whatever it is asked" in out
    assert "Actual       the server under test exited with code 3 during the probe `crash_r" in out
    assert "Server log   out of memory, password [redacted] \\x07" in out
    assert "correct-horse" not in out
    assert "server gone" not in out
    report = json.loads((project.pytester.path / "verdicts.json").read_text())
    [red] = [one for one in report["results"] if one["verdict"] == "failed"]
    assert red["log"] == ["out of memory, password [redacted] \\x07"]
    assert report["session"]["gone"].startswith("the server under test exited with code 3")


def test_one_that_ignores_sigterm(project: Project) -> None:
    """A server that does not end when it is asked to is killed, and the summary says so."""
    result = judge(project, scripted("stubborn"), "--agentstream-grace=0.2", STATUS)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["the server under test did not end within the declared grace of 0.2 s and was killed *"]
    )


def test_a_preflight_that_fails_shows_the_log(project: Project) -> None:
    """Where the first run fails, what the server said about it stands beside its answer."""
    result = judge(project, scripted("fails"), STATUS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*agentstream preflight: it failed (500)", "  Log   Traceback: no such model"]
    )


@pytest.mark.parametrize(
    "option", ["--agentstream-plan", "--collect-only", "--setup-plan", "--setup-only"]
)
def test_what_only_looks_starts_nothing(project: Project, option: str) -> None:
    """The plan and what pytest only shows start neither the command nor a double."""
    started = project.pytester.path / "started"
    result = judge(project, scripted("serves", str(started)), "--agentstream-double", option)
    assert result.ret == pytest.ExitCode.OK
    assert not started.exists()


def test_one_process_for_all_workers(project: Project) -> None:
    """With pytest-xdist the command is started once, on the worker that judges."""
    project.plugins = ("xdist",)
    started = project.pytester.path / "started"
    command = scripted("serves", str(started))
    result = judge(project, command, "-n2", STATUS, "agentstream/http.py::test_content_type")
    result.assert_outcomes(passed=2)
    [pid] = started.read_text().split()
    assert not lives(int(pid))
    result.stdout.fnmatch_lines(["the server under test: process * at http://127.0.0.1:*/chat"])


def test_a_double_for_a_server_started_by_hand(project: Project, server: str) -> None:
    """Its address is known before, and the lines that the server needs are printed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    project.write(agentstream_toml=f"[tool.agentstream]\ndouble = {port}\n")
    result = project.judge(STATUS)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            f"agentstream: LLM double at http://127.0.0.1:{port}; the server has to be started *",
            f"agentstream:   OPENAI_BASE_URL=http://127.0.0.1:{port}/v1",
            f"agentstream:   ANTHROPIC_BASE_URL=http://127.0.0.1:{port}",
        ]
    )


def test_a_double_whose_port_is_taken(project: Project) -> None:
    """That its port is in use is said, with the setting for another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        project.write(agentstream_toml=f"[tool.agentstream]\ndouble = {port}\n")
        result = project.judge(STATUS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: agentstream: the LLM double can't listen on port {port} of 127.0.0.1 (*"]
    )


CASES = """
from pytest_agentstream import MUST, probe, requirement

def case(slug):
    words = dict(tier="durable", text="It holds.", source="this project")
    return requirement(f"mine.{slug}", MUST, **words)

@probe(consent="attack", scenarios=["complete"], runs=2, exclusive=True)
async def killed(client, process, replicas, double):
    process.kill()
    code = await process.wait_ended(10)
    other = await replicas[0].run("complete")
    return code, other, double.origin

@probe(scenarios=["complete"])
async def restarted(client, killed, process):
    return process, await client.run("complete")

@case("other-replica-lives")
def test_other(killed):
    code, other, origin = killed
    assert code == -9
    assert other.run.last.ended_cleanly
    assert origin.startswith("http://127.0.0.1:")

@case("started-again")
def test_started_again(restarted):
    process, seen = restarted
    assert process.alive
    assert seen.run.last.ended_cleanly
"""


def test_what_probes_may_ask_for(project: Project) -> None:
    """A probe gets the process, the replicas and the double; what it kills is started again."""
    project.write(
        tests__test_mine_py=CASES,
        agentstream_toml="""
            [tool.agentstream.scenarios]
            complete = { json = { message = "hello" } }
            """,
    )
    command = shlex.quote(sys.executable) + " -m reference_server --port {port}"
    result = project.run(
        "--agentstream-url=/v1/runs",
        f"--agentstream-command={command}",
        f"--agentstream-command={command}",
        "--agentstream-dialect=native",
        "--agentstream-double",
        "tests/test_mine.py",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "agentstream: LLM double at http://127.0.0.1:*",
            "agentstream: replica 2: process * at http://127.0.0.1:*/v1/runs",
            "control mapped: complete",
        ]
    )


def test_what_probes_ask_for_and_is_not_there(project: Project) -> None:
    """Without the option a case is not tested, and says which option it would take."""
    project.write(tests__test_mine_py=CASES.replace("client, process, replicas", "replicas"))
    result = project.judge("tests/test_mine.py", "-rs")
    result.stdout.fnmatch_lines(
        [
            "  not tested: mine.other-replica-lives, mine.started-again",
            "      there is no further replica",
            "      -> name one: --agentstream-replica URL",
            "*= 2 not tested in *",
        ]
    )


@pytest.fixture
def temporary(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which sessions keep what they need for a while."""
    folder = project.pytester.path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_ctrl_c_ends_everything(project: Project, temporary: Path) -> None:
    """Ctrl-C in the midst of the probes ends the server, its children, and removes what it had."""
    process = project.start(
        *(sys.executable, "-m", "pytest", "-pno:asyncio", "--agentstream-reference"),
        *("--agentstream-heartbeat=20", "agentstream/heartbeat.py::test_present"),
    )
    wait_for(process, "first events:")
    children = children_of(process.pid)
    assert len(children) >= 4  # two replicas, each with its watchdog
    assert list(temporary.iterdir())

    interrupt(process)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert not any(map(lives, children))
    assert not list(temporary.iterdir())


ASLEEP = """
import time

def test_asleep(agentstream_client):
    agentstream_client.run("complete")
    print("asleep", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "behind", ["first seen", "agentstream: waits for the server under test to end, "]
)
def test_a_second_ctrl_c(project: Project, behind: str) -> None:
    """A server that ignores SIGTERM is killed at a second Ctrl-C, whenever that comes, and a line
    says so.
    """
    project.write(
        test_asleep_py=ASLEEP,
        conftest_py="def pytest_keyboard_interrupt():\n    print('first seen', flush=True)\n",
    )
    process = project.start(
        *(sys.executable, "-m", "pytest", "-pno:asyncio", "-s", "--agentstream-url=/chat"),
        *(f"--agentstream-command={scripted('stubborn')}", "--agentstream-dialect=generic-data"),
        *("--agentstream-grace=60", "test_asleep.py"),
    )
    wait_for(process, "asleep")
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    wait_for(process, behind)

    rest, took = interrupt(process)

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert took < 10
    assert "Traceback" not in rest
    assert rest.count("the server under test was killed (SIGKILL) at Ctrl-C") == 1
    assert children
    assert not any(map(lives, children))


def test_ctrl_c_while_the_server_starts(project: Project) -> None:
    """Ctrl-C while a server is awaited that never listens ends it, too."""
    process = project.start(
        *(sys.executable, "-m", "pytest", "-pno:asyncio", "--agentstream-url=/chat"),
        *(f"--agentstream-command={scripted('mute')}", "--agentstream-dialect=generic-data"),
    )
    wait_for(process, "collected ")
    deadline = time.monotonic() + 10
    while not (children := children_of(process.pid)) and time.monotonic() < deadline:
        pass

    _, took = interrupt(process)

    assert took < 10
    assert children
    assert not any(map(lives, children))


def test_a_killed_pytest_takes_the_server_with_it(project: Project, temporary: Path) -> None:
    """However pytest ends, neither a server nor its folder is left behind."""
    process = project.start(
        *(sys.executable, "-m", "pytest", "-pno:asyncio", "--agentstream-reference"),
        *("--agentstream-heartbeat=20", "agentstream/heartbeat.py::test_present"),
    )
    out = wait_for(process, "first events:")
    server = int(out.split("the server under test: process ")[1].split()[0])
    assert list(temporary.iterdir())

    process.kill()
    process.communicate()

    deadline = time.monotonic() + 10
    while (lives(server) or list(temporary.iterdir())) and time.monotonic() < deadline:
        pass
    assert not lives(server)
    assert not list(temporary.iterdir())
