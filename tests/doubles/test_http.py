"""Paths, methods, limits and everything that is no good request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anthropic import Anthropic
from anyio.from_thread import start_blocking_portal
from openai import OpenAI

from pytest_agentstream.doubles import LlmDouble, answering, connection
from pytest_agentstream.doubles.connection import Connection
from tests.doubles.conftest import PATHS, Raw, Running, Speaker, body, request, script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.doubles.response import Response


@pytest.fixture
def small() -> Iterator[Running]:
    """A double that takes requests of 1,000 bytes."""
    made = LlmDouble(limit=1000)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(made):
        yield Running(made, portal)


def told(raw: Raw) -> Any:
    """The JSON of an answer, which has come whole."""
    while not raw.body or len(raw.body) < int(raw.head.partition("content-length: ")[2].split()[0]):
        assert raw.read(), raw.data
    raw.leave()
    return json.loads(raw.body)


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/v1"])
def test_paths(dialect: str, double: Running, prefix: str) -> None:
    """It does not matter whether a base URL has a version."""
    path = prefix + PATHS[dialect].removeprefix("/v1")
    content = json.dumps(body(dialect, script("say 2 words")))
    raw = Raw(double.origin, request(path, content)).read_until(b"\r\n0\r\n\r\n")
    raw.leave()
    assert b"word2" in raw.data


def test_the_environment(double: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the double's environment the official SDKs need no argument to reach it."""
    for name, value in double.double.environment.items():
        monkeypatch.setenv(name, value)
    asked: Any = [{"role": "user", "content": "Hello"}]
    with OpenAI() as openai, Anthropic() as anthropic:
        answer = openai.chat.completions.create(model="m", messages=asked)
        assert answer.choices[0].message.content == "ok"
        assert openai.responses.create(model="m", input="Hello").output_text == "ok"
        message: Any = anthropic.messages.create(model="m", max_tokens=1, messages=asked)
        assert message.content[0].text == "ok"
        assert anthropic.messages.count_tokens(model="m", messages=asked).input_tokens == 1


def test_models(double: Running) -> None:
    """Both SDKs can list models, and look at one."""
    with OpenAI(base_url=f"{double.origin}/v1", api_key="-") as openai:
        assert [model.id for model in openai.models.list()] == ["double"]
        assert openai.models.retrieve("gpt-x").id == "gpt-x"
    with Anthropic(base_url=double.origin, api_key="-") as anthropic:
        assert [model.id for model in anthropic.models.list()] == ["double"]
        assert anthropic.models.retrieve("claude-x").display_name == "claude-x"


def test_the_connection_is_used_again(double: Running) -> None:
    """A connection serves one request after another, streaming or not."""
    raw = double.raw("openai-chat", script("say 2 words")).read_until(b"\r\n0\r\n\r\n")
    for stream, ending in ((False, b'"ok"'), (True, b"[DONE]")):
        content = json.dumps(body("openai-chat", "Hello", stream=stream)).encode()
        raw.pieces.clear()
        raw.sock.sendall(request(PATHS["openai-chat"], content))
        raw.read_until(ending)
    raw.leave()
    assert len(double.calls) == 3


def test_unknown_paths(double: Running) -> None:
    """A path that is not spoken is 404 with those that are."""
    raw = Raw(double.origin, request("/v1/embeddings", "{}"))
    message = told(raw)["error"]["message"]
    assert raw.status == 404
    assert "the double speaks /v1/chat/completions, /v1/responses, /v1/messages" in message
    assert 'found POST "/v1/embeddings"' in message


def test_wrong_methods(dialect: str, double: Running) -> None:
    """A wrong method is 405, in the dialect's shape."""
    raw = Raw(double.origin, request(PATHS[dialect], "", method="GET"))
    assert "expected POST, found GET" in told(raw)["error"]["message"]
    assert raw.status == 405


@pytest.mark.parametrize(
    ("path", "status"), [("/", 404), ("/v1/models", 200), (PATHS["anthropic"], 405)]
)
def test_head(double: Running, path: str, status: int) -> None:
    """HEAD gets a head without a body, and the connection goes on."""
    raw = Raw(double.origin, request(path, "", method="HEAD")).read_until(b"\r\n\r\n")
    assert (raw.status, raw.body) == (status, b"")
    raw.pieces.clear()
    raw.sock.sendall(request("/v1/models", "", method="GET"))
    assert told(raw)["object"] == "list"


