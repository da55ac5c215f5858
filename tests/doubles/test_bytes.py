"""What goes over the wire, byte by byte, where an SDK would not tell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h11
import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.doubles.conftest import DIALECTS, Raw, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles.conftest import Running

TERMINALS = {
    "openai-chat": b"data: [DONE]",
    "openai-responses": b"event: response.completed",
    "anthropic": b"event: message_stop",
}
MODELS: dict[str, TypeAdapter[Any]] = {
    "openai-chat": TypeAdapter(ChatCompletionChunk),
    "openai-responses": TypeAdapter(ResponseStreamEvent),
    "anthropic": TypeAdapter(RawMessageStreamEvent),
}


def chunks(raw: Raw) -> list[bytes]:
    """The body's chunks, as they were framed, and b"" for its end."""
    found: list[bytes] = []
    rest = raw.body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        assert len(rest) >= length + 2, f"{length} bytes were announced, {len(rest)} came"
        found.append(rest[:length])
        rest = rest[length + 2 :]
    return found


def events(raw: Raw) -> list[tuple[str, str]]:
    """The stream's events: name and data."""
    parts = b"".join(chunks(raw)).decode().split("\n\n")
    assert parts.pop() == ""
    found = []
    for part in parts:
        name, _, data = part.rpartition("data: ")
        found.append((name.removeprefix("event: ").strip(), data))
    return found


@pytest.mark.parametrize(
    "steps", ["say 3 words; tool a {}; and tool b", "empty", "error-event 429", "finish length"]
)
def test_every_event_is_valid(dialect: str, double: Running, steps: str) -> None:
    """Every event validates strictly against the official models, and its name is its type."""
    raw = double.raw(dialect, script(steps)).read_until(b"\r\n0\r\n\r\n")
    for name, data in events(raw):
        if data == "[DONE]" or name in {"ping", "error"}:
            continue
        told = json.loads(data)
        if "error" in told and dialect == "openai-chat":
            continue
        MODELS[dialect].validate_python(told)
        assert name == ("" if dialect == "openai-chat" else told["type"])
    raw.leave()


def test_sequence_numbers(double: Running) -> None:
    """The events of Responses are numbered without a hole."""
    raw = double.raw("openai-responses", script("say 3 words; tool a {}"))
    told = [json.loads(data) for _, data in events(raw.read_until(b"\r\n0\r\n\r\n"))]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    raw.leave()


def test_usage_of_chat(double: Running) -> None:
    """With include_usage the last chunk has usage and no choices, the others null; else none."""
    more = {"stream_options": {"include_usage": True}}
    raw = double.raw("openai-chat", script("say 3 words"), **more)
    *told, done = [data for _, data in events(raw.read_until(b"\r\n0\r\n\r\n"))]
    *others, last = [json.loads(data) for data in told]
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert all(one["usage"] is None for one in others)
    raw.leave()
    plain = double.raw("openai-chat", script("say 3 words")).read_until(b"\r\n0\r\n\r\n")
    assert b"usage" not in plain.body
    plain.leave()


def test_a_whole_stream(dialect: str, double: Running) -> None:
    """A stream has its content type and its terminal, and ends well; the connection stays open."""
    raw = double.raw(dialect, script("say 3 words")).read_until(b"\r\n0\r\n\r\n")
    assert raw.status == 200
    assert "content-type: text/event-stream" in raw.head
    assert TERMINALS[dialect] in chunks(raw)[-2]
    raw.leave()


@pytest.mark.parametrize("steps", ["no-done", "no-done; no-finish"])
def test_no_terminal(dialect: str, double: Running, steps: str) -> None:
    """Without its terminal the stream still ends well."""
    raw = double.raw(dialect, script(f"{steps}; say 3 words")).read_until(b"\r\n0\r\n\r\n")
    assert TERMINALS[dialect] not in raw.data
    raw.leave()


def test_a_cut(dialect: str, double: Running) -> None:
    """A cut comes between two events, with no end of the body."""
    raw = double.raw(dialect, script("say 3 words; cut")).read_all()
    assert chunks(raw)[-1].endswith(b"\n\n")
    assert b"word3" in chunks(raw)[-1]
    assert raw.end == "fin"


def test_a_cut_within_a_chunk(dialect: str, double: Running) -> None:
    """A cut within a chunk leaves less than the chunk announced."""
    raw = double.raw(dialect, script("say 3 words; cut mid-chunk")).read_all()
    with pytest.raises(AssertionError, match="were announced"):
        chunks(raw)
    assert raw.end == "fin"


def test_a_cut_before_the_head(dialect: str, double: Running) -> None:
    """Nothing comes before a cut of the head."""
    raw = double.raw(dialect, script("cut head")).read_all()
    assert (raw.data, raw.end) == (b"", "fin")


