"""Cursors: parsed, malformed, ordered, and found where the dialect says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import Cursor, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Recording

    Declared = Callable[[str], Dialect]
    Recorded = Callable[..., Recording]

RUN = "r" * 22
TYPED = 'name = "mine"\ntype_from = [{ constant = "any" }]\n[events.any]\n[cursor]\n'
INTEGER = TYPED + 'source = "sse-id"\norder = "integer"\n'
OPAQUE = TYPED + 'source = "sse-id"\n'
IN_DATA = TYPED + 'source = "json-path"\njson_path = "meta.seq"\norder = "integer"\n'


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        (f"{RUN}/0", Cursor(f"{RUN}/0", RUN, 0)),
        (f"{RUN}/12", Cursor(f"{RUN}/12", RUN, 12)),
        (f"{RUN}/012", None),
        (f"{RUN}/+1", None),
        (f"{RUN}/１", None),
        (f"{RUN}/1\n", None),
        (f"{RUN[1:]}/1", None),
        ("12", None),
        ("", None),
        (f"{RUN}/" + "1" * 5000, None),
    ],
)
def test_native(text: str, cursor: Cursor | None) -> None:
    """A native cursor is a run and a number, in the only way to write them."""
    assert load("native").parse_cursor(text) == cursor


def test_without_a_pattern(declared: Declared) -> None:
    """Without a pattern an integer cursor is its digits, and an opaque one any text."""
    assert declared(INTEGER).parse_cursor("7") == Cursor("7", None, 7)
    assert declared(INTEGER).parse_cursor("a7") is None
    assert declared(INTEGER).parse_cursor("9" * 5000) is None
    assert declared(OPAQUE).parse_cursor("a7") == Cursor("a7")


def test_order(declared: Declared) -> None:
    """Numbers of one run are ordered as numbers; opaque cursors and other runs' are not."""
    native, other = load("native"), "s" * 22
    nine, ten = native.parse_cursor(f"{RUN}/9"), native.parse_cursor(f"{RUN}/10")
    foreign = native.parse_cursor(f"{other}/11")
    assert nine is not None
    assert ten is not None
    assert foreign is not None
    assert native.is_after(ten, nine)
    assert not native.is_after(nine, ten)
    assert not native.is_after(nine, nine)
    assert not native.is_after(foreign, nine)
    assert not declared(OPAQUE).is_after(Cursor("b"), Cursor("a"))


@pytest.mark.parametrize(
    ("toml", "block", "cursor"),
    [
        (INTEGER, "id: 7\ndata: {}", Cursor("7", None, 7)),
        (INTEGER, "id: seven\ndata: {}", Cursor("seven")),
        (INTEGER, "id:\ndata: {}", None),
        (INTEGER, "id: a\0b\ndata: {}", None),
        (INTEGER, "data: {}", None),
        (OPAQUE, "id: seven\ndata: {}", Cursor("seven")),
        (IN_DATA, 'id: 1\ndata: {"meta": {"seq": 7}}', Cursor("7", None, 7)),
        (IN_DATA, 'data: {"meta": {"seq": "7"}}', Cursor("7", None, 7)),
        (IN_DATA, 'data: {"meta": {"seq": true}}', None),
        (IN_DATA, 'data: {"meta": {"seq": 1.5}}', None),
        (IN_DATA, 'data: {"meta": []}', None),
    ],
)
def test_of_an_event(
    declared: Declared, recorded: Recorded, toml: str, block: str, cursor: Cursor | None
) -> None:
    """An event's cursor is the one it was sent with; a malformed one keeps its text."""
    (event,) = declared(toml).events(recorded(block + "\n\n"))
    assert event.cursor == cursor


def test_no_inherited_cursor(declared: Declared, recorded: Recorded) -> None:
    """An event without an id has none, though a client would still know the one before."""
    first, second = declared(INTEGER).events(recorded("id: 1\ndata: {}\n\ndata: {}\n\n"))
    assert (first.cursor, second.cursor) == (Cursor("1", None, 1), None)