@pytest.mark.parametrize("sent", [False, True])
def test_a_fault_of_the_doubles(
    dialect: str,
    double: Running,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sent: bool,
) -> None:
    """A fault of the double is 500, or a cut behind the head, and one line of its log."""

    async def fail(turn: Any, dialect: Any, encoder: Any, response: Response, **more: Any) -> None:
        if sent:
            await response.head(200, "text/plain")
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(answering, "play", fail)
    raw = double.raw(dialect, script("tag fault; say 1 word")).read_until(b"\r\n\r\n")
    if sent:
        raw.read_all()
        assert (raw.status, raw.body) == (200, b"")
    else:
        assert raw.status == 500
        assert "ZeroDivisionError" in told(raw)["error"]["message"]
    call = double.wait_for("fault", ended=True)
    assert (call.status, call.cancelled) == (raw.status, None)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert r"ZeroDivisionError: two\nlines" in record.getMessage()


def test_a_fault_between_requests(
    double: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails before there is a request ends the connection, with one line of the log."""

    async def fail(self: Connection) -> None:
        raise ZeroDivisionError("nothing")

    monkeypatch.setattr(Connection, "request", fail)
    raw = Raw(double.origin, b"GET / HTTP/1.1\r\n\r\n").read_all()
    assert raw.data == b""
    (record,) = caplog.records
    assert "ZeroDivisionError: nothing" in record.getMessage()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the body must be JSON"),
        (b"{", "the body must be JSON"),
        (b"\xff", "the body must be JSON"),
        (b"[" * 100_000, "the body must be JSON"),
        (b'{"messages": ' + b"[" * 900 + b"]" * 900 + b"}", ""),
        (b"[]", "the body must be a JSON object; found []"),
        (b'{"messages": [{"role": "user"}], "input": "x"}', "`model` must be a name; found null"),
    ],
)
def test_bad_bodies(dialect: str, double: Running, content: bytes, message: str) -> None:
    """A body that is no request is 400, in the dialect's shape."""
    raw = Raw(double.origin, request(PATHS[dialect], content))
    answer = told(raw)
    assert raw.status == 400
    assert message in answer["error"]["message"]
    if dialect == "anthropic":
        assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    else:
        assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("dialect", "more", "message"),
    [
        ("openai-chat", {"messages": []}, "`messages` must not be empty"),
        ("openai-chat", {"messages": ["x"]}, "`messages` must be a list of objects"),
        ("openai-chat", {"n": 2}, "the double gives one choice; found 2"),
        ("openai-chat", {"n": []}, "the double gives one choice; found []"),
        ("openai-chat", {"tools": {}, "messages": 7}, "`messages` must be a list of objects"),
        ("openai-responses", {"background": True}, "so `background` is not spoken"),
        ("openai-responses", {"conversation": "c"}, "so `conversation` is not spoken"),
        ("openai-responses", {"input": [7]}, "`input` must be a list of objects"),
        ("anthropic", {"messages": []}, "messages: must not be empty"),
        ("anthropic", {"tool_choice": {"type": "tool", "name": "x"}}, "the tool x, which is not"),
    ],
)
def test_bad_requests(dialect: str, more: dict[str, Any], message: str, double: Running) -> None:
    """What the double can't take is said, and named."""
    raw = double.raw(dialect, "Hello", **more)
    assert message in told(raw)["error"]["message"]
    assert raw.status == 400


def test_a_deep_schema(dialect: str, double: Running) -> None:
    """A request that nests deep gets an answer too."""
    schema: Any = {"type": "string"}
    for _ in range(150):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    tool = {"type": "function", "name": "deep", "parameters": schema, "input_schema": schema}
    more = {"tools": [tool | {"function": tool}], "tool_choice": {"type": "any"}, "stream": False}
    raw = double.raw(dialect, "Hello", **more)
    raw.read_until(b"\r\n\r\n").leave()
    assert raw.status in {200, 400}


JUNK: list[Any] = [None, 7, "x", [], [[]], {}, {"type": 7}, {"type": "function"}, {"format": 7}]
FIELDS = ["tools", "tool_choice", "response_format", "text", "output_config", "stream_options"]


