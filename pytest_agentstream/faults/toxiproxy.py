"""A Toxiproxy server as one session uses it: checked when opened, left clean when closed."""

from __future__ import annotations

import atexit
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pytest_agentstream.faults.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
from pytest_agentstream.faults.toxiproxy_api import Api, Refused, ToxiproxyError, Unanswered
from pytest_agentstream.faults.toxiproxy_names import is_stale, session_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from pytest_agentstream.faults.toxics import Toxic

LEAST = (2, 4, 0)
"""The first version that slices without variation; `reset_peer` is there since 2.2."""

TRIED: tuple[Toxic, ...] = (
    Latency(latency=0.001),
    Bandwidth(rate=1_000_000),
    SlowClose(delay=0.001),
    Timeout(timeout=60.0),
    ResetPeer(timeout=60.0),
    Slicer(average_size=1000),
    LimitData(bytes=1_000_000),
)
"""One of each kind, to be added to a proxy that nobody uses: a server may hide its version."""


@dataclass(frozen=True, slots=True)
class Member:
    """One proxy in a Toxiproxy: its name, where it listens, and its toxics as the API has them."""

    name: str
    address: tuple[str, int]
    toxics: tuple[dict[str, Any], ...]


class Toxiproxy:
    """The Toxiproxy whose API is at `url`, for one session; every method blocks, but not for long.

    Use it as `with`, or `open` and `close` it. Several may be open at once, at the same server or
    at others. `gone` says why it can't be used any more, and is empty until then; `notes` are
    sentences on what could not be removed. The server has to run on this machine, for its proxies
    listen on loopback. Raises `ToxiproxyError` for a URL that can't be one.
    """

    def __init__(self, url: str) -> None:
        self.version = ""
        self.gone = ""
        self.notes: list[str] = []
        self._api = Api(url)
        self._prefix = session_prefix()
        self._numbers = count(1)
        self._process = os.getpid()
        self._closed = False
        self._lost: ToxiproxyError | None = None
        self._made: set[str] = set()
        host = self._api.host.strip("[]")
        with suppress(ValueError):  # a name other than localhost is judged by whether it is reached
            if not ip_address(host).is_loopback:
                raise ToxiproxyError(
                    f"expected a Toxiproxy on this machine, such as http://127.0.0.1:8474, "
                    f"found {url}: proxies that it makes listen on its own loopback"
                )

    @property
    def url(self) -> str:
        """The URL of its API."""
        return self._api.url

    @property
    def label(self) -> str:
        """What reports call it: `Toxiproxy 2.12.0`, or without a number if built from source."""
        return f"Toxiproxy {self.version}" if self.version[:1].isdigit() else "Toxiproxy"

    def open(self) -> None:
        """Check that it is one, recent enough, and that its proxies can be reached from here.

        Removes what sessions of this machine left behind that are gone. Raises `ToxiproxyError`.
        """
        atexit.register(self.close)
        try:
            self.version = self._api.version()
            self._check_version()
            self._sweep(self._api.proxies())
            self._try()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove every proxy of this session; raises nothing, and may be called again."""
        atexit.unregister(self.close)
        if self._closed or os.getpid() != self._process:  # a child that was forked owns nothing
            return
        self._closed = True
        failure = self._lost or (self._remove_all() if self._made else None)
        # one that can't be reached has no proxies any more
        if self._made and isinstance(failure, Refused | Unanswered):
            self.notes.append(
                f"proxies of this session may remain in Toxiproxy at {self.url}, and the next "
                f"session on this machine removes them: {failure}"
            )

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(self, upstream: str, toxics: Sequence[dict[str, Any]]) -> Member:
        """Make a proxy before `upstream`, host and port, with toxics in that order."""
        name = f"{self._prefix}{next(self._numbers)}"
        self._made.add(name)
        with self._noticing():
            address = self._api.create(name, upstream)
            made = tuple(self._api.add(name, toxic) for toxic in toxics)
        if self._closed:  # while this was under way, in a thread that nobody waits for
            self._remove(name)
        return Member(name, address, made)

    def enable(self, member: Member, enabled: bool) -> None:
        """Let a proxy listen, or close it with every connection through it."""
        with self._noticing():
            self._api.enable(member.name, enabled)

    def remove(self, member: Member, toxic: str) -> None:
        """Remove one toxic, by its name."""
        with self._noticing():
            self._api.remove(member.name, toxic)

    def delete(self, member: Member) -> None:
        """Remove a proxy with every connection through it."""
        if not self._lost:
            self._remove(member.name)

    def check(self, members: Sequence[Member], enabled: bool = True) -> None:
        """Raise `ToxiproxyError` unless all proxies are there as they were made.

        `gone` is set then: what came through them proves nothing about a server.
        """
        with self._noticing():
            found = self._api.proxies()
        for member in members:
            one = found.get(member.name, {})
            toxics = sorted(one.get("toxics", ()), key=itemgetter("name"))
            wanted = sorted(member.toxics, key=itemgetter("name"))
            if toxics != wanted or one.get("enabled") is not enabled:
                what = "was changed" if one else "is not there any more"
                self.gone = (
                    f"the proxy {member.name} {what}: Toxiproxy at {self.url} was restarted, "
                    "or reset by somebody else"
                )
                raise ToxiproxyError(self.gone)

    def _remove(self, name: str) -> None:
        self._api.delete(name)
        self._made.discard(name)

    def _remove_all(self) -> ToxiproxyError | None:
        """Remove every proxy of this session that can be removed; return what went wrong last."""
        failure: ToxiproxyError | None = None
        try:
            for name in self._api.proxies():
                if name.startswith(self._prefix):
                    try:
                        self._remove(name)
                    except Refused as refused:  # this one
                        failure = refused
        except ToxiproxyError as error:
            return error
        return failure

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Take note where it can't be reached any more."""
        try:
            yield
        except Refused:  # by one that is there
            raise
        except ToxiproxyError as error:
            self.gone, self._lost = self.gone or str(error), error
            raise

    def _check_version(self) -> None:
        found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", self.version)
        if found and tuple(int(part or 0) for part in found.groups()) < LEAST:
            least = ".".join(map(str, LEAST))
            raise ToxiproxyError(
                f"Toxiproxy at {self.url} is too old: expected {least} or later, "
                f"found {self.version}"
            )

    def _sweep(self, proxies: dict[str, dict[str, Any]]) -> None:
        for name in proxies:
            if is_stale(name):
                self._api.delete(name)

    def _try(self) -> None:
        """Reach the API itself through a proxy, then have that take one toxic of each kind."""
        member = self.make(f"{self._api.host}:{self._api.port}", ())
        through = Api(f"http://{member.address[0]}:{member.address[1]}")
        try:
            through.version()
        except ToxiproxyError as error:
            raise ToxiproxyError(
                f"Toxiproxy at {self.url} made a proxy at {through.url}, which can't be used from "
                f"here: expected one on this machine and not in a container of its own network "
                f"({error})"
            ) from None
        for toxic in TRIED:
            try:
                self._api.add(member.name, toxic.toxic)
            except Refused as refused:
                least = ".".join(map(str, LEAST))
                raise ToxiproxyError(
                    f"Toxiproxy at {self.url} is too old: expected {least} or later, "
                    f"found {self.version}, which has no usable {toxic.name}: {refused}"
                ) from None
        self._remove(member.name)
