"""Servers of other projects, each in an environment of its own, and what the suite says of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TARGETS = ROOT / ".targets"
REQUIRED = "AGENTSTREAM_REQUIRE_SERVICES"
INSTALL_LIMIT = 300.0
START_LIMIT = 30.0
RUN_LIMIT = 60.0
GRACE = 5.0
LISTENING = "Uvicorn running on "


@dataclass(frozen=True, slots=True)
class Judged:
    """What one command said of a server: exit code, output, and the report's results by slug."""

    code: int
    output: str
    results: dict[str, dict[str, Any]]
    log: str


def python_of(example: str) -> Path:
    """The interpreter of the example's own environment, which is made once for its requirements.

    Where nothing can be installed the test is skipped, or fails if services are required.
    """
    wanted = EXAMPLES / example / "requirements.txt"
    key = hashlib.sha256(f"{sys.version}\n{wanted.read_text()}".encode()).hexdigest()[:12]
    folder = TARGETS / f"{example}-{key}"
    python, whole = folder / "bin" / "python", folder / "complete"
    TARGETS.mkdir(exist_ok=True)
    with (TARGETS / f"{example}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--quiet",
            ]
            for command in (
                [sys.executable, "-m", "venv", str(folder)],
                [*install, "--requirement", str(wanted)],
            ):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=INSTALL_LIMIT
                )
                if done.returncode:
                    _cannot(example, done.stderr)
            whole.touch()
    return python


def _cannot(example: str, said: str) -> None:
    text = (
        f"NOT JUDGED: the packages of examples/{example} could not be installed, so nothing is "
        f"known of how the suite judges other projects' servers. pip said: {said.strip()[-400:]}"
    )
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@contextmanager
def serving(example: str) -> Iterator[tuple[str, list[str]]]:
    """Run the example's app under uvicorn on a free port; yield its origin and its growing log."""
    command = [str(python_of(example)), "-m", "uvicorn", "app:app", "--port", "0"]
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


def run_suite(folder: Path, url: str, report: Path, *options: str) -> tuple[int, str]:
    """`agentstream run URL …` as a user types it in that folder: its exit code and its output."""
    command = [str(Path(sys.executable).with_name("agentstream")), "run", url]
    done = subprocess.run(
        [*command, "--report", str(report), *options],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(report.parent)},
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT,
    )
    return done.returncode, done.stdout + done.stderr


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
            here = EXAMPLES / example if config else folder
            report = folder / "report.json"
            options = ["--config", config] if config else []
            with serving(example) as (origin, log):
                url = origin + start_path(example, config)
                code, output = run_suite(here, url, report, *options)
            results = json.loads(report.read_text())["results"] if report.exists() else []
            by_slug = {result["slug"]: result for result in results}
            known[example, config] = Judged(code, output, by_slug, "".join(log))
        return known[example, config]

    return judge
