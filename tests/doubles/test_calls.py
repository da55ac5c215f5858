"""What the double records of its calls, and how soon it notices that a peer has gone."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from openai import AsyncOpenAI

from pytest_agentstream.doubles import LlmDouble, answering
from pytest_agentstream.doubles.calls import Call, Calls
from pytest_agentstream.doubles.connection import Connection
from tests.doubles.conftest import PATHS, PATIENCE, Raw, Speaker, body, request, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.doubles.response import Response
    from tests.doubles.conftest import Running


def test_a_call(speaker: Speaker, double: Running) -> None:
    """A call is recorded with what it was, when it was and how many bytes it took."""
    before = time.monotonic()
    speaker.ask(double.origin, script("tag one; say 3 words"))
    call = double.wait_for("one", ended=True)
    assert double.calls == (call,)
    assert (call.path, call.dialect) == (PATHS[speaker.dialect], speaker.dialect)
    assert (call.tag, call.script) == ("one", "[[agentstream: tag one; say 3 words]]")
    assert (call.streaming, call.played, call.status, call.cancelled) == (True, True, 200, None)
    assert call.ended is not None
    assert before <= call.began <= call.ended <= time.monotonic()


def test_bytes(dialect: str, double: Running) -> None:
    """`sent` counts every byte of the response, its head included."""
    raw = double.raw(dialect, script("tag one; say 3 words; split; cut")).read_all()
    assert double.wait_for("one", ended=True).sent == len(raw.data)


@pytest.mark.parametrize(
    "steps",
    ["stall", "stall head", "silence 10m", "head after 10m", "say 2 words; every 10m; say 2 words"],
)
def test_a_peer_that_goes_meanwhile(dialect: str, double: Running, steps: str) -> None:
    """The going of a peer is noticed at once, also while nothing is sent."""
    raw = double.raw(dialect, script(f"tag gone; {steps}"))
    assert double.wait_for("gone").ended is None
    left = time.monotonic()
    raw.leave()
    call = double.wait_for("gone", ended=True)
    assert call.cancelled is not None
    assert call.ended is not None
    assert left <= call.cancelled <= call.ended


def test_a_peer_that_reads_no_more(dialect: str, double: Running) -> None:
    """A long answer stops when its reader goes, also where the reader had stopped to read."""
    raw = double.raw(dialect, script("tag gone; say 100000 words"))
    raw.read()
    call = double.wait_for("gone")
    raw.leave()
    call = double.wait_for("gone", ended=True)
    assert call.cancelled is not None


def test_half_a_close(double: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that ends its side and reads no more does not keep its connection open."""
    size = 64_000_000  # more than the system takes for a peer that does not read

    async def play(turn: Any, dialect: Any, encoder: Any, response: Response, **more: Any) -> None:
        await response.whole(200, b"x" * size)

    monkeypatch.setattr(answering, "play", play)
    raw = double.raw("openai-chat", script("tag half; say 1 word"))
    raw.read()
    raw.sock.shutdown(socket.SHUT_WR)
    assert double.wait_for("half", ended=True).cancelled is not None
    assert len(raw.read_all().data) < size


def test_an_sdk_that_closes_its_stream(double: Running) -> None:
    """A stream that the SDK closes early is a call that its peer cancelled."""

    async def leave_early() -> Call:
        async with (
            LlmDouble() as made,
            AsyncOpenAI(base_url=f"{made.origin}/v1", api_key="-") as sdk,
        ):
            asked: Any = body("openai-chat", script("tag early; say 3 words; stall"))
            async with await sdk.chat.completions.create(**asked) as stream:
                async for _ in stream:
                    break
            return await made.wait_for("early", ended=True, seconds=PATIENCE)

    assert anyio.run(leave_early).cancelled is not None


LAST = {
    "openai-chat": b"data: [DONE]",
    "openai-responses": b"event: response.completed",
    "anthropic": b"event: message_stop",
}


