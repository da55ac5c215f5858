"""Compare the decoder with the SSE decoders of popular Python packages on the same bytes.

Run it with `python -m benchmarks.decoder`; the packages are in the dependency group `bench`. Of
every event, whoever decodes it, the type, the data and the id are read, so that lazy work counts.
Of each package the innermost decoder is used, without its HTTP response around it, which is to its
advantage. Nobody else keeps offsets, raw bytes, comments or times.
"""

from __future__ import annotations

import codecs
import gc
import importlib
import importlib.metadata
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from pytest_agentstream.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Seen = tuple[str | None, str, str | None]  # type, data, id
    Decode = Callable[[Iterable[bytes]], Iterable[Seen]]

OURS = "pytest-agentstream"
CHUNK = 16 * 1024
EVENTS = 50_000
ROUNDS = 11
GROWTH = (10**3, 10**4, 10**5, 10**6)
LONG_LINE = 16 * 1024 * 1024


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


def compare(decoders: dict[str, Decode], chunks: list[bytes]) -> None:
    """Print events a second, the median of interleaved rounds, and how often ours is faster."""
    expected = list(ours(chunks))
    for name, decode in decoders.items():
        if list(decode(chunks)) != expected:
            sys.exit(
                f"{name} sees other events than {OURS} in the same bytes: compare like with like"
            )
    rounds = [
        {name: seconds(decode, chunks) for name, decode in decoders.items()} for _ in range(ROUNDS)
    ]
    for name in decoders:
        median = statistics.median(times[name] for times in rounds)
        ratio = statistics.median(times[name] / times[OURS] for times in rounds)
        print(
            f"  {name:24} {len(expected) / median:>11,.0f} events/s   ours is {ratio:.2f} x as fast"
        )


def growth() -> None:
    """Print the time of an event in ever longer streams, and of a long line in small chunks."""
    print("growth, 16 KiB chunks")
    for count in GROWTH:
        chunks = in_chunks_of(CHUNK, b"".join(events_of_a_run(count)))
        fastest = min(seconds(ours, chunks) for _ in range(5))
        print(f"  {count:>9,} events          {fastest / count * 1e9:>7,.0f} ns an event")
    print("growth, one line in 64-byte chunks")
    for length in (LONG_LINE // 16, LONG_LINE // 4, LONG_LINE):
        chunks = in_chunks_of(64, b"data: " + b"a" * (length - 8) + b"\n\n")
        fastest = min(seconds(ours, chunks) for _ in range(3))
        print(f"  {length:>10,} bytes          {fastest / length * 1e9:>7.2f} ns a byte")


def main() -> None:
    decoders = {OURS: ours, **installed(PEERS)}
    events = events_of_a_run(EVENTS)
    print(f"{EVENTS:,} events, median of {ROUNDS} interleaved rounds")
    print("16 KiB chunks")
    compare(decoders, in_chunks_of(CHUNK, b"".join(events)))
    print("one event a chunk")
    compare(decoders, events)
    growth()


if __name__ == "__main__":
    main()
