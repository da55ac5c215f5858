"""The transport: one HTTP exchange over httpx, recorded, bounded in time and size, and stoppable.

Nothing else in the package imports httpx. Every exchange has a connection of its own, so that runs
don't disturb each other; nothing is redirected, retried or authenticated here.
"""

from __future__ import annotations

import ssl
import urllib.request
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import httpx
from anyio.streams.tls import TLSAttribute

from pytest_agentstream.deadlines import Deadline, Deadlines
from pytest_agentstream.endings import failed_end, natural_end
from pytest_agentstream.recorder import Recorder
from pytest_agentstream.recording import EndKind, Request
from pytest_agentstream.requesting import DEFAULT_PORTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from pytest_agentstream.cookies import Jar
    from pytest_agentstream.endings import Trouble
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Timeouts
    from pytest_agentstream.watching import Watch
    from pytest_agentstream.wire import Block

    Via = tuple[str, int] | Callable[[], tuple[str, int]]

GRACE = 0.005
"""Seconds for which what is in the socket may still be read when a wait is over."""

LONGEST_HOLD = 0.005
"""Seconds for which an exchange takes what has arrived before others get their turn."""

LONGEST_CLOSE = 1.0
"""Seconds that closing a connection may take; it is forgotten then."""

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For http:// alone: a context of its own takes as long as the rest of a transport."""


class UnsendableRequest(ValueError):
    """The request can't be sent as HTTP: an illegal header, method or URL."""


class Transport(Protocol):
    """Whatever can carry out one exchange and record it."""

    async def exchange(
        self,
        request: Request,
        *,
        timeouts: Timeouts,
        recorder: Recorder | None = None,
        jar: Jar | None = None,
        on_block: Callable[[Block], Watch | None] | None = None,
    ) -> Recording:
        """Send the request and record all that comes back, until it ends, one way or another.

        However the server or the network fails, a recording is returned whose end says so. Nothing
        is lost on cancellation: `recorder` has what was seen. `on_block` is asked at each block;
        the first `Watch` that it returns, or a shorter one, says when to stop. Cookies of `jar` are
        sent, and those received are kept in it. Raises `UnsendableRequest`.
        """
        ...

    def keeping_alive(self, url: str) -> AbstractAsyncContextManager[Transport]:
        """Yield a transport that reuses one connection to the origin of `url`."""
        ...


