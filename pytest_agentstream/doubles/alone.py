"""Run the double alone, until it is interrupted: `agentstream double`."""

from __future__ import annotations

import asyncio
import sys

from pytest_agentstream.doubles.server import LlmDouble


def serve(port: int) -> int:
    """Run a double on that port, 0 for a free one, and say where; return an exit code."""
    try:
        asyncio.run(_serve(port))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(
            f"agentstream double: can't listen on 127.0.0.1:{port} ({reason}); choose another "
            "port, or --port 0 for a free one",
            file=sys.stderr,
        )
        return 1
    return 0


async def _serve(port: int) -> None:
    async with LlmDouble(port=port) as double:
        lines = [f"listening on {double.origin}"]
        lines += [f"export {name}={value}" for name, value in double.environment.items()]
        print("\n".join(lines), flush=True)
        await asyncio.Event().wait()