@pytest.mark.parametrize("steps", ["say 2 words", "error-event"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_peer_that_goes_behind_the_last_frame(
    dialect: str, double: Running, monkeypatch: pytest.MonkeyPatch, stream: bool, steps: str
) -> None:
    """The last frame comes with the body's end, so that a peer may go as soon as it has that."""
    last = b"error" if steps == "error-event" else LAST[dialect] if stream else b"{"
    made = Connection.connection_made

    def connection_made(self: Connection, transport: Any) -> None:
        def write(data: bytes) -> None:
            sends(data)
            if last in data:
                self.eof_received()

        sends, transport.write = transport.write, write
        made(self, transport)

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    tagged = script(f"everywhere; tag whole; {steps}")
    double.raw(dialect, tagged, stream=stream).read_all()
    assert double.wait_for("whole", ended=True).cancelled is None


def test_a_cut_is_not_a_cancellation(dialect: str, double: Running) -> None:
    """What the double ends itself is not cancelled by the peer."""
    double.raw(dialect, script("tag cut; say 2 words; cut")).read_all()
    assert double.wait_for("cut", ended=True).cancelled is None


def test_minimal_answers(dialect: str, double: Running) -> None:
    """Minimal answers and bad scripts are recorded as not played, with their script and tag."""
    double.raw(dialect, script("tag one; say 3 words"), stream=False).read_until(b"ok").leave()
    double.raw(dialect, script("tag one; sya")).read_until(b"expected").leave()
    double.raw(dialect, "Hello").read_until(b"ok").leave()
    minimal, bad, plain = double.calls
    assert (minimal.tag, minimal.played, minimal.streaming) == ("one", False, False)
    assert (bad.tag, bad.played, bad.status) == (None, False, 400)
    assert bad.script == "[[agentstream: tag one; "
    assert (plain.tag, plain.script, plain.played) == (None, None, False)


def test_waiting() -> None:
    """Waiting finds the latest call with that tag that was played, and is told when none comes."""

    async def wait() -> None:
        calls = Calls()
        with pytest.raises(TimeoutError, match=r"no call tagged 'a' came within 0\.01 s"):
            await calls.wait_for("a", seconds=0.01)
        first, other, second = (
            Call("/", "anthropic", True, 0.0, tag=tag, played=played)
            for tag, played in (("a", True), ("a", False), ("a", True))
        )
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(calls.wait_for("a", seconds=PATIENCE))
            await asyncio.sleep(0)
            calls.begin(other)
            calls.begin(first)
        assert waiting.result() is first
        with pytest.raises(TimeoutError, match=r"no call tagged 'a' ended within 0\.01 s"):
            await calls.wait_for("a", ended=True, seconds=0.01)
        calls.begin(second)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(calls.wait_for("a", ended=True, seconds=PATIENCE))
            await asyncio.sleep(0)
            calls.end(second, None)
            await asyncio.sleep(0)
            assert not waiting.done()
            calls.end(first, None)
        assert waiting.result() is second

    anyio.run(wait)


def test_the_oldest_are_forgotten() -> None:
    """No more calls are remembered than there is room for."""

    async def begin() -> list[str]:
        calls = Calls(remembered=2)
        for path in "abc":
            calls.begin(Call(path, "anthropic", True, 0.0))
        return [call.path for call in calls.all]

    assert anyio.run(begin) == ["b", "c"]


def test_closing() -> None:
    """Closing ends every connection and leaves no task; such calls ended without a cancellation."""

    async def close() -> list[Call]:
        loop = asyncio.get_running_loop()
        before = asyncio.all_tasks()
        async with LlmDouble() as double:
            requests = [
                request(PATHS[dialect], json.dumps(body(dialect, script(steps))))
                for dialect, steps in (
                    ("anthropic", "tag a; stall"),
                    ("openai-chat", "tag b; stall head"),
                )
            ]
            requests.append(request("/v1/models", "", method="GET"))
            raws = [await loop.run_in_executor(None, Raw, double.origin, one) for one in requests]
            await double.wait_for("a", seconds=PATIENCE)
            await double.wait_for("b", seconds=PATIENCE)
        assert asyncio.all_tasks() == before
        for raw in raws:
            await loop.run_in_executor(None, raw.read_all)
        return list(double.calls)

    for call in anyio.run(close):
        assert call.ended is not None
        assert call.cancelled is None


def test_closing_while_somebody_connects() -> None:
    """A connection that is only just being accepted is ended by closing, too."""

    async def close() -> None:
        loop = asyncio.get_running_loop()
        async with LlmDouble() as double:
            sent = request("/v1/models", "", method="GET")
            raw = await loop.run_in_executor(None, Raw, double.origin, sent)
        await loop.run_in_executor(None, raw.read_all)

    for _ in range(20):
        anyio.run(close)


def test_many_at_once(double: Running, leaving: Callable[[Raw], Raw]) -> None:
    """Calls that go on at the same time don't mix."""
    raws = [
        leaving(double.raw("openai-chat", script(f'tag t{n}; every 1ms; say "a{n} b{n} c{n}"')))
        for n in range(20)
    ]
    for number, raw in enumerate(raws):
        raw.read_until(b"[DONE]")
        for word in "abc":
            assert f'"{word}{number}'.encode() in raw.data
        assert double.wait_for(f"t{number}", ended=True).cancelled is None
