"""Servers of other projects, each in an environment of its own, and what the suite says of them."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import secrets
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.environments import python_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

EXAMPLES = Path(__file__).parents[2] / "examples"
START_LIMIT = 30.0
RUN_LIMIT = 60.0
GRACE = 5.0
LISTENING = "Uvicorn running on "

BEHIND_THE_SUITE = {
    "openai-chat": [
        "http://127.0.0.1:{port}/chat",
        "--double",
        "--command",
        "uvicorn app:app --port {port}",
    ],
    "litellm": [],
}
"""Examples that the suite starts itself, and what their READMEs write beside `--config`."""

SLOW_RUN_LIMIT = 180.0
"""Seconds: such a server is started again once or twice, and an LLM proxy imports for long."""

KEY = "LITELLM_MASTER_KEY"


@dataclass(frozen=True, slots=True)
class Judged:
    """What one command said of a server: exit code, output, and the report's results by slug."""

    code: int
    output: str
    results: dict[str, dict[str, Any]]
    log: str
    report: str = ""
    key: str = ""


@contextmanager
def serving(example: str) -> Iterator[tuple[str, list[str]]]:
    """Run the example's app under uvicorn on a free port; yield its origin and its growing log."""
    python = python_of(example, EXAMPLES / example / "requirements.txt")
    command = [str(python), "-m", "uvicorn", "app:app", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        command,
        cwd=EXAMPLES / example,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log: list[str] = []
    origins: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            log.append(line)
            if LISTENING in line:
                origins.put(line.partition(LISTENING)[2].split()[0])
        origins.put("")

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        origin = origins.get(timeout=START_LIMIT)
        if not origin:
            pytest.fail(f"examples/{example} did not start:\n{''.join(log)}", pytrace=False)
        yield origin, log
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(GRACE)
        if process.stdout is not None:
            process.stdout.close()


def run_suite(
    folder: Path,
    url: str,
    report: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    limit: float = RUN_LIMIT,
) -> tuple[int, str]:
    """`agentstream run URL …` as a user types it in that folder: its exit code and its output."""
    command = [str(Path(sys.executable).with_name("agentstream")), "run", url]
    done = subprocess.run(
        [*command, "--report", str(report), *options],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(report.parent), **(env or {})},
        capture_output=True,
        text=True,
        timeout=limit,
    )
    return done.returncode, done.stdout + done.stderr


def run_with_server(example: str, config: str, report: Path) -> Judged:
    """The one command of the example's README, in its environment: the suite starts the server."""
    python = python_of(example, EXAMPLES / example / "requirements.txt")
    url, *options = BEHIND_THE_SUITE[example] or [start_path(example, config)]
    key = f"sk-{secrets.token_hex(16)}"
    env = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", KEY: key}
    code, output = run_suite(
        EXAMPLES / example, url, report, "--config", config, *options, env=env, limit=SLOW_RUN_LIMIT
    )
    return Judged(code, output, results_of(report), "", text_of(report), key)


def judged_once(example: str, config: str, folder: Path) -> Judged:
    """What the one command says, which takes long, so that all workers share one run of it.

    `folder` is a temporary one of this worker's.
    """
    shared = folder.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else folder.parent
    kept = shared / f"{example}-{config}.json"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            found = run_with_server(example, config, folder / "report.json")
            kept.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return Judged(**json.loads(kept.read_text(encoding="utf-8")))


def text_of(report: Path) -> str:
    return report.read_text(encoding="utf-8") if report.exists() else ""


def results_of(report: Path) -> dict[str, dict[str, Any]]:
    """The report's results by slug; none where the command wrote no report."""
    text = text_of(report)
    return {result["slug"]: result for result in json.loads(text)["results"]} if text else {}


def start_path(example: str, config: str | None) -> str:
    """The path of the endpoint that the example's configuration names; `/chat` without one."""
    if config is None:
        return "/chat"
    settings = tomllib.loads((EXAMPLES / example / config).read_text(encoding="utf-8"))
    return urlsplit(str(settings["tool"]["agentstream"]["url"])).path


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | None], Judged]:
    """Judge an example with one of its configuration files, or with none; each only once."""
    known: dict[tuple[str, str | None], Judged] = {}

    def judge(example: str, config: str | None) -> Judged:
        if (example, config) not in known:
            folder = tmp_path_factory.mktemp(example)
            report = folder / "report.json"
            if config is not None and example in BEHIND_THE_SUITE:
                found = judged_once(example, config, folder)
            else:
                here = EXAMPLES / example if config else folder
                options = ["--config", config] if config else []
                with serving(example) as (origin, log):
                    url = origin + start_path(example, config)
                    code, output = run_suite(here, url, report, *options)
                found = Judged(code, output, results_of(report), "".join(log))
            known[example, config] = found
        return known[example, config]

    return judge
