"""One run before all others: does the server under test start a stream at all, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from pytest_agentstream.dialects import builtin_names
from pytest_agentstream.evidence import WIDTH, cap, escape, fit, heading
from pytest_agentstream.recording import EndKind, Phase
from pytest_agentstream.requesting import REDIRECTS
from pytest_agentstream.server_log import shown

if TYPE_CHECKING:
    from pytest_agentstream.evidence import Numbering
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.process import ManagedProcess
    from pytest_agentstream.recording import Head, Recording
    from pytest_agentstream.redaction import Redactor
    from pytest_agentstream.setting_up import SetupFailed

SHOWN = 300
"""Bytes of an answer that are quoted, in at most MOST_LINES lines."""

MOST_LINES = 6


class PreflightFailed(Exception):
    """The suite can't begin; the text says what was sent, what came, and the setting to change."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the first run did not stream, and the setting that would change it, paste-ready."""

    why: str
    setting: str


def check(seen: Observation, numbering: Numbering, redact: Redactor) -> None:
    """Raise `PreflightFailed` unless the first run streamed at least one event."""
    refusal = refusal_of(seen.first, len(seen.events))
    if refusal is not None:
        raise PreflightFailed(describe(refusal, seen.first, numbering, redact))


def refusal_of(recording: Recording, events: int) -> Refusal | None:
    """Why an answer is no stream that can be judged, or None where it is one."""
    head = recording.head
    if head is None:
        return _unanswered(recording)
    if head.status in REDIRECTS and head.value("location") is not None:
        return _redirected(recording, head)
    if not 200 <= head.status < 300:
        return _REFUSED.get(head.status) or _refused_otherwise(head.status)
    said = f"it answered {head.status}"
    media = (head.value("content-type") or "no content type").split(";")[0].strip().lower()
    if not events and media in {"text/html", "application/xhtml+xml"}:
        return Refusal(f"{said} with an HTML page, not a stream", _URL)
    if not events and "json" in media:
        return Refusal(f"{said} with {media}, not a stream", _STREAMING)
    if recording.end.kind is EndKind.LIMIT:
        return Refusal(f"{said} with more than can be judged: {recording.end.detail}", _SHORTER)
    if events:
        return None
    if recording.end.kind is EndKind.TIMEOUT and recording.coding and not recording.body:
        return Refusal(
            f"{said} and sent nothing that can be decoded: {recording.end.detail}", _FLUSH
        )
    if recording.end.kind is EndKind.TIMEOUT:
        return Refusal(f"{said} and then sent no event for {recording.end.at:.1f} s", _PATIENCE)
    if not recording.ended_cleanly:
        return Refusal(f"{said} and broke off before the first event", _LOG)
    if not recording.body:
        return Refusal(f"{said} with an empty body", _BODY)
    if media == "text/event-stream" and not _has_fields(recording):
        return Refusal(f"{said} with an event stream of comments, and no event", _BODY)
    return Refusal(f"{said} ({media}), and nothing in its body is an event", _DIALECT)


def _has_fields(recording: Recording) -> bool:
    """Whether any line of the body is more than a comment."""
    return any(line.name for block in recording.blocks for line in block.lines)


def describe(refusal: Refusal, recording: Recording, numbering: Numbering, redact: Redactor) -> str:
    """The refusal as people read it: sent, got, and the setting."""
    got: list[str] = []
    if recording.head is not None:
        head = recording.head
        media = head.value("content-type") or "no content type"
        got.append(fit(f"{head.status} {head.reason}, {media}", redact))
        words = redact.beginning(recording.body, SHOWN)
        got += [cap(escape(line)) for line in words.splitlines() if line.strip()][:MOST_LINES]
    elif recording.end.detail:
        got.append(fit(recording.end.detail, redact))
    return "\n".join(
        [
            f"agentstream preflight: {fit(refusal.why, redact, 2 * WIDTH)}",
            f"  Sent  {heading(recording, numbering, redact)}",
            f"  To    {fit(recording.request.url, redact, 2 * WIDTH)}",
            *(f"  {'Got' if number == 0 else '':<6}{line}" for number, line in enumerate(got)),
            "  Set   " + refusal.setting.replace("\n", "\n        "),
        ]
    )


def unsent(why: str, setting: str, redact: Redactor) -> PreflightFailed:
    """That the first run could not even be asked for."""
    return PreflightFailed(
        f"agentstream preflight: the first run could not be asked for\n"
        f"  Why   {fit(why, redact, 4 * WIDTH)}\n"
        f"  Set   {fit(setting, redact, 4 * WIDTH)}"
    )


def with_log(
    failure: PreflightFailed, process: ManagedProcess | None, redact: Redactor
) -> PreflightFailed:
    """The failure, with what the server's process said, where the suite runs it."""
    if process is None:
        return failure
    lines = shown(process.log_tail().splitlines(), redact) or ["(nothing)"]
    end = [f"  Ended {process.name} {process.death.words}"] if process.death else []
    log = [f"  {'' if number else 'Log':<5} {line}" for number, line in enumerate(lines)]
    return PreflightFailed("\n".join([str(failure), *end, *log]))


def setup_failed(failure: SetupFailed, redact: Redactor, numbering: Numbering) -> PreflightFailed:
    """That a setup step was refused, or that its answer lacks what is to be captured."""
    recording = failure.recording
    refused = recording.head is None or not 200 <= recording.head.status < 300
    refusal = refusal_of(recording, 1) if refused else None
    if refusal is None:
        refusal = Refusal(str(failure), "what to capture, and where: capture = { … }")
    step = f"{recording.request.method} {urlsplit(recording.request.url).path}"
    named = Refusal(
        f"the setup step `{step}` failed: {refusal.why}",
        f"in [[tool.agentstream.setup]], or beside it: {refusal.setting}",
    )
    return PreflightFailed(describe(named, recording, numbering, redact))


