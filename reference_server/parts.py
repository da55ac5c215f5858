"""The seams: the parts a server is put together from. A server made otherwise is other parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from reference_server.auth import Auth
from reference_server.cursor import Cursors
from reference_server.encoders.native import Native
from reference_server.frames import Framing
from reference_server.intake import Intake
from reference_server.log.opening import event_log
from reference_server.registry import Registry
from reference_server.runs import Producer
from reference_server.scenarios import scripted
from reference_server.stream import EventStream, Pacing, Reader, Writer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from starlette.types import ASGIApp

    from reference_server.agent import Agent
    from reference_server.encoders import Encoder
    from reference_server.log import EventLog
    from reference_server.settings import Settings

Middleware: TypeAlias = "Callable[[ASGIApp], ASGIApp]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What `create_app` puts together."""

    agent: Agent = scripted
    auth: type[Auth] = Auth
    cursors: Cursors = field(default_factory=Cursors)
    encoder: Callable[[Cursors], Encoder] = Native
    framing: Framing = field(default_factory=Framing)
    http: type[asyncio.Protocol] | Literal["h11"] = "h11"
    intake: type[Intake] = Intake
    log: Callable[[Settings], EventLog] = event_log
    middleware: tuple[Middleware, ...] = ()
    pacing: type[Pacing] = Pacing
    producer: type[Producer] = Producer
    reader: type[Reader] = Reader
    registry: type[Registry] = Registry
    stream: type[EventStream] = EventStream
    writer: type[Writer] = Writer

    def behind(self, middleware: Middleware) -> Parts:
        """Return these parts with one more ASGI middleware around the whole."""
        return replace(self, middleware=(*self.middleware, middleware))