def test_split(dialect: str, double: Running) -> None:
    """A character of several bytes is cut, into two chunks and two arrivals."""
    raw = double.raw(dialect, script('say "é"; split; say "☕ 🍰 plain"'))
    raw.read_until(b"\r\n0\r\n\r\n").leave()
    found = chunks(raw)
    halves = [one for one in found if not _is_utf8(one)]
    coffee, cake = "☕".encode(), "🍰".encode()
    assert [one[-1:] for one in halves[0:4:2]] == [coffee[:1], cake[:1]]
    assert [one[:2] for one in halves[1:4:2]] == [coffee[1:], cake[1:3]]
    assert not any(coffee in piece for piece in raw.pieces[: raw.pieces.index(_holding(raw, cake))])
    assert b"\\u" not in raw.data
    assert any("é".encode() in one for one in found if _is_utf8(one))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _holding(raw: Raw, character: bytes) -> bytes:
    return next(piece for piece in raw.pieces if character[1:] in piece)


def test_split_deltas(double: Running) -> None:
    """With `split deltas` each delta has half a surrogate pair."""
    raw = double.raw("openai-chat", script('split deltas; say "a🍰b"'))
    told = [json.loads(data) for _, data in events(raw.read_until(b"\r\n0\r\n\r\n"))[:-1]]
    said = [one["choices"][0]["delta"].get("content") for one in told]
    assert said == ["", "a\ud83c", "\udf70b", None]
    raw.leave()


def test_garbage(dialect: str, double: Running) -> None:
    """One event is no JSON, and those around it are."""
    raw = double.raw(dialect, script("say 1 word; garbage; say 1 word"))
    told = [data for _, data in events(raw.read_until(b"\r\n0\r\n\r\n")) if data != "[DONE]"]
    broken = [data for data in told if not _is_json(data)]
    assert len(broken) == 1
    assert TERMINALS[dialect] in raw.data
    raw.leave()


def _is_json(data: str) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def test_content_type(dialect: str, double: Running) -> None:
    """A wrong content type is the only thing that is wrong."""
    raw = double.raw(dialect, script("content-type text/plain; say 2 words"))
    raw.read_until(b"\r\n0\r\n\r\n").leave()
    assert "content-type: text/plain\r\n" in raw.head
    assert TERMINALS[dialect] in raw.data


def test_html(dialect: str, double: Running) -> None:
    """An HTML page is one, whatever its status."""
    for steps, status in (("html", 502), ("html 200", 200)):
        raw = double.raw(dialect, script(steps)).read_until(b"</html>")
        raw.leave()
        assert (raw.status, "content-type: text/html" in raw.head) == (status, True)


@pytest.mark.parametrize(
    "steps", ["stall", "say 2 words; stall", "silence 10m", "every 10m; say 2 words"]
)
def test_silence(dialect: str, double: Running, steps: str, leaving: Callable[[Raw], Raw]) -> None:
    """The head and what was said come at once, and then nothing, with the connection open."""
    raw = leaving(double.raw(dialect, script(f"tag quiet; {steps}")))
    raw.read_until(b"\r\n\r\n")
    if "words" in steps:
        raw.read_until(b"word2" if steps.startswith("say") else b"word1")
    raw.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        raw.read_all()
    assert double.wait_for("quiet").ended is None


def test_a_silence_at_the_beginning(
    dialect: str, double: Running, leaving: Callable[[Raw], Raw]
) -> None:
    """Before a silence at the beginning of a turn there is a head, and no event."""
    raw = leaving(double.raw(dialect, script("tag quiet; silence 10m; say 1 word")))
    raw.read_until(b"\r\n\r\n").sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        raw.read_all()
    assert raw.body == b""


@pytest.mark.parametrize("steps", ["stall head", "head after 10m; say 1 word"])
def test_no_head(dialect: str, double: Running, steps: str, leaving: Callable[[Raw], Raw]) -> None:
    """Not even the head comes, with the connection open."""
    raw = leaving(double.raw(dialect, script(f"tag quiet; {steps}")))
    call = double.wait_for("quiet")
    raw.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        raw.read_all()
    assert (raw.data, call.status, call.sent, call.ended) == (b"", None, 0, None)


def test_http_is_sound(double: Running) -> None:
    """Every answer that ends well is sound HTTP/1.1, by h11's client."""
    for dialect in DIALECTS:
        for steps in ("say 3 words", "status 429 retry-after 1", "html", "error-event", "split"):
            raw = double.raw(dialect, script(steps))
            client = h11.Connection(h11.CLIENT)
            client.send(h11.Request(method="POST", target="/", headers=[("Host", "double")]))
            client.send(h11.EndOfMessage())
            while raw.read():
                client.receive_data(raw.pieces[-1])
                while (event := client.next_event()) is not h11.NEED_DATA:
                    if isinstance(event, h11.EndOfMessage):
                        break
                if client.their_state is h11.DONE:
                    break
            assert client.their_state is h11.DONE
            raw.leave()
