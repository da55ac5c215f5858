"""Redaction: no secret leaves the session, in whatever form it comes back."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from pytest_agentstream.jsonl import read_recordings, write_recordings
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.redaction import Redactor, secrets_in

if TYPE_CHECKING:
    from pathlib import Path

SECRET = 's3cret/to ken"ü'
LATIN = SECRET.encode().decode("latin-1")


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        quote(SECRET, safe="").lower(),
        "s3cret%2Fto+ken%22%C3%BC",
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        LATIN,
    ],
)
def test_every_form_of_a_secret(form: str) -> None:
    """A secret is found as it is, percent-encoded, escaped as in JSON, and as a header has it."""
    assert Redactor([SECRET])(f"a {form} b") == "a [redacted] b"


def test_short_secrets_are_left_alone() -> None:
    """What is under four characters would be found everywhere."""
    assert Redactor(["abc", ""])("abcabc") == "abcabc"


def test_the_longest_secret_goes_first() -> None:
    """Of a secret that contains another no rest is left."""
    assert Redactor(["token", "token-and-more"])("token-and-more") == "[redacted]"


@pytest.mark.parametrize("length", range(1, 30))
def test_a_cut_shows_no_part_of_a_secret(length: int) -> None:
    """However short the beginning is, there is all of the mark or nothing of the secret."""
    secret = "0123456789"
    text = f"ab{secret}cd{secret}ef"
    redact = Redactor([secret])
    wanted = "ab[redacted]cd[redacted]ef"
    for data in (text, text.encode()):
        begun = redact.beginning(data, length)
        assert wanted.startswith(begun)
        assert len(begun) >= min(length, 2)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Authorization", "Bearer abcdefgh", ["Bearer abcdefgh", "abcdefgh"]),
        ("x-api-key", "abcdefgh", ["abcdefgh", ""]),
        ("Cookie", "sid=abcdefgh; lang=en", ["abcdefgh"]),
        ("Set-Cookie", 'sid="abcdefgh"; Path=/somewhere; Secure', ["abcdefgh"]),
        ("Accept", "text/event-stream", []),
    ],
)
def test_what_is_secret_in_a_header(name: str, value: str, expected: list[str]) -> None:
    """A credential is secret with and without its scheme, a cookie without its name."""
    assert secrets_in(name, value) == expected


def recording(
    *chunks: bytes, headers: tuple[tuple[str, str], ...] = (), url: str = "http://127.0.0.1/chat"
) -> Recording:
    request = Request("POST", url, (("Authorization", f"Bearer {LATIN}"),), SECRET.encode())
    head = Head(200, "OK", "HTTP/1.1", headers, 0.1)
    made = tuple(Chunk(0.2 + number, data) for number, data in enumerate(chunks))
    return Recording(request, head, made, End(EndKind.COMPLETE, 9.0))


def test_recorded_bytes_keep_their_places() -> None:
    """A secret becomes stars, byte for byte, also across the border of two chunks."""
    raw = f"data: {SECRET}\n\n".encode()
    before = recording(raw[:9], raw[9:])
    after = Redactor([SECRET]).recording(before)
    assert after.body == b"data: " + b"*" * len(SECRET.encode()) + b"\n\n"
    assert [len(chunk.data) for chunk in after.chunks] == [9, len(raw) - 9]
    assert [(b.start, b.end) for b in after.blocks] == [(b.start, b.end) for b in before.blocks]
    assert after.request.body == b"*" * len(SECRET.encode())


def test_a_coded_body_is_undone_where_it_holds_a_secret() -> None:
    """A secret in a gzip body is found: the body is kept decoded, and a note says so."""
    coded = (("Content-Encoding", "gzip"),)
    redact = Redactor([SECRET])
    kept = redact.recording(recording(gzip.compress(b"data: 1\n\n"), headers=coded))
    assert (kept.coding, kept.body) == ("gzip", b"data: 1\n\n")
    undone = redact.recording(
        recording(gzip.compress(f"data: {SECRET}\n\n".encode()), headers=coded)
    )
    assert (undone.coding, undone.body) == ("", f"data: {'*' * len(SECRET.encode())}\n\n".encode())
    assert undone.notes == ("the content coding gzip was undone to redact secrets",)


def test_a_file_of_redacted_runs(tmp_path: Path) -> None:
    """Nothing secret is in the file: URL, headers of both directions, bodies, end, captures."""
    query = f"http://127.0.0.1/chat?key={quote(SECRET)}"
    one = recording(f"data: {SECRET}\n\n".encode(), headers=(("X-Echo", LATIN),), url=query)
    run = Run("complete", "mapped", (one,), f"gone {SECRET}", (("token", SECRET),))
    path = tmp_path / "runs.jsonl"
    write_recordings(path, [Redactor([SECRET]).run(run)])
    text = path.read_text()
    assert "s3cret" not in text
    assert len(read_recordings(path)) == 1


def test_credentials_are_learnt_from_exchanges() -> None:
    """What was sent as a credential, or set as a cookie, is a secret from then on."""
    redact = Redactor()
    cookie = (("Set-Cookie", "sid=chocolate-chip; Path=/"),)
    redact.learn_from([recording(b"", headers=cookie)])
    assert redact("a chocolate-chip, a s3cret/to ken") == "a [redacted], a s3cret/to ken"
    assert redact(LATIN) == "[redacted]"