class HttpTransport:
    """Exchanges over HTTP/1.1, or HTTP/2.

    With `http2` a server that chooses it in the TLS handshake is spoken to in HTTP/2; that needs
    the package h2. `ca_file` adds to the trusted certificates; `trust_env` uses the proxies that
    the environment names. With `via`, a host and a port, connections are made there without TLS,
    while requests and recordings keep their URL and Host; it may be a function that is asked for
    each connection. Raises ValueError where `ca_file` can't be used.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        trust_env: bool = False,
        via: Via | None = None,
        http2: bool = False,
    ) -> None:
        self._trust_env = trust_env
        self._via = via
        self._http2 = http2
        self._tls: ssl.SSLContext | None = None
        self._kept: httpx.AsyncHTTPTransport | None = None
        if ca_file is not None:
            self._tls = _trusting(ca_file)

    @asynccontextmanager
    async def keeping_alive(self, url: str) -> AsyncIterator[HttpTransport]:
        """Yield a transport that reuses one connection to the origin of `url` while it stands.

        A recording over a reused connection has `connected` None.
        """
        via = self._next_via()
        kept = HttpTransport(trust_env=self._trust_env, via=via, http2=self._http2)
        kept._tls = self._tls
        kept._kept = self._open(url)
        try:
            yield kept
        finally:
            await _close(kept._kept)

    async def exchange(
        self,
        request: Request,
        *,
        timeouts: Timeouts,
        recorder: Recorder | None = None,
        jar: Jar | None = None,
        on_block: Callable[[Block], Watch | None] | None = None,
    ) -> Recording:
        """See `Transport.exchange`."""
        recorder = recorder or Recorder()
        prepared = _prepare(request, jar)
        http = self._kept or self._open(request.url)
        url = str(prepared.url)
        attempt = _Attempt(http, prepared, timeouts, recorder, on_block, self._next_via())
        try:
            await attempt.carry_out()
        finally:
            recorder.finish(EndKind.STOPPED, "cancelled")
            if self._kept is None:
                await _close(http, *attempt.streams)
        if jar is not None and recorder.head is not None:
            jar.take(url, recorder.head.headers)
        return recorder.recording

    async def negotiate(self, url: str, seconds: float) -> str | None:
        """Return the protocol that the server of an https URL chooses from h2 and http/1.1.

        A TLS handshake is all that is sent (RFC 7301), within `seconds`. None where the server
        chooses nothing. Raises ConnectionError where the handshake fails.
        """
        parts = urlsplit(url)
        tls = self._tls or httpx.create_ssl_context(trust_env=False)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        try:
            with anyio.fail_after(seconds):
                stream = await anyio.connect_tcp(
                    parts.hostname or "",
                    parts.port or DEFAULT_PORTS["https"],
                    ssl_context=tls,
                    tls_standard_compatible=False,
                )
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise ConnectionError(f"the TLS handshake failed: {error!r}") from error
        chosen = stream.extra(TLSAttribute.alpn_protocol)
        with anyio.move_on_after(LONGEST_CLOSE, shield=True):
            await stream.aclose()
        return chosen

    def _next_via(self) -> tuple[str, int] | None:
        return self._via() if callable(self._via) else self._via

    def _open(self, url: str) -> httpx.AsyncHTTPTransport:
        if urlsplit(url).scheme == "https" and self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
        return httpx.AsyncHTTPTransport(
            http2=self._http2,
            verify=self._tls or _NO_TLS,
            trust_env=False,
            limits=httpx.Limits(max_connections=1),
            proxy=_proxy_for(url) if self._trust_env and self._via is None else None,
        )


class _Attempt:
    """One exchange on its way; its waits are those of `Deadlines`, its outcome the recorder's."""

    def __init__(
        self,
        http: httpx.AsyncHTTPTransport,
        request: httpx.Request,
        timeouts: Timeouts,
        recorder: Recorder,
        on_block: Callable[[Block], Watch | None] | None,
        via: tuple[str, int] | None,
    ) -> None:
        self.streams: list[Any] = []
        self._via = via
        self._http = http
        self._request = request
        self._recorder = recorder
        self._deadlines = Deadlines(timeouts)
        self._changed = anyio.Event()
        self._on_block = on_block
        self._in_tls = False
        self._asked_http2 = False
        self._failure: Exception | None = None
        self._paused = 0.0

    async def carry_out(self) -> None:
        self._recorder.begin(_as_sent(self._request))
        if self._via is not None:
            host, port = self._via
            self._request.url = self._request.url.copy_with(scheme="http", host=host, port=port)
        self._request.extensions = {"trace": self._trace}
        async with anyio.create_task_group() as group:
            group.start_soon(self._guard, group.cancel_scope)
            try:
                await self._talk()
            except Exception as error:
                self._fail(error)
            group.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: Exception) -> None:
        if self._asked_http2 and _is_of_h2(error):
            self._recorder.finish(EndKind.PROTOCOL, str(error))
        elif isinstance(error, httpx.LocalProtocolError):
            self._failure = UnsendableRequest(f"the request can't be sent as HTTP: {error}")
            self._recorder.finish(EndKind.STOPPED, str(self._failure))
        elif isinstance(error, httpx.TransportError):
            in_body = self._recorder.head is not None
            trouble = _trouble(error, self._in_tls)
            self._recorder.finish(*failed_end(error, trouble, in_body=in_body))
        else:  # raised where it is not wrapped in a group
            self._failure = error
            self._recorder.finish(EndKind.STOPPED, f"our own error: {error!r}")

    async def _talk(self) -> None:
        response = await self._http.handle_async_request(self._request)
        try:
            head = self._recorder.answer(
                response.status_code,
                _text(response.extensions.get("reason_phrase", b"")),
                _text(response.extensions["http_version"]),
                tuple((_text(key), _text(value)) for key, value in response.headers.raw),
            )
            self._deadlines.answered(head)
            self._changed.set()
            async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as body:
                async for data in body:
                    if self._receive(data):
                        return
                    await self._let_others_in()
            self._recorder.finish(*natural_end(self._request.method, head))
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    def _receive(self, data: bytes) -> bool:
        """Take body bytes; return whether that is enough."""
        blocks = self._recorder.receive(data)
        now = self._recorder.now()
        self._deadlines.received(now)
        for block in blocks:
            if block.event is not None:
                self._deadlines.dispatched()
            asked = self._on_block(block) if self._on_block else None
            if asked is not None:
                if asked.seconds <= 0:
                    self._recorder.finish(EndKind.STOPPED, asked.why)
                    return True
                self._deadlines.watch(now + asked.seconds, asked.why)
                self._changed.set()
        if self._recorder.full:
            self._recorder.finish(EndKind.LIMIT, self._recorder.full)
        return bool(self._recorder.full)

    async def _let_others_in(self) -> None:
        """Pause now and then: a body that arrives faster than it is read never waits."""
        if self._recorder.now() - self._paused > LONGEST_HOLD:
            await anyio.lowlevel.checkpoint()
            self._paused = self._recorder.now()

    async def _guard(self, scope: anyio.CancelScope) -> None:
        """End the exchange when a wait is over."""
        overdue: Deadline | None = None
        while True:
            deadline = self._deadlines.next()
            left = deadline.at - self._recorder.now()
            if left > 0:
                self._changed = anyio.Event()
                with anyio.move_on_after(left):
                    await self._changed.wait()
            elif deadline != overdue:
                # where our own loop was late, what had come in time is read first
                overdue = deadline
                await anyio.sleep(GRACE)
            else:
                said = [deadline.detail, self._recorder.undecoded]
                self._recorder.finish(deadline.kind, "; ".join(filter(None, said)), deadline.phase)
                scope.cancel()
                return

    async def _trace(self, name: str, info: dict[str, Any]) -> None:
        if name.endswith(("connect_tcp.complete", "start_tls.complete")):
            self.streams.append(info["return_value"])
        elif name.endswith("start_tls.started"):
            self._in_tls = True
        elif name.endswith("send_request_headers.started"):
            self._in_tls = False
            if self.streams:
                self._recorder.connect()
            self._deadlines.connected(self._recorder.now())
            self._changed.set()
        elif name == "http2.send_request_headers.complete":
            self._asked_http2 = True


