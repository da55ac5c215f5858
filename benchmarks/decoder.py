"""Compare the decoder with the SSE decoders of popular Python packages on the same bytes.

Run it with `python -m benchmarks.decoder`; the packages are in the dependency group `bench`. Of
every event, whoever decodes it, the type, the data and the id are read, so that lazy work counts.
Of each package the innermost decoder is used, without its HTTP response around it, which is to its
advantage. Nobody else keeps offsets, raw bytes, comments or times.
"""

from __future__ import annotations

import argparse
import codecs
import gc
import importlib
import importlib.metadata
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from pytest_agentstream.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Seen = tuple[str | None, str, str | None]  # type, data, id
    Decode = Callable[[Iterable[bytes]], Iterable[Seen]]

CHUNK = 16 * 1024
GROWTH = (10**3, 10**4, 10**5, 10**6)


def events_of_a_run(count: int) -> list[bytes]:
    """Return the bytes of `count` token events, one item an event."""
    return [
        b'id: run_7f3a/%d\nevent: token\ndata: {"type":"token","seq":%d,"text":"a few words"}\n\n'
        % (seq, seq)
        for seq in range(count)
    ]


def in_chunks_of(size: int, body: bytes) -> list[bytes]:
    """Return `body` cut every `size` bytes, wherever that is."""
    return [body[start : start + size] for start in range(0, len(body), size)]


def ours(chunks: Iterable[bytes]) -> Iterator[Seen]:
    decoder = Decoder()
    for at, chunk in enumerate(chunks):
        for block in decoder.feed(chunk, at):
            if (event := block.event) is not None:
                yield event.type, event.data, event.last_event_id


def httpx_sse(chunks: Iterable[bytes]) -> Iterator[Seen]:
    package: Any = importlib.import_module("httpx_sse._decoders")
    text = codecs.getincrementaldecoder("utf-8")("replace")
    lines, events = package.SSELineDecoder(), package.SSEDecoder()
    for chunk in chunks:
        for line in lines.decode(text.decode(chunk)):
            event = events.decode(line)
            if event is not None:
                yield event.event, event.data, event.id


def httpx2(chunks: Iterable[bytes]) -> Iterator[Seen]:
    package: Any = importlib.import_module("httpx2._sse")
    text = codecs.getincrementaldecoder("utf-8")("replace")
    parser = package._SSEParser()
    for chunk in chunks:
        for event in parser.decode(text.decode(chunk)):
            yield event.event, event.data, event.id


def openai(chunks: Iterable[bytes]) -> Iterator[Seen]:
    package: Any = importlib.import_module("openai._streaming")
    for event in package.SSEDecoder().iter_bytes(iter(chunks)):
        yield event.event, event.data, event.id


def anthropic(chunks: Iterable[bytes]) -> Iterator[Seen]:
    package: Any = importlib.import_module("anthropic._streaming")
    for event in package.SSEDecoder().iter_bytes(iter(chunks)):
        yield event.event, event.data, event.id


# distribution -> how to decode with it
PEERS: dict[str, Decode] = {
    "httpx-sse": httpx_sse,
    "httpx2": httpx2,
    "openai": openai,
    "anthropic": anthropic,
}


def installed(peers: dict[str, Decode]) -> dict[str, Decode]:
    """Return the peers that are installed, named with their versions; say which are not."""
    found: dict[str, Decode] = {}
    for name, decode in peers.items():
        try:
            found[f"{name} {importlib.metadata.version(name)}"] = decode
        except importlib.metadata.PackageNotFoundError:
            print(f"{name} is not installed and left out; it is in the dependency group `bench`")
    return found


def seconds(decode: Decode, chunks: list[bytes]) -> float:
    gc.collect()
    begin = time.perf_counter()
    for _ in decode(chunks):
        pass
    return time.perf_counter() - begin


def compare(decoders: dict[str, Decode], chunks: list[bytes], rounds: int) -> dict[str, float]:
    """Return the median seconds of each decoder; every round runs all of them."""
    expected = list(ours(chunks))
    for name, decode in decoders.items():
        if list(decode(chunks)) != expected:
            sys.exit(f"{name} sees other events than ours in the same bytes; nothing was compared")
    taken: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decode in decoders.items():
            taken[name].append(seconds(decode, chunks))
    return {name: statistics.median(times) for name, times in taken.items()}
