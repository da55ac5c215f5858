"""Defects that let somebody see or forge what is not theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reference_server.auth import Auth
from reference_server.defects.defect import CORS, SECOND_TOKEN, TOKEN, defect
from reference_server.defects.framing import Raw
from reference_server.defects.seams import frames
from reference_server.intake import Intake
from reference_server.middleware import head
from reference_server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from starlette.requests import Request
    from starlette.types import Scope

    from reference_server.frames import Frame
    from reference_server.log import Entry, RunState
    from reference_server.parts import Parts


@defect("event-injection", "security.no-event-injection", "An LF in text is written as it is.")
def event_injection(parts: Parts) -> Parts:
    def change(entry: Entry, frame: Frame) -> Iterator[Frame]:
        token = entry.type == "token"
        yield replace(frame, data=frame.data.replace("\\n", "\n")) if token else frame

    return frames(replace(parts, framing=Raw()), change)


@defect(
    "cross-tenant",
    "security.cross-tenant-resume",
    "Other credentials resume a run.",
    options=(*TOKEN, *SECOND_TOKEN),
)
def cross_tenant(parts: Parts) -> Parts:
    class Open(Intake):
        async def known(self, run: str, user: str | None) -> RunState:
            return await super().known(run, None)

    return replace(parts, intake=Open)


@defect(
    "resume-without-auth",
    "security.auth-on-resume",
    "Resuming needs no credentials.",
    options=TOKEN,
)
def resume_without_auth(parts: Parts) -> Parts:
    class Open(Auth):
        def reader(self, request: Request, run: str) -> str | None:
            try:
                return super().reader(request, run)
            except Problem:
                return None

    return replace(parts, auth=Open)


@defect(
    "cors-mirrors-origin",
    "security.cors-credentials",
    "CORS lets every origin read with credentials.",
    options=CORS,
)
def cors_mirrors_origin(parts: Parts) -> Parts:
    def change(scope: Scope, message: MutableMapping[str, Any]) -> None:
        origin = dict(scope["headers"]).get(b"origin")
        said = dict(message["headers"])
        if origin and b"access-control-allow-origin" not in said:
            mirrored = {
                b"access-control-allow-origin": origin,
                b"access-control-allow-credentials": b"true",
            }
            message["headers"] = list((said | mirrored).items())

    return parts.behind(head(change, lambda scope, message: True))
