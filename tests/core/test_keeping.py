"""What a server says of how it keeps its runs, in a header or through the settings."""

from __future__ import annotations

from math import inf

import pytest

from conformance_cases.keeping import Keeping, durably_kept, keeping_of
from pytest_agentstream.dialects import load
from pytest_agentstream.observing import Observation
from pytest_agentstream.recording import End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.verdicts import NotApplicable, NotTested

REQUEST = Request("POST", "http://127.0.0.1/v1/runs")


def kept(said: str | None, dialect: str = "native") -> Observation:
    headers = () if said is None else (("Agentstream-Log", said),)
    head = Head(200, "OK", "HTTP/1.1", headers, 0.1)
    one = Recording(REQUEST, head, (), End(EndKind.COMPLETE, 0.2))
    return Observation(Run("complete", "default", (one,)), load(dialect), Scenario(), 1)


def target(**declared: object) -> Target:
    return Target.model_validate({"url": REQUEST.url, **declared})


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("durable; retention=60; run-bytes=1024; lease=2.5", (True, 60.0, 2.5, 1024.0)),
        ("Volatile;retention=60", (False, 60.0, None, None)),
        ('durable ; Retention = "7" ; further=1', (True, 7.0, None, None)),
        ("durable; retention=for ever; lease=-1; run-bytes=1e9", (True, inf, inf, inf)),
        ("durable; retention=١; lease=", (True, inf, inf, None)),
        ("kept in a drawer", (None, None, None, None)),
        ("", (None, None, None, None)),
        (None, (None, None, None, None)),
    ],
)
def test_what_the_header_says(said: str | None, found: tuple[object, ...]) -> None:
    """Numbers are read as plain numbers; one that is none is infinite, what is absent is None."""
    keeping = keeping_of(kept(said), target())

    assert (keeping.durable, keeping.retention, keeping.lease, keeping.size) == found


def test_what_is_declared_goes_first() -> None:
    """The settings say what the header does not, and go before what it does."""
    assert keeping_of(kept("volatile; lease=9"), target(durable=True, lease=3)) == Keeping(
        True, lease=3.0, said="volatile; lease=9"
    )


def test_a_dialect_without_a_header() -> None:
    """Where the dialect has no such header, one of that name means nothing."""
    assert keeping_of(kept("durable", "generic-data"), target()) == Keeping()


def test_volatile_runs() -> None:
    """Requirements on durable runs do not apply to runs that are said to be volatile."""
    with pytest.raises(NotApplicable, match=r"says that its log is volatile \(volatile\)"):
        durably_kept(kept("volatile"), target())
    with pytest.raises(NotApplicable, match="durable = false"):
        durably_kept(kept("durable"), target(durable=False))


def test_runs_of_which_nobody_says_anything() -> None:
    """Where nobody says whether runs are durable, they are not judged for it."""
    with pytest.raises(NotTested, match="declare it: durable = true, or false"):
        durably_kept(kept(None), target())
