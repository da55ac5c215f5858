"""Every MUST is proven twice, or it is said why it cannot be."""

from __future__ import annotations

from tests.defects.one_way import ONE_WAY, OVER_HTTP2, complaints, proofs


def test_every_must_has_two_defects_or_a_reason() -> None:
    """A MUST with fewer defects than two is in the table, and the table has no other."""
    assert complaints(ONE_WAY, proofs()) == []


def test_a_reason_that_is_not_needed_any_more_is_an_error() -> None:
    """A MUST that has two defects, and what is no MUST at all, must leave the table."""
    table = {"ids.unique": "once it was so", "http.no-store": "it is a SHOULD"}

    assert complaints(table, {"ids.unique": 2}) == [
        "ids.unique is in tests/defects/one_way.py and has 2 defects: remove it",
        "http.no-store is in tests/defects/one_way.py and is no MUST: remove it",
    ]


def test_a_must_without_a_second_defect_is_named() -> None:
    """A reason that is missing is asked for by name, with what to do; one that is there is not."""
    (said,) = complaints({"ids.present": "a reason"}, {"ids.present": 1, "ids.unique": 1})

    assert said.startswith("ids.unique has 1 of 2 defects: write another in ")


def test_what_needs_http2_is_proven_elsewhere() -> None:
    """The requirement over HTTP/2 is not counted here: the reference server does not speak it."""
    assert OVER_HTTP2.isdisjoint(proofs())
