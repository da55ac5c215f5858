"""What the head of a stream says, and whether its body is whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement
from pytest_agentstream.recording import EndKind
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.verdicts import NotApplicable, NotTested, expect

if TYPE_CHECKING:
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Head
    from pytest_agentstream.target import Target


def head_of(run: Observation) -> Head:
    """The response head of the first exchange; preflight has seen to it that there is one."""
    if run.first.head is None:
        raise NotTested("the exchange has no response head")
    return run.first.head


@requirement(
    "http.status-200",
    MUST,
    tier="core",
    text="A stream answers with status 200.",
    source="WHATWG HTML 9.2.3: any other status fails the connection; RFC 9110 15.3",
    breaks="EventSource, which gives up for good on any other status",
    hint="answer 200 where the stream itself is the answer; 201 or 202 belong to a start without one",
)
def test_status(complete_run: Observation, dialect: Dialect) -> None:
    head = head_of(complete_run)
    allowed = dialect.profile.response.status
    expect(
        head.status in allowed,
        expected=f"status {' or '.join(map(str, allowed))}",
        actual=f"status {head.status} {head.reason}",
        at=head_of(complete_run),
        recording=complete_run.first,
    )


@requirement(
    "http.content-type",
    MUST,
    tier="core",
    text="A stream's content type is text/event-stream, with no charset or with utf-8.",
    source="WHATWG HTML 9.2.3 and 9.2.5: always UTF-8; RFC 9110 8.3.1",
    breaks="EventSource, which gives up for good on another type",
    hint="send Content-Type: text/event-stream",
)
def test_content_type(complete_run: Observation, dialect: Dialect) -> None:
    values = head_of(complete_run).values("content-type")
    wanted = dialect.profile.response.content_type
    said = ", ".join(values) or "none"
    media, _, parameters = said.partition(";")
    expect(
        len(values) == 1 and media.strip().lower() == wanted,
        expected=f"the content type {wanted}",
        actual=f"the content type {said}",
        at=head_of(complete_run),
        recording=complete_run.first,
    )
    charset = re.search(r'charset\s*=\s*"?([^\s";]+)', parameters, re.IGNORECASE)
    expect(
        charset is None or charset[1].lower() in {"utf-8", "utf8"},
        expected="no charset, or utf-8: an event stream is always UTF-8",
        actual=f"the content type {said}",
        at=head_of(complete_run),
        recording=complete_run.first,
    )


@requirement(
    "http.no-content-length",
    SHOULD,
    tier="core",
    text="A live stream has no Content-Length.",
    source="RFC 9112 6.2: a length that is known beforehand means that the body was complete before",
    breaks="whoever waits: a body whose length is known was buffered whole before its first byte",
    hint="stream the body; do not build it first",
)
def test_no_content_length(complete_run: Observation) -> None:
    length = head_of(complete_run).value("content-length")
    expect(
        length is None,
        expected="no Content-Length",
        actual=f"Content-Length: {length}",
        at=head_of(complete_run),
        recording=complete_run.first,
    )


@requirement(
    "http.no-store",
    SHOULD,
    tier="core",
    text="A stream is not cacheable: no-store or no-cache for GET, no explicit freshness for POST.",
    source="RFC 9111 3 and 4.2; WHATWG HTML 9.2 fetches with cache mode no-store",
    breaks="caches in between, which may answer one user's stream to another",
    hint="send Cache-Control: no-store",
)
def test_no_store(complete_run: Observation) -> None:
    head = head_of(complete_run)
    said = head.value("cache-control") or ""
    directives = {part.strip().partition("=")[0].lower() for part in said.split(",")}
    shown = f"Cache-Control: {said}" if said else "no Cache-Control"
    if complete_run.first.request.method == "GET":
        expect(
            directives & {"no-store", "no-cache"},
            expected="Cache-Control with no-store or no-cache on a GET stream",
            actual=shown,
            at=head_of(complete_run),
        recording=complete_run.first,
        )
        return
    fresh = directives & {"max-age", "s-maxage"} and not directives & {"no-store", "no-cache"}
    stale = re.search(r"(max-age|s-maxage)\s*=\s*\"?0\b", said, re.IGNORECASE)
    expires = head.value("expires")
    explicit = (fresh and not stale) or (
        expires and expires.strip() not in {"0", "-1"} and not directives & {"no-store", "no-cache"}
    )
    expect(
        not explicit,
        expected="no explicit freshness on a POST stream",
        actual=shown + (f", Expires: {expires}" if expires else ""),
        at=head_of(complete_run),
        recording=complete_run.first,
    )


@requirement(
    "http.no-proxy-buffering",
    SHOULD,
    tier="core",
    text="A stream asks proxies not to buffer it: X-Accel-Buffering: no.",
    source="nginx's ngx_http_proxy_module: proxy_buffering; field reports (dify, tock)",
    breaks="every client behind a buffering nginx: events arrive in bursts, or all at the end",
    hint="send X-Accel-Buffering: no",
)
def test_no_proxy_buffering(complete_run: Observation, target: Target) -> None:
    if target.behind_proxy:
        raise NotApplicable("the server is declared to be behind a proxy, which strips the header")
    said = head_of(complete_run).value("x-accel-buffering")
    expect(
        said is not None and said.strip().lower() == "no",
        expected="X-Accel-Buffering: no",
        actual=f"X-Accel-Buffering: {said}" if said else "no X-Accel-Buffering",
        at=head_of(complete_run),
        recording=complete_run.first,
    )


BROKEN = {
    EndKind.CUT: "the connection closed inside the body",
    EndKind.RESET: "the connection was reset inside the body",
    EndKind.PROTOCOL: "the body stopped being HTTP",
}


@requirement(
    "http.terminated-body",
    MUST,
    tier="core",
    text="The body of a stream comes to its own end: no incomplete chunk or length, no reset.",
    source="RFC 9112 8: an incomplete message; 7.1: the last chunk",
    breaks="clients that retry on a network error: they post the whole run again, after it succeeded",
    hint="return from the response handler; do not close the socket under it",
)
def test_terminated_body(complete_run: Observation) -> None:
    for exchange in complete_run.exchanges:
        end = exchange.end
        if end.kind is EndKind.UNKNOWN:
            raise NotTested("the recording does not say how the exchange ended")
        expect(
            end.kind not in BROKEN,
            expected="the end of the body: its last chunk, or all of its length",
            actual=f"{BROKEN.get(end.kind, '')} after {len(exchange.body)} bytes ({end.detail})",
            at=exchange,
        )