async def _close(http: httpx.AsyncHTTPTransport, *streams: Any) -> None:
    with anyio.move_on_after(LONGEST_CLOSE, shield=True):
        await http.aclose()
        # a connection that was broken off in its TLS handshake is not in the pool yet
        for stream in streams:
            await stream.aclose()


def _prepare(request: Request, jar: Jar | None) -> httpx.Request:
    headers = [(name.encode(), value.encode()) for name, value in request.headers]
    if not any(name.lower() == b"accept-encoding" for name, _ in headers):
        headers.append((b"Accept-Encoding", b"identity"))
    try:
        prepared = httpx.Request(
            request.method, request.url, headers=headers, content=request.body or None
        )
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise UnsendableRequest(f"the request can't be sent as HTTP: {error}") from error
    url = prepared.url
    if url.scheme not in {"http", "https"} or not url.host or not 0 <= (url.port or 0) < 2**16:
        raise UnsendableRequest(
            f"expected an absolute http:// or https:// URL, found {request.url!r}"
        )
    cookies = jar.header(str(url)) if jar is not None else None
    if cookies is not None and "cookie" not in prepared.headers:
        prepared.headers["Cookie"] = cookies
    return prepared


def _as_sent(request: httpx.Request) -> Request:
    headers = tuple((key.decode(), value.decode()) for key, value in request.headers.raw)
    return Request(request.method, str(request.url), headers, request.content)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")


def _trouble(error: httpx.TransportError, in_tls: bool) -> Trouble:
    if in_tls:
        return "tls"
    if isinstance(error, httpx.ConnectError):
        return "connecting"
    if isinstance(error, httpx.NetworkError):
        return "network"
    return "protocol" if isinstance(error, httpx.RemoteProtocolError) else "other"


def _is_of_h2(error: Exception) -> bool:
    # once the request is out, h2 objects to what it receives; before a head httpcore calls that
    # a local error, in a body it lets it through
    local = isinstance(error, httpx.LocalProtocolError)
    return local or type(error).__module__ == "h2.exceptions"


def _trusting(ca_file: str) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file: expected certificates in PEM at {ca_file}: {error}") from error
    return context


def _proxy_for(url: str) -> str | None:
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
