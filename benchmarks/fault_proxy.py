"""Compare the embedded fault proxy, nothing injected, with a direct connection and Toxiproxy.

Run it with `python -m benchmarks.fault_proxy [--toxiproxy PATH]`, the path of a Toxiproxy server's
executable. Client, server and proxies are processes of their own; the client measures, with sockets
that block, each way in turn, round for round. Lower is better for latency.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
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


def beside_idle(address: Address) -> tuple[float, list[float]]:
    """Return the seconds to open many connections, and round trips beside them."""
    with ExitStack() as stack:
        begin = time.perf_counter()
        for _ in range(IDLE):
            sock = stack.enter_context(closing(connect(address, ECHO)))
        sock.sendall(MESSAGE)
        sock.recv(1)  # the last one stands all the way
        opened = time.perf_counter() - begin
        return opened, round_trips(address)


def toxiproxy(stack: ExitStack, path: str, target: Address) -> Address:
    """Start Toxiproxy with one proxy in it and no toxic, and return where it listens."""
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
                return host, int(listening)
        except OSError:
            if server.poll() is not None or attempt == 49:
                sys.exit(f"{path} did not start; expected the executable of a Toxiproxy server")
            time.sleep(0.1)
    raise AssertionError


def allow_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def report(title: str, unit: str, scale: float, seen: dict[str, list[float]]) -> None:
    """Print the median of the rounds for each way, and of its ratios to the direct one."""
    print(title)
    for name, values in seen.items():
        ratio = statistics.median(v / d for v, d in zip(values, seen["direct"], strict=True))
        median = statistics.median(values) * scale
        print(f"  {name:10} {median:>10,.1f} {unit:5} {ratio:>6.2f} x direct")


def added(seen: dict[str, list[float]]) -> None:
    """Print how much of the latency that Toxiproxy adds the embedded proxy adds."""
    if "toxiproxy" in seen:
        ratios = [
            (ours - direct) / (theirs - direct)
            for direct, ours, theirs in zip(
                seen["direct"], seen["embedded"], seen["toxiproxy"], strict=True
            )
        ]
        print(f"  added by embedded: {statistics.median(ratios):.2f} x what Toxiproxy adds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toxiproxy", metavar="PATH", help="a Toxiproxy server's executable")
    options = parser.parse_args()
    allow_descriptors()
    context = get_context("spawn")
    with ExitStack() as stack:
        lines: list[Address] = []
        for function, further in ((serve, ()), (embed, (0,))):
            ours, theirs = context.Pipe()
            arguments = (theirs, *(lines[each] for each in further))
            process = context.Process(target=function, args=arguments, daemon=True)
            process.start()
            stack.callback(process.terminate)
            lines.append(ours.recv())
            stack.callback(ours.close)
        ways = {"direct": lines[0], "embedded": lines[1]}
        if options.toxiproxy:
            ways["toxiproxy"] = toxiproxy(stack, options.toxiproxy, lines[0])
        measure(ways)


def measure(ways: dict[str, Address]) -> None:
    median: dict[str, list[float]] = {name: [] for name in ways}
    worst: dict[str, list[float]] = {name: [] for name in ways}
    bulk: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, address in ways.items():
            times = round_trips(address)
            median[name].append(statistics.median(times))
            worst[name].append(p99(times))
        for name, address in ways.items():
            bulk[name].append(throughput(address))
    opened: dict[str, list[float]] = {name: [] for name in ways}
    beside: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(IDLE_ROUNDS):
        for name, address in ways.items():
            seconds, times = beside_idle(address)
            opened[name].append(seconds)
            beside[name].append(statistics.median(times))
    report(f"round trip of {len(MESSAGE)} bytes, median", "us", 1e6, median)
    added(median)
    report(f"round trip of {len(MESSAGE)} bytes, p99", "us", 1e6, worst)
    added(worst)
    report(f"throughput of {BULK >> 20} MiB", "MB/s", 1e-6, bulk)
    report(f"opening {IDLE:,} connections", "ms", 1e3, opened)
    report(f"round trip beside {IDLE:,} idle connections, median", "us", 1e6, beside)


if __name__ == "__main__":
    main()
