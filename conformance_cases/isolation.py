"""One client costs the others nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement
from pytest_agentstream.requirements import MUST
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from conformance_cases.probes.buffering import Backlog

MIB = 2**20


@requirement(
    "isolation.bounded-backlog",
    MUST,
    tier="hardened",
    text="A reader that does not read costs no more memory than one that does, within a margin.",
    source="the promise of a server: one client cannot take it down",
    breaks="everybody else on the server, when its memory is used up",
    hint="hold a place in the log for each reader, or a bounded queue, and drop the reader when it "
    "is full",
)
def test_bounded_backlog(backlog: Backlog) -> None:
    read = "" if backlog.reading is None else f", {backlog.reading / MIB:.1f} MiB where they read"
    expect(
        backlog.grown <= backlog.allowed,
        expected=f"at most {backlog.allowed / MIB:.1f} MiB for {backlog.readers} stalled readers "
        f"of {backlog.size / MIB:.1f} MiB each",
        actual=f"{backlog.grown / MIB:.1f} MiB{read}",
        at=backlog.run.first,
    )
