"""Measure what the plugin costs while it is switched off.

Run it with `python -m benchmarks.startup`: `pytest --version` and a run with one empty test, with
the plugin installed and with `-p no:agentstream`, turn by turn, so that both see the same machine.
Other plugins that are installed are left out of both, for their time is not ours. The promise is
less than 10 ms on `pytest --version`. Exits 1 where the promise is broken.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 20
PROMISED = 0.010
OURS = ("pytest_agentstream", "conformance_cases", "reference_server")
WITHOUT = ("-p", "no:agentstream")
OTHERS = ("anyio", "asyncio", "hypothesispytest", "randomly", "timeout", "xdist")
WATCHED = "import sys, pytest; pytest.main(sys.argv[1:]); print(); print(*sys.modules)"
VERSION = ("--version",)
EMPTY = ("-q", "-p", "no:cacheprovider", "test_empty.py")


def run(arguments: Sequence[str], folder: Path, program: Sequence[str] = ("-m", "pytest")) -> str:
    """Run pytest once in a folder; return what it wrote to stdout."""
    left_out = [f"-pno:{name}" for name in OTHERS]
    command = [sys.executable, *program, *left_out, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, cwd=folder, text=True)
    return done.stdout


def seconds(arguments: Sequence[str], folder: Path) -> float:
    begin = time.perf_counter()
    run(arguments, folder)
    return time.perf_counter() - begin


def compare(arguments: Sequence[str], folder: Path) -> float:
    """Print medians with and without the plugin; return the difference, in seconds."""
    run(arguments, folder)
    run([*WITHOUT, *arguments], folder)
    given, left_out = [], []
    for _ in range(ROUNDS):
        given.append(seconds(arguments, folder))
        left_out.append(seconds([*WITHOUT, *arguments], folder))
    on, off = statistics.median(given), statistics.median(left_out)
    differences = [one - other for one, other in zip(given, left_out, strict=True)]
    print(
        f"pytest {' '.join(arguments):<40} {on * 1000:7.1f} ms, without {off * 1000:7.1f} ms",
        end="",
    )
    print(f", ratio {on / off:.3f}, difference of medians {(on - off) * 1000:+.1f} ms", end="")
    print(f", median of differences {statistics.median(differences) * 1000:+.1f} ms")
    return on - off


def imported(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return which modules of ours a run imports."""
    names = run(arguments, folder, ("-c", WATCHED)).splitlines()[-1].split()
    return sorted(name for name in names if name.partition(".")[0] in OURS)


def main() -> int:
    """Measure both runs; return 1 where `pytest --version` became slower than promised."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before; medians of {ROUNDS}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_empty.py").write_text("def test_empty(): pass\n", encoding="utf-8")
        cost = compare(VERSION, folder)
        compare(EMPTY, folder)
        for arguments in (VERSION, EMPTY):
            names = ", ".join(imported(arguments, folder)) or "nothing"
            print(f"pytest {' '.join(arguments)} imports of ours: {names}")
    kept = cost < PROMISED
    print(f"promised below {PROMISED * 1000:g} ms: {'kept' if kept else 'BROKEN'}", end="")
    print(f"; load {os.getloadavg()[0]:.2f} after")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
