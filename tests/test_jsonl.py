"""Recordings in files: lossless, redacted, and errors that name file, line and expectation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentstream.jsonl import RecordingError, read_recordings, write_recordings
from pytest_agentstream.recording import (
    Chunk,
    End,
    EndKind,
    Head,
    Headers,
    Phase,
    Recording,
    Request,
    Run,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

texts = st.text(max_size=20)
seconds = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
headers = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
data = st.binary(max_size=40) | texts.map(str.encode)
exchanges = st.builds(
    Recording,
    request=st.builds(Request, method=texts, url=texts, headers=headers, body=data),
    head=st.none()
    | st.builds(
        Head, status=st.integers(100, 599), reason=texts, version=texts, headers=headers, at=seconds
    ),
    chunks=st.lists(st.builds(Chunk, at=seconds, data=data), max_size=4).map(tuple),
    end=st.builds(
        End,
        kind=st.sampled_from(EndKind),
        at=seconds,
        phase=st.none() | st.sampled_from(Phase),
        detail=texts,
    ),
    started=texts,
    connected=st.none() | seconds,
    lag=seconds,
    denied=seconds,
    timed=st.booleans(),
    notes=st.lists(texts, max_size=2).map(tuple),
)
runs = st.builds(
    Run,
    scenario=texts,
    control=texts,
    exchanges=st.lists(exchanges, max_size=3).map(tuple),
    synthetic=texts,
    unwaited=texts,
)


def as_they_are(given: Headers) -> Headers:
    return given


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(runs, max_size=3))
def test_what_is_written_is_read(tmp_path: Path, written: list[Run]) -> None:
    """Every run comes back as it was written: bytes, times, order and all."""
    path = tmp_path / "runs.jsonl"
    write_recordings(path, written, redact=as_they_are)
    assert read_recordings(path) == written


SECRETS = (
    ("Authorization", "Bearer s3cret"),
    ("COOKIE", "s3cret"),
    ("Set-Cookie", "s3cret"),
    ("Proxy-Authorization", "s3cret"),
    ("x-api-key", "s3cret"),
    ("Accept", "text/event-stream"),
)
RUN = Run(
    "complete",
    "default",
    (
        Recording(
            Request("POST", "http://127.0.0.1/runs", SECRETS, b'{"message": "\xc3\xbc"}'),
            Head(200, "OK", "HTTP/1.1", SECRETS, 0.1),
            (Chunk(0.2, b"data: \xff\n\n"), Chunk(0.3, "data: ü\n\n".encode())),
            End(EndKind.COMPLETE, 0.4, None, "the last chunk"),
        ),
    ),
    captured=(("token", "s3cret"),),
)


def test_credentials_are_not_written(tmp_path: Path) -> None:
    """Credentials in headers of either direction, and captured values, never reach the file."""
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [RUN])
    assert "s3cret" not in path.read_text()
    request = read_recordings(path)[0].first.request
    assert request.headers[0] == ("Authorization", "[redacted]")
    assert request.headers[-1] == ("Accept", "text/event-stream")


def test_redaction_can_be_replaced(tmp_path: Path) -> None:
    """Another redaction is applied to all headers instead."""
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [RUN], redact=lambda _: (("only", "this"),))
    first = read_recordings(path)[0].first
    assert first.head is not None
    assert first.request.headers == first.head.headers == (("only", "this"),)


def test_one_line_a_record(tmp_path: Path) -> None:
    """A file has a header line, and a line for each run and exchange, in ASCII."""
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [RUN, RUN])
    lines = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert lines[0] == {"format": "agentstream-recording", "version": 1, "runs": 2}
    assert [list(line) for line in lines[1:]] == [["run"], ["exchange"]] * 2
    assert lines[2]["exchange"]["chunks"] == [
        {"at": 0.2, "data": {"base64": "ZGF0YTog/woK"}},
        {"at": 0.3, "data": "data: ü\n\n"},
    ]


def test_times_must_be_finite(tmp_path: Path) -> None:
    """A time that is not a finite number is never written, since JSON has none."""
    broken = Recording(Request("GET", ""), None, (), End(EndKind.UNKNOWN, float("nan")))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_recordings(tmp_path / "runs.jsonl", [Run("", "", (broken,))])


def replaced(line: int, *steps: str | int, by: Any) -> Callable[[list[str]], list[str]]:
    def edit(lines: list[str]) -> list[str]:
        document = json.loads(lines[line])
        *parents, last = steps
        place = document
        for step in parents:
            place = place[step]
        if by is None:
            del place[last]
        else:
            place[last] = by
        return [*lines[:line], json.dumps(document), *lines[line + 1 :]]

    return edit


BROKEN: dict[str, tuple[Callable[[list[str]], list[str]], int, list[str]]] = {
    "empty": (lambda _: [], 1, ["the file ends", "agentstream-recording"]),
    "foreign": (lambda _: ["GIF89a"], 1, ["expected a first line", "Invalid JSON"]),
    "other JSON": (lambda _: ['{"log": {}}'], 1, ["agentstream-recording", "format"]),
    "version": (replaced(0, "version", by=2), 1, ["version", "1", "found 2"]),
    "cut between lines": (lambda lines: lines[:2], 3, ["the file ends", "exchange 1 of 1"]),
    "more": (lambda lines: [*lines, lines[1]], 4, ["expected the end of the file"]),
    "no object": (lambda lines: [*lines[:1], "[]"], 2, ["run 1 of 1", "object"]),
    "no run": (lambda lines: [lines[0], lines[2]], 2, ["run 1 of 1", "run: Field required"]),
    "type": (replaced(2, "exchange", "head", "status", by="200"), 3, ["head.status", "integer"]),
    "missing": (replaced(2, "exchange", "end", by=None), 3, ["exchange.end: Field required"]),
    "unknown end": (replaced(2, "exchange", "end", "kind", by="gone"), 3, ["end.kind", "'reset'"]),
    "base64": (
        replaced(2, "exchange", "chunks", 0, "data", by={"base64": "?"}),
        3,
        ["chunks.0.data", "base64"],
    ),
    "data": (replaced(2, "exchange", "chunks", 0, "data", by=7), 3, ["chunks.0.data", "a text"]),
    "infinite": (replaced(2, "exchange", "lag", by=float("inf")), 3, ["finite number"]),
    "new key": (replaced(2, "exchange", "more", by=1), 3, ["exchange.more", "found 1"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path: Path, name: str) -> None:
    """A file that is not as described is an error that names file, line and what was expected."""
    edit, line, words = BROKEN[name]
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [RUN])
    path.write_text("".join(f"{each}\n" for each in edit(path.read_text().splitlines())))
    with pytest.raises(RecordingError) as caught:
        read_recordings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    for word in words:
        assert word in message


@given(st.integers(min_value=0, max_value=900))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_files(tmp_path: Path, length: int) -> None:
    """A file that ends too early is never read as a shorter one."""
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [RUN])
    whole = path.read_bytes()
    path.write_bytes(whole[: min(length, len(whole) - 2)])
    with pytest.raises(RecordingError, match="truncated"):
        read_recordings(path)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_file(tmp_path: Path, content: bytes) -> None:
    """Whatever else a file holds, the error is the documented one."""
    path = tmp_path / "runs.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError):
        read_recordings(path)
