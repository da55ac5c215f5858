"""Virtual environments of their own for what must not be in ours, made once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = Path(__file__).parents[1] / ".targets"
REQUIRED = "AGENTSTREAM_REQUIRE_SERVICES"
INSTALL_LIMIT = 300.0


def python_of(name: str, requirements: Path) -> Path:
    """The interpreter of an environment that has these requirements.

    Where nothing can be installed the test is skipped, or fails if services are required.
    """
    key = hashlib.sha256(f"{sys.version}\n{requirements.read_text()}".encode()).hexdigest()[:12]
    folder = TARGETS / f"{name}-{key}"
    python, whole = folder / "bin" / "python", folder / "complete"
    TARGETS.mkdir(exist_ok=True)
    with (TARGETS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            uv = [sys.executable, "-m", "uv", "--quiet"]
            install = [*uv, "pip", "install", "--system-certs"]
            for command in (
                [*uv, "venv", "--python", sys.executable, str(folder)],
                [*install, "--python", str(python), "--requirement", str(requirements)],
            ):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=INSTALL_LIMIT
                )
                if done.returncode:
                    _cannot(name, done.stderr)
            whole.touch()
    return python


def _cannot(name: str, said: str) -> None:
    text = (
        f"NOT JUDGED: the packages of {name} could not be installed, so what they would show is "
        f"not known. the installer said: {said.strip()[-400:]}"
    )
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
