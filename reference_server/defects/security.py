"""Defects that let somebody see or forge what is not theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.auth import Auth
from reference_server.defects.defect import defect
from reference_server.defects.framing import Raw
from reference_server.defects.seams import frames
from reference_server.intake import Intake
from reference_server.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

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
    "Other credentials resume a run (needs two --token).",
)
def cross_tenant(parts: Parts) -> Parts:
    class Open(Intake):
        async def known(self, run: str, user: str | None) -> RunState:
            return await super().known(run, None)

    return replace(parts, intake=Open)


@defect(
    "resume-without-auth",
    "security.auth-on-resume",
    "Resuming needs no credentials (needs --token).",
)
def resume_without_auth(parts: Parts) -> Parts:
    class Open(Auth):
        def reader(self, request: Request, run: str) -> str | None:
            try:
                return super().reader(request, run)
            except Problem:
                return None

    return replace(parts, auth=Open)
