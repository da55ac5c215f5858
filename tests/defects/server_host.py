"""Host defective servers: import the reference server once, fork a process for each that is asked.

One request a line on stdin, as JSON: a list is the command line of a server to start, and null
ends it. Each gets one line back: what the server announced, or what it said instead.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from tempfile import TemporaryFile

from reference_server.command_line import main
from reference_server.upstreams import prepare

FAILED = "failed: "


def start(arguments: list[str]) -> tuple[int, str]:
    """Fork a server; return its process id and its announcement."""
    said, say = os.pipe()
    with TemporaryFile() as log:
        child = os.fork()
        if child == 0:
            os.close(said)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(say, 1)
            os.dup2(log.fileno(), 2)
            os._exit(serve(arguments))
        os.close(say)
        with os.fdopen(said) as announced:
            line = announced.readline()
        if line:
            return child, line
        end(child)
        log.seek(0)
        return 0, FAILED + repr(log.read()[-600:].decode(errors="replace")) + "\n"


def serve(arguments: list[str]) -> int:
    """Be the server; return its exit code, also where a defect raises SystemExit through all."""
    try:
        main(arguments)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(child: int) -> None:
    """Kill a server: its goodbye is judged nowhere here."""
    os.kill(child, signal.SIGKILL)  # a zombie until it is waited for, so the id is still its own
    os.waitpid(child, 0)


def host() -> None:
    """Serve requests until stdin ends."""
    prepare("openai")  # once here, and not once in each server
    gc.freeze()
    child = 0
    try:
        for line in sys.stdin:
            arguments, answer = json.loads(line), "ended\n"
            if arguments is not None:
                child, answer = start(arguments)
            elif child:
                end(child)
                child = 0
            print(answer, end="", flush=True)
    finally:
        if child:
            end(child)


if __name__ == "__main__":
    host()
