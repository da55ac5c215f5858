"""What the head of a stream says, and whether its body is whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement
from pytest_agentstream.recording import EndKind, Phase
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.verdicts import NotApplicable, NotTested, expect

if TYPE_CHECKING:
    from conformance_cases.probes.requests import Asked, Cors
    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Head, Recording
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
    hint="answer 200 where the stream is the answer; 201 and 202 belong to starts without one",
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
    source="RFC 9112 6.2: a length that is known beforehand is that of a body made before",
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
    breaks="clients that retry on a network error: they post the run again, after it succeeded",
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


@requirement(
    "http.wrong-method",
    SHOULD,
    tier="core",
    text="A method that starts nothing gets 4xx or 501, and a 405 names those that are allowed.",
    source="RFC 9110 15.5.6: the origin server MUST generate an Allow header field in a 405",
    breaks="whoever looks for a mistake in a client: a 200 or a 500 leads astray",
    hint="405 with Allow: POST",
)
def test_wrong_method(wrong_method: Asked) -> None:
    found = wrong_method.recording
    status = found.status or 0
    expect(
        400 <= status < 500 or status == 501,
        expected=f"4xx or 501 for {wrong_method.what}",
        actual=f"status {found.status}" if found.head else f"no answer ({found.end.kind})",
        at=found.head or found,
        recording=found,
    )
    expect(
        status != 405 or (found.head is not None and found.head.value("allow")),
        expected="Allow beside the 405",
        actual="no Allow",
        at=found.head,
        recording=found,
    )


def allows(head: Head | None, origin: str) -> bool:
    """Whether CORS lets a page of the origin read the answer."""
    said = head.value("access-control-allow-origin") if head else None
    return said is not None and said.strip() in {"*", origin}


def listed(head: Head | None, name: str) -> set[str]:
    value = (head.value(name) if head else None) or ""
    return {part.strip().lower() for part in value.split(",") if part.strip()}


@requirement(
    "http.cors-preflight",
    SHOULD,
    tier="core",
    text="A CORS preflight allows the start's method, its content type, and Last-Event-ID.",
    source="Fetch 3.3: CORS-preflight request",
    breaks="browsers: fetch-event-source starts, and can never resume",
    hint="Access-Control-Allow-Headers: authorization, content-type, last-event-id",
)
def test_cors_preflight(cors: Cors, dialect: Dialect) -> None:
    found = cors.preflight
    expect(
        found.head is not None and 200 <= found.head.status < 300,
        expected="2xx for the preflight",
        actual=f"status {found.status}",
        at=found.head or found,
        recording=found,
    )
    expect(
        allows(found.head, cors.origin),
        expected=f"Access-Control-Allow-Origin for {cors.origin}",
        actual=f"{found.head.value('access-control-allow-origin') if found.head else None}",
        at=found.head,
        recording=found,
    )
    headers = listed(found.head, "access-control-allow-headers")
    missing = {"content-type", "last-event-id"} - headers
    expect(
        not missing or ("*" in headers and "authorization" not in missing),
        expected="content-type and last-event-id among the allowed headers",
        actual=f"without {' and '.join(sorted(missing))}",
        at=found.head,
        recording=found,
    )
    method = dialect.profile.start.method
    methods = listed(found.head, "access-control-allow-methods")
    expect(
        method in {"GET", "POST"} or method.lower() in methods or "*" in methods,
        expected=f"{method} among the allowed methods",
        actual=", ".join(sorted(methods)) or "none",
        at=found.head,
        recording=found,
    )


@requirement(
    "http.cors-expose",
    SHOULD,
    tier="core",
    text="CORS exposes what a client must read: the run's id, Location and Retry-After.",
    source="Fetch 3.3.4: Access-Control-Expose-Headers",
    breaks="pages: they cannot read by which name to resume their run",
    hint="Access-Control-Expose-Headers: location, retry-after, and the run's header",
    presupposes=["http.cors-preflight"],
)
def test_cors_expose(cors: Cors, dialect: Dialect) -> None:
    head = head_of(cors.stream)
    wanted = {"retry-after"}
    if head.value("location"):
        wanted.add("location")
    if dialect.profile.response.run_header:
        wanted.add(dialect.profile.response.run_header.lower())
    exposed = listed(head, "access-control-expose-headers")
    missing = wanted - exposed
    expect(
        not missing or "*" in exposed,
        expected=f"{', '.join(sorted(wanted))} among the exposed headers",
        actual=f"without {', '.join(sorted(missing))}",
        at=head,
        recording=cors.stream.first,
    )


@requirement(
    "http.cors-on-refusals",
    SHOULD,
    tier="core",
    text="204 and 4xx carry CORS headers too.",
    source="Fetch 4.10: without them a page sees a network error",
    breaks="EventSource: a refusal looks like a network error, and it reconnects for ever",
    hint="let the CORS layer stand outside of whatever refuses",
    presupposes=["http.cors-preflight", "resume.error-does-not-poison"],
)
def test_cors_on_refusals(cors: Cors) -> None:
    for asked in cors.refusals:
        expect(
            allows(asked.recording.head, cors.origin),
            expected=f"Access-Control-Allow-Origin beside the answer to {asked.what}",
            actual=f"none beside status {asked.recording.status}",
            at=asked.recording.head or asked.recording,
            recording=asked.recording,
        )


CONNECTION_SPECIFIC = (
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
)
"""Header fields with a meaning for one HTTP/1.1 connection, as RFC 9113 8.2.2 lists them."""


@requirement(
    "http.h2-no-connection-header",
    MUST,
    tier="core",
    text="Over HTTP/2 there is no Connection header, nor another that is connection-specific.",
    source="RFC 9113 8.2.2: a message that contains one MUST be treated as malformed",
    breaks="Safari and every strict HTTP/2 client: the whole answer is a protocol error",
    hint="leave Connection, Keep-Alive and Transfer-Encoding to the HTTP/1.1 server in front",
)
def test_h2_no_connection_header(h2_run: Observation) -> None:
    answer = h2_run.first
    end, head = answer.end, answer.head
    if head is None:
        raise NotTested(f"the exchange over HTTP/2 has no response head ({end.kind}: {end.detail})")
    if head.version != "HTTP/2":
        raise NotApplicable(f"the answer is {head.version}")
    found = [name for name in CONNECTION_SPECIFIC if head.value(name) is not None]
    expect(
        not found,
        expected="an HTTP/2 answer without connection-specific header fields",
        actual=", ".join(f"{name}: {head.value(name)}" for name in found),
        at=head,
        recording=answer,
    )


@requirement(
    "http.connection-reusable",
    SHOULD,
    tier="core",
    text="A connection can be used again after a stream, or the answer says that it closes.",
    source="RFC 9112 9.6: a server that intends to close SHOULD send Connection: close",
    breaks="connection pools: the next request fails on a connection that looks alive",
    hint="Connection: close, where the server closes behind each stream",
    presupposes=["http.terminated-body", "terminal.closes"],
)
def test_connection_reusable(
    same_connection: tuple[Observation, Recording], wrong_method: Asked
) -> None:
    run, behind = same_connection
    head, end = head_of(run), behind.end
    if head.version != "HTTP/1.1":
        raise NotApplicable(f"the answer is {head.version}")
    if not run.first.ended_cleanly:
        raise NotTested(f"the stream did not come to its own end ({run.first.end.kind})")
    closes = "close" in listed(head, "connection")
    # a pool opens another one where it has seen the close, though that need not come to stand
    unconnected = end.kind is EndKind.REFUSED or end.phase is Phase.CONNECT
    anew = behind.connected is not None or unconnected
    # what is sent before the close is seen gets no answer on the old connection
    late = behind.head is None and behind.broken_off
    if late and not (anew or closes) and wrong_method.recording.head is None:
        raise NotTested(
            f"the request behind the stream, {wrong_method.what}, gets no answer on a connection "
            f"of its own either ({wrong_method.recording.end.kind})"
        )
    expect(
        closes or not (anew or late),
        expected="the next request on the same connection, or Connection: close",
        actual="a connection that was closed without a word",
        at=(head, run.first),
        recording=run.first,
    )
