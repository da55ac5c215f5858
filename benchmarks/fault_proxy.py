"""Compare the embedded fault proxy, nothing injected, with a direct connection and Toxiproxy.

Run it with `python -m benchmarks.fault_proxy [--toxiproxy PATH]`, the path of a Toxiproxy server's
executable; one that is installed is found. Client, server and proxies are processes of their own;
the client measures, with sockets that block, each way in turn, round for round, and another way
first in each. Figures are medians of the rounds, ratios medians of the rounds' ratios. With
`--check` it fails unless the embedded proxy adds no more latency than Toxiproxy and passes no less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, closing, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_agentstream.faults import FaultProxy

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Line

Address = tuple[str, int]

ROUNDS = 7
IDLE_ROUNDS = 3
TRIPS = 2_000
MESSAGE = b"m" * 100
BULK = 256 * 1024 * 1024
CHUNK = 64 * 1024
IDLE = 1_000
DESCRIPTORS = 8_192

ECHO, SEND = b"E", b"S"


def serve(line: Line) -> None:
    """Echo, or send as many bytes as are asked for, a thread for each connection."""
    allow_descriptors()
    with socket.create_server(("127.0.0.1", 0), backlog=IDLE) as listener:
        line.send(listener.getsockname())
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=answer, args=(peer,), daemon=True).start()


def answer(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with peer, suppress(ConnectionError):
        what = peer.recv(1)
        if what == SEND:
            (left,) = struct.unpack("!Q", peer.recv(8))
            block = b"b" * CHUNK
            while left > 0:
                peer.sendall(block)
                left -= len(block)
        while what == ECHO and (data := peer.recv(CHUNK)):
            peer.sendall(data)


def embed(line: Line, target: Address) -> None:
    """Run the embedded proxy until the line is closed."""
    allow_descriptors()

    async def main() -> None:
        async with FaultProxy(f"http://{target[0]}:{target[1]}", raw=True) as proxy:
            line.send(proxy.address)
            await asyncio.to_thread(line.poll, None)

    asyncio.run(main())


def connect(address: Address, what: bytes) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(what)
    return sock


def round_trips(address: Address) -> list[float]:
    """Return the seconds of each round trip of a small message."""
    times: list[float] = []
    with closing(connect(address, ECHO)) as sock:
        for _ in range(TRIPS):
            begin = time.perf_counter()
            sock.sendall(MESSAGE)
            left = len(MESSAGE)
            while left:
                left -= len(sock.recv(left))
            times.append(time.perf_counter() - begin)
    return times[TRIPS // 10 :]


def throughput(address: Address) -> float:
    """Return bytes a second of one long answer."""
    buffer = bytearray(256 * 1024)
    with closing(connect(address, SEND)) as sock:
        begin = time.perf_counter()
        sock.sendall(struct.pack("!Q", BULK))
        left = BULK
        while left > 0:
            left -= sock.recv_into(buffer)
        return BULK / (time.perf_counter() - begin)


def beside_idle(address: Address, pid: int) -> tuple[float, list[float], int]:
    """Return the seconds to open many connections, round trips beside them, and memory then."""
    with ExitStack() as stack:
        begin = time.perf_counter()
        for _ in range(IDLE):
            sock = stack.enter_context(closing(connect(address, ECHO)))
        sock.sendall(MESSAGE)
        sock.recv(1)  # the last one stands all the way
        opened = time.perf_counter() - begin
        return opened, round_trips(address), resident(pid)


def toxiproxy(stack: ExitStack, path: str, target: Address) -> tuple[Address, int]:
    """Start Toxiproxy with one proxy in it and no toxic; return where it listens, and its PID."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    server = stack.enter_context(
        subprocess.Popen(
            [path, "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    )
    stack.callback(server.terminate)
    wanted = {"name": "target", "listen": "127.0.0.1:0", "upstream": f"{target[0]}:{target[1]}"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/proxies", json.dumps(wanted).encode(), method="POST"
    )
    for attempt in range(50):
        try:
            with urllib.request.urlopen(request, timeout=5) as answered:
                host, listening = json.load(answered)["listen"].rsplit(":", 1)
                return (host, int(listening)), server.pid
        except OSError:
            if server.poll() is not None or attempt == 49:
                sys.exit(f"{path} did not start; expected the executable of a Toxiproxy server")
            time.sleep(0.1)
    raise AssertionError


def allow_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def resident(pid: int) -> int:
    """The bytes that a process has in memory, children left out; 0 where that isn't known."""
    statm = Path(f"/proc/{pid}/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else 0


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


Rounds = dict[str, list[float]]
"""What was measured in each round, by way."""


def ratio(seen: Rounds, one: str, other: str, less: str = "") -> float:
    """The median of one way's ratio to another, both `less` a third, where that makes sense."""
    base = seen[less] if less else [0.0] * len(seen[one])
    rounds = zip(seen[one], seen[other], base, strict=True)
    return statistics.median((a - c) / (b - c) for a, b, c in rounds)


def report(title: str, unit: str, scale: float, seen: Rounds) -> None:
    """Print the median of the rounds for each way, and its ratio to the direct one."""
    print(title)
    for name, values in seen.items():
        median = statistics.median(values) * scale
        beside = f" {ratio(seen, name, 'direct'):>6.2f} x direct" if "direct" in seen else ""
        print(f"  {name:10} {median:>10,.1f} {unit:5}{beside}".rstrip())


def compare(title: str, found: float, *, most: float | None = None, least: float = 0.0) -> bool:
    """Print how the embedded proxy compares with Toxiproxy; tell whether that is as promised."""
    good = least <= found and (most is None or found <= most)
    promise = f"promised: at most {most:g}" if most else f"promised: at least {least:g}"
    verdict = "" if most is None and not least else f"  ({promise}: {'yes' if good else 'NO'})"
    print(f"  {title:44} {found:>6.2f} x Toxiproxy's{verdict}")
    return good


def toxiproxy_path() -> str | None:
    """A Toxiproxy server that is installed."""
    places = [os.environ.get("GOBIN"), str(Path.home() / "go" / "bin")]
    path = os.pathsep.join(place for place in (os.environ.get("PATH"), *places) if place)
    return shutil.which("toxiproxy-server", path=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toxiproxy", metavar="PATH", help="a Toxiproxy server's executable")
    parser.add_argument("--check", action="store_true", help="fail where a promise is not kept")
    options = parser.parse_args()
    if options.toxiproxy and shutil.which(options.toxiproxy) is None:
        parser.error(f"--toxiproxy: a program's path is expected, found {options.toxiproxy!r}")
    path = options.toxiproxy or toxiproxy_path()
    if path is None:
        print("toxiproxy-server is not installed: the embedded proxy is NOT compared with it")
        if options.check:
            sys.exit(2)
    allow_descriptors()
    context = get_context("spawn")
    with ExitStack() as stack:
        lines: list[Address] = []
        pids: dict[str, int] = {}
        for name, function, further in (("direct", serve, ()), ("embedded", embed, (0,))):
            ours, theirs = context.Pipe()
            arguments = (theirs, *(lines[each] for each in further))
            process = context.Process(target=function, args=arguments, daemon=True)
            process.start()
            stack.callback(process.terminate)
            lines.append(ours.recv())
            stack.callback(ours.close)
            pids[name] = process.pid or 0
        ways = {"direct": lines[0], "embedded": lines[1]}
        if path is not None:
            ways["toxiproxy"], pids["toxiproxy"] = toxiproxy(stack, path, lines[0])
        kept = measure(ways, pids)
    if options.check and not kept:
        sys.exit(1)


def measure(ways: dict[str, Address], pids: dict[str, int]) -> bool:
    """Measure all, print it, and tell whether what is promised is kept."""
    rounds = [list(ways)[turn % len(ways) :] + list(ways)[: turn % len(ways)] for turn in range(99)]
    median: Rounds = {name: [] for name in ways}
    worst: Rounds = {name: [] for name in ways}
    bulk: Rounds = {name: [] for name in ways}
    for order in rounds[:ROUNDS]:
        for name in order:
            times = round_trips(ways[name])
            median[name].append(statistics.median(times))
            worst[name].append(p99(times))
        for name in order:
            bulk[name].append(throughput(ways[name]))
    opened: Rounds = {name: [] for name in ways}
    beside: Rounds = {name: [] for name in ways}
    memory: Rounds = {name: [] for name in ways if name != "direct"}
    for order in rounds[:IDLE_ROUNDS]:
        for name in order:
            before = resident(pids[name])
            seconds, times, after = beside_idle(ways[name], pids[name])
            opened[name].append(seconds)
            beside[name].append(statistics.median(times))
            if name in memory:
                memory[name].append(max(after - before, 0))
    report(f"round trip of {len(MESSAGE)} bytes, median", "us", 1e6, median)
    report(f"round trip of {len(MESSAGE)} bytes, p99", "us", 1e6, worst)
    report(f"throughput of {BULK >> 20} MiB", "MB/s", 1e-6, bulk)
    report(f"opening {IDLE:,} connections", "ms", 1e3, opened)
    report(f"round trip beside {IDLE:,} idle connections, median", "us", 1e6, beside)
    report(f"memory that {IDLE:,} idle connections take at first", "MB", 1e-6, memory)
    if "toxiproxy" not in ways:
        return True
    print("embedded against Toxiproxy")
    both = ("embedded", "toxiproxy")
    kept = [
        compare("latency added, median", ratio(median, *both, less="direct"), most=1.0),
        compare("latency added, p99", ratio(worst, *both, less="direct"), most=1.0),
        compare("throughput", ratio(bulk, *both), least=1.0),
        compare(f"latency added beside {IDLE:,} idle", ratio(beside, *both, less="direct")),
        compare(f"time to open {IDLE:,}", ratio(opened, *both)),
    ]
    return all(kept)


if __name__ == "__main__":
    main()
