"""Prove the cases that only a user's own dialect needs: a dialect, and two runs that speak it.

The reference server speaks the built-in dialects, and none of them has these mechanisms; so the
server here is made of raw sockets and answers every request with the same body.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from pytest_agentstream.catalogue import catalogue
from pytest_agentstream.session import Session
from pytest_agentstream.settings import load
from tests.conftest import Peer, RawServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_agentstream.judging import CaseResult

FAMILIES = ("framing", "order", "schema")
"""What a body alone can be judged by; the rest asks for more than one answer."""

DIALECT = """
name = "declared"
title = "A dialect of somebody's own"
verified_against = "nothing"
verified_on = "2026-11-21"
source = "tests/defects/declared_dialects.py"
type_from = [{ json_path = "type" }]

[start]
json = { message = "{prompt}" }

[events.token]
text = "text"
required = { text = "string" }

[events.done]
role = "terminal"

[order]
terminal = [{ event = "done", outcome = "success" }]
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the dialect declares besides, and a body that keeps to it beside some that do not."""

    declares: str
    right: str
    wrong: tuple[str, ...]


def _mirrored(*names: str) -> str:
    lines = (f"event: {name}\n" if name else "" for name in names)
    blocks = (f'{line}data: {{"type": "token", "text": "word"}}\n\n' for line in lines)
    return "".join(blocks) + 'event: done\ndata: {"type": "done"}\n\n'


def _numbered(*numbers: int) -> str:
    *tokens, last = numbers
    blocks = (f'data: {{"type": "token", "text": "word", "seq": {n}}}\n\n' for n in tokens)
    return "".join(blocks) + f'data: {{"type": "done", "seq": {last}}}\n\n'


PROOFS: dict[str, Proof] = {
    "schema.type-agreement": Proof(
        '[framing]\nevent_line = "equals-type"\n',
        right=_mirrored("token", "token", "token"),
        wrong=(_mirrored("token", "thinking", "token"), _mirrored("token", "token", "done")),
    ),
    "order.sequence-contiguous": Proof(
        'sequence_path = "seq"\n',
        right=_numbered(7, 8, 9, 10),
        wrong=(_numbered(7, 8, 10, 11), _numbered(7, 8, 8, 9)),
    ),
}
"""Requirement -> its proof."""


def judge(proof: Proof, body: str, folder: Path) -> dict[str, CaseResult]:
    """Judge a server that answers with the body, in the dialect of the proof, by slug."""
    file = folder / "declared.toml"
    file.write_text(DIALECT + proof.declares, encoding="utf-8")
    cases = [case for slug, case in catalogue().items() if slug.partition(".")[0] in FAMILIES]
    with _answering(body) as origin:
        options = {"url": f"{origin}/chat", "dialect": str(file)}
        session = Session(load(options, directory=folder, environment={}), catalogue())
        try:
            session.begin(cases)
            return {case.slug: session.judge(case) for case in cases}
        finally:
            session.close()


@contextmanager
def _answering(body: str) -> Iterator[str]:
    async def answer(peer: Peer) -> None:
        await peer.stream(connection="close")
        await peer.chunk(body)
        await peer.end()

    server = RawServer((answer,))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(server):
        yield server.origin
