"""Start the reference server: `python -m reference_server --port 0 --heartbeat 0.2`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NEEDED = ("starlette", "uvicorn")
"""Packages of the extra `reference`, without which nothing here can be imported."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, where what it needs is installed; else exit with 2 and say so."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"reference_server: needs {' and '.join(missing)}, not installed here: "
            "pip install 'pytest-agentstream[reference]'\n"
        )
        raise SystemExit(2)
    from reference_server.command_line import main as run

    run(arguments)


if __name__ == "__main__":
    main()