def test_odd_fields(dialect: str, double: Running) -> None:
    """Whatever is in the fields of a request, the answer is 200 or 400."""
    for field in [*FIELDS, "system", "instructions", "previous_response_id", "stream"]:
        for value in JUNK:
            raw = double.raw(dialect, script("say 1 word"), **{field: value})
            raw.read_until(b"\r\n\r\n").leave()
            assert raw.status in {200, 400}, (field, value)


def test_odd_messages(dialect: str, double: Running) -> None:
    """Whatever is in a message, the answer is 200 or 400."""
    for value in JUNK:
        for message in (value, {"role": value}, {"role": "assistant", "content": value}):
            name = "input" if dialect == "openai-responses" else "messages"
            raw = double.raw(dialect, "", **{name: [message, {"role": "user", "content": value}]})
            raw.read_until(b"\r\n\r\n").leave()
            assert raw.status in {200, 400}, message


def test_too_large(dialect: str, small: Running) -> None:
    """A request that is too large is 413, with the limit, before it has been sent."""
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\nHost: d\r\nContent-Length: 1001\r\n\r\n"
    raw = Raw(small.origin, head.encode())
    answer = told(raw)
    assert raw.status == 413
    assert answer["error"]["message"] == "the double takes at most 1000 bytes in one request"
    kind = "request_too_large" if dialect == "anthropic" else "invalid_request_error"
    assert answer["error"]["type"] == kind
    assert "connection: close" in raw.head


def test_too_large_in_chunks(small: Running) -> None:
    """A request that does not announce its size is stopped as soon as it is too large."""
    head = b"POST /v1/messages HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = Raw(small.origin, head + b"3e9\r\n" + b"x" * 1001)
    assert told(raw)["error"]["type"] == "request_too_large"
    assert raw.status == 413


def test_sdks_understand_too_large(speaker: Speaker, small: Running) -> None:
    """An SDK that sends too much gets to read why."""
    heard = speaker.ask(small.origin, "x" * 1_000_000)
    assert "at most 1000 bytes" in str(heard.failure)


@pytest.mark.parametrize(
    "junk", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
def test_no_http(double: Running, junk: bytes) -> None:
    """What is no HTTP/1.1 is 400, and the connection is closed."""
    raw = Raw(double.origin, junk)
    assert "malformed HTTP" in told(raw)["error"]["message"]
    assert raw.status == 400


def test_a_long_head(double: Running) -> None:
    """A head that does not end is 431."""
    raw = Raw(double.origin, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert told(raw)["error"]["message"]
    assert raw.status == 431


@pytest.mark.parametrize(
    "begun",
    [
        b"P",
        b"POST /v1/messages HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_a_slow_request(double: Running, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """A request that does not end is 408, whether its head is slow or its body."""
    monkeypatch.setattr(connection, "REQUEST_LIMIT", 0.01)
    raw = Raw(double.origin, begun)
    assert "did not come within 0.01 s" in told(raw)["error"]["message"]
    assert raw.status == 408


def test_expecting_to_go_on(double: Running) -> None:
    """A client that waits for 100 Continue gets it."""
    content = json.dumps(body("anthropic", "Hello"))
    whole = request("/v1/messages", content, "Expect: 100-continue").decode()
    head, _, rest = whole.partition("{")
    raw = Raw(double.origin, head.encode()).read_until(b"100")
    raw.sock.sendall(b"{" + rest.encode())
    raw.read_until(b"message_stop").leave()
    assert raw.status == 100


def test_http_1_0(double: Running) -> None:
    """A client of HTTP/1.0 gets a body that ends with the connection."""
    content = json.dumps(body("openai-chat", script("say 2 words")))
    sent = request(PATHS["openai-chat"], content, version="1.0")
    raw = Raw(double.origin, sent).read_all()
    assert raw.body.endswith(b"data: [DONE]\n\n")


def test_a_peer_that_sends_ahead(double: Running) -> None:
    """A peer that sends and sends while it is being answered is cut off."""
    raw = double.raw("openai-chat", script("tag ahead; stall"))
    double.wait_for("ahead")
    with pytest.raises(ConnectionError):  # noqa: PT012 - which one of them fails is open
        while True:
            raw.sock.sendall(b"x" * 65536)
    raw.leave()
    double.wait_for("ahead", ended=True)


def test_a_port_in_use(double: Running) -> None:
    """A port in use is an OSError."""

    async def listen() -> None:
        async with LlmDouble(port=int(double.origin.rpartition(":")[2])):
            pass

    with pytest.raises(OSError, match="in use"):
        anyio.run(listen)
