"""Read one run to its end over connections that are cut at random places, and note what came."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from random import Random

ATTEMPTS = 400
PAUSE = 0.05
"""Seconds until the next attempt where nobody listens, or the server cannot."""
SILENCE = 10.0
"""Seconds without a byte after which a server counts as hung: heartbeats come every 0.1 s."""


@dataclass(frozen=True, slots=True)
class Event:
    """One whole block that came with an id."""

    seq: int
    type: str
    data: str


@dataclass(slots=True)
class Reading:
    """What one client saw of one run, over all its connections."""

    run: str = ""
    events: list[Event] = field(default_factory=list)
    lost: int = 0
    """Numbers that were left out, or that another answer contradicts."""
    twice: int = 0
    """Events that came again behind the cursor that was sent."""
    cuts: int = 0
    connections: int = 0
    wrong: list[str] = field(default_factory=list)
    """What should not have come at all."""

    @property
    def last(self) -> int:
        """The cursor's number."""
        return self.events[-1].seq if self.events else 0

    @property
    def over(self) -> bool:
        """Whether the terminal came."""
        return bool(self.events) and self.events[-1].type == "done"

    def take(self, event: Event) -> None:
        """Take the next event of a response to the cursor."""
        if event.seq <= self.last:
            self.twice += 1
            return
        self.lost += event.seq - self.last - 1
        self.events.append(event)


class Refused(Exception):
    """The server answered with another status."""


async def read(ports: Sequence[int], scenario: str, key: str, chance: Random) -> Reading:
    """Start a run and read it to its end, cutting connections and changing replicas."""
    reading = Reading()
    for _ in range(ATTEMPTS):
        port = chance.choice(ports)
        cut = chance.choice((None, chance.randrange(1, 400), chance.randrange(1, 4_000)))
        reading.connections += 1
        try:
            await _once(port, _request(reading, scenario, key, chance), reading, cut)
        except Refused as refused:
            status, _, text = str(refused).partition(" ")
            if status not in ("503", "429"):
                reading.wrong.append(f"run {reading.run or key} at {reading.last}: {status} {text}")
                return reading
            await asyncio.sleep(PAUSE)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(PAUSE)
        if reading.over:
            return reading
    reading.wrong.append(f"run {reading.run or key}: not over after {ATTEMPTS} connections")
    return reading


async def whole(port: int, run: str) -> Reading:
    """Read a run that is over, from its start, at once."""
    reading = Reading(run)
    await _once(port, _get(run, 0), reading, None)
    return reading


def _request(reading: Reading, scenario: str, key: str, chance: Random) -> bytes:
    """Start, or join by key, or resume: repeating the start with a cursor resumes as well."""
    if reading.run and chance.random() < 0.7:
        return _get(reading.run, reading.last)
    body = json.dumps({"message": f"run {key}"}).encode()
    lines = ["POST /v1/runs HTTP/1.1", "Host: soak", f"Idempotency-Key: {key}"]
    lines += [f"X-Agentstream-Scenario: {scenario}", f"Content-Length: {len(body)}"]
    if reading.events:
        lines.append(f"Last-Event-ID: {reading.run}/{reading.last}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _get(run: str, after: int) -> bytes:
    lines = [f"GET /v1/runs/{run}/events HTTP/1.1", "Host: soak"]
    return "\r\n".join([*lines, f"Last-Event-ID: {run}/{after}", "", ""]).encode()


async def _once(port: int, request: bytes, reading: Reading, cut: int | None) -> None:
    """Read one response to its end, to the terminal, or to the cut after so many bytes."""
    source, sink = await asyncio.open_connection("127.0.0.1", port)
    try:
        sink.write(request)
        async with asyncio.timeout(SILENCE):
            head = (await source.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = head[0].split(" ")[1]
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
        }
        if status != "200":
            size = int(headers.get("content-length", 0))
            raise Refused(f"{status} {(await source.readexactly(size)).decode()}")
        _same_run(reading, headers)
        rest, got = b"", 0
        async for piece in _chunks(source):
            got += len(piece)
            if cut is not None and got > cut:
                piece = piece[: cut - got]
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                _take(reading, block.decode())
            if cut is not None and got > cut:
                reading.cuts += 1
                return
    except TimeoutError:
        reading.wrong.append(f"run {reading.run}: {SILENCE:g} s of silence behind {reading.last}")
    finally:
        sink.transport.abort()


async def _chunks(source: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(SILENCE):
            size = int((await source.readuntil(b"\r\n")).strip(), 16)
            data = (await source.readexactly(size + 2))[:size]
        if not data:
            return
        yield data


def _same_run(reading: Reading, headers: Mapping[str, str]) -> None:
    run = headers["agentstream-run"]
    if reading.run and run != reading.run:
        reading.wrong.append(f"run {reading.run}: its key or cursor gave {run}")
    reading.run = reading.run or run


def _take(reading: Reading, block: str) -> None:
    fields = dict(
        line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
    )
    if "id" in fields:
        seq = int(fields["id"].rpartition("/")[2])
        reading.take(Event(seq, fields["event"], fields["data"]))