def undetected(
    names: list[str], recording: Recording, numbering: Numbering, redact: Redactor
) -> str:
    """That an answer is a stream of no known dialect, or could be of several."""
    could = f"it could be any of {', '.join(names)}" if names else "its events are those of none"
    known = ", ".join(builtin_names())
    refusal = Refusal(
        f"the dialect could not be told from the first answer: {could}",
        f"the dialect: --agentstream-dialect NAME, one of {known};\n"
        "or --agentstream-dialect mine.toml, a description of your own (docs/dialects.md)",
    )
    return describe(refusal, recording, numbering, redact)


_URL = (
    "the start endpoint of your server, for instance\n--agentstream-url http://127.0.0.1:8000/chat"
)
_SCHEME = (
    "the start endpoint of your server, with https:// where it speaks TLS, for instance\n"
    "--agentstream-url https://localhost:8443/chat"
)
_BODY = (
    "what your server wants to be sent, under the names that it uses, for instance:\n"
    "[tool.agentstream.scenarios]\n"
    'complete = { json = { prompt = "Hello", stream = true } }'
)
_STREAMING = (
    "a request that asks for a stream, for instance\n"
    "[tool.agentstream.scenarios]\n"
    'complete = { json = { message = "Hello", stream = true } }'
)
_CREDENTIALS = (
    "credentials, from the environment:\n"
    "[tool.agentstream]\n"
    'headers = { Authorization = "Bearer {env:AGENT_TOKEN}" }'
)
_METHOD = (
    "the method that starts a run:\n"
    "[tool.agentstream.scenarios]\n"
    'complete = { method = "GET", query = { message = "Hello" } }'
)
_DIALECT = (
    "the dialect that your server speaks, for instance\n"
    "--agentstream-dialect generic-data    (agentstream dialects lists them)"
)
_PATIENCE = (
    "more patience, if the agent is that slow (seconds):\n"
    "[tool.agentstream.timeouts]\n"
    "head = 120\n"
    "first_event = 120"
)
_SLOWER = (
    "nothing here: wait until the server takes runs again, then try\n--agentstream-concurrency 1"
)
_SHORTER = (
    "a request whose answer is short and ends, for instance\n"
    "[tool.agentstream.scenarios]\n"
    'complete = { json = { message = "Say hello" } }'
)
_FLUSH = "nothing here: the server has to flush its compressor behind each event"
_LOG = "nothing here: the server's own log says why it failed"

_REFUSED = {
    401: Refusal("it wants credentials (401)", _CREDENTIALS),
    403: Refusal("it refuses these credentials (403)", _CREDENTIALS),
    404: Refusal("it knows nothing at this path (404)", _URL),
    405: Refusal("it does not start runs with this method (405)", _METHOD),
    400: Refusal("it does not understand the request (400)", _BODY),
    415: Refusal("it does not take this kind of body (415)", _BODY),
    422: Refusal("it does not accept this body (422)", _BODY),
    429: Refusal("it is asked too much already (429)", _SLOWER),
    503: Refusal("it takes no runs now (503)", _SLOWER),
}


def _redirected(recording: Recording, head: Head) -> Refusal:
    """A redirect that was not followed: to another origin, or one that a POST does not survive."""
    location = head.value("location") or ""
    if len(recording.notes) > 1:
        return Refusal(
            f"it redirects again and again, at last to {location} ({head.status}): "
            f"{len(recording.notes) - 1} redirects were followed",
            _URL,
        )
    url = urljoin(recording.request.url, location)
    return Refusal(
        f"it redirects to {location} ({head.status}), where the suite does not follow",
        f"the start endpoint itself, if that is your server:\n--agentstream-url {escape(url)}",
    )


def _refused_otherwise(status: int) -> Refusal:
    if status >= 500:
        return Refusal(f"it failed ({status})", _LOG)
    if 300 <= status < 400:
        return Refusal(f"it redirects elsewhere ({status})", _URL)
    return Refusal(f"it refuses ({status})", _BODY)


def _unanswered(recording: Recording) -> Refusal:
    end = recording.end
    match end.kind:
        case EndKind.REFUSED:
            return Refusal("nothing listens there (the connection was refused)", _URL)
        case EndKind.DNS:
            return Refusal("the host name does not resolve", _URL)
        case EndKind.TLS:
            return Refusal(
                "no TLS connection could be made",
                "the certificate authority, or http:// instead of https://:\n"
                '[tool.agentstream]\nca_file = "staging-ca.pem"',
            )
        case EndKind.TIMEOUT if end.phase is Phase.CONNECT:
            return Refusal(f"no connection within {end.at:.1f} s", _URL)
        case EndKind.TIMEOUT:
            return Refusal(
                f"it accepted the request and said nothing for {end.at:.1f} s", _PATIENCE
            )
        case EndKind.LIMIT:
            return Refusal(f"it answered without an end: {end.detail}", _URL)
        case EndKind.PROTOCOL:
            return Refusal("what it answered is not HTTP", _SCHEME)
        case EndKind.CUT | EndKind.RESET:
            return Refusal("it closed the connection without an answer", _SCHEME)
        case _:
            return Refusal(f"the exchange ended without an answer ({end.kind})", _URL)
