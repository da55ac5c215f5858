"""A server that does as its first argument says, on the port that is its second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STREAM = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'


CHILDREN = {
    "drains with a child": "lambda *_: os._exit(os.write(2, b'child\\n') * 0)",
    "drains with a stubborn child": "signal.SIG_IGN",
}
"""What children do at SIGTERM."""


class Handler(BaseHTTPRequestHandler):
    """Answer every POST with a short stream; `/die` and `/fail` do otherwise."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/die" or (mode == "dies" and b"dies" in body):
            password = os.environ.get("APP_PASSWORD")
            print("out of memory, password", password, "\x1b[31m\x07", flush=True)
            os._exit(3)
        if mode == "fails":
            print("Traceback: no such model", flush=True)
        self.send_response(500 if mode == "fails" else 200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"" if mode == "fails" else STREAM)

    def do_GET(self) -> None:
        answer = repr(dict(os.environ)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def drain(*_: object) -> None:
    print("draining", flush=True)
    time.sleep(0.5)
    print("drained", flush=True)
    os._exit(0)


def main() -> None:
    match mode:
        case "exits":
            print("no such configuration: prod.yaml", flush=True)
            sys.exit(7)
        case "leaves":
            print("runs in the background", flush=True)
            sys.exit(0)
        case "mute":
            print("loading the model", flush=True)
            time.sleep(60)
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "parent":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print(f"child {child.pid}", flush=True)
        case "drains" | "drains with a child" | "drains with a stubborn child":
            if mode in CHILDREN:
                words = f"import os, signal, time; signal.signal(15, {CHILDREN[mode]}); "
                words += "print('ready', flush=True); time.sleep(60)"
                python = [sys.executable, "-c", words]
                ready = subprocess.Popen(python, stdout=subprocess.PIPE, text=True).stdout
                assert ready is not None
                ready.readline()
            signal.signal(signal.SIGTERM, drain)
        case "chatty":
            for number in range(100_000):
                print(f"line {number} {'x' * 50}")
            print("said it all", flush=True)
    if len(sys.argv) > 3:
        with Path(sys.argv[3]).open("a") as started:
            started.write(f"{os.getpid()}\n")
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


mode, port = sys.argv[1], int(sys.argv[2])
main()
