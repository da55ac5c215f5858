"""The matrix starts as many processes for a row as its requirement needs, and judges by them."""

from __future__ import annotations

import pytest

from pytest_agentstream.catalogue import catalogue
from tests.defects.managed import processes_of
from tests.defects.matrix import is_judged
from tests.defects.subjects import good, wrong

SUBJECTS = {one.name: one for one in [*good(), *wrong()]}


@pytest.mark.parametrize(
    ("slug", "processes"),
    [
        ("resume.old-connection-open", 0),
        ("resume.expired-cursor", 0),
        ("durable.retention", 1),
        ("durable.sent-is-stored", 1),
        ("terminal.on-shutdown", 1),
        ("isolation.bounded-backlog", 1),
        ("terminal.dead-producer", 2),
        ("durable.one-executor", 2),
    ],
)
def test_processes(slug: str, processes: int) -> None:
    """A process is started where one may be ended, and a second where only that shows anything."""
    assert processes_of(slug) == processes


def test_what_a_row_with_processes_is_judged_by() -> None:
    """A row is judged by what its own probes show, not by what else can be done to a process."""
    row = SUBJECTS["cut-on-shutdown"]
    judged = {slug for slug, case in catalogue().items() if is_judged(case, row)}

    assert {"terminal.on-shutdown", "terminal.refuses-on-shutdown", "http.status-200"} <= judged
    assert judged.isdisjoint({"durable.epoch", "disconnect.no-zombies", "resume.slow-replay"})


def test_the_good_row_is_judged_by_all() -> None:
    """Where nothing may be accused, everything that can be done to a process is done."""
    row = SUBJECTS["no defect (two processes)"]
    judged = {slug for slug, case in catalogue().items() if is_judged(case, row)}

    assert {"durable.epoch", "disconnect.no-zombies", "durable.other-replica"} <= judged
