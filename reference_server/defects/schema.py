"""Defects of the events' payloads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reference_server.cursor import Cursor, Cursors
from reference_server.defects.defect import defect
from reference_server.defects.seams import entries, frames, with_payload
from reference_server.scenarios import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reference_server.frames import Frame
    from reference_server.log import Entry
    from reference_server.parts import Parts

VICTIM = "creation"
"""The event that is made wrong: nothing else hangs on it."""


def _victims(parts: Parts, change: Callable[[Entry], Entry]) -> Parts:
    def changed(entry: Entry) -> Iterator[Entry]:
        yield change(entry) if entry.type == VICTIM else entry

    return entries(parts, changed)


@defect("nan", "schema.json-strict", "A number is NaN, which is no JSON.")
def nan(parts: Parts) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        wrong = frame.data.replace('"count":1', '"count":NaN')
        yield replace(frame, data=wrong) if entry.type == VICTIM else frame

    return frames(parts, changed)


@defect("single-quotes", "schema.json-strict", "A payload is written with single quotes.")
def single_quotes(parts: Parts) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        wrong = frame.data.replace('"', "'")
        yield replace(frame, data=wrong) if entry.type == VICTIM else frame

    return frames(parts, changed)


@defect(
    "lone-surrogate",
    "schema.no-lone-surrogates",
    "One token has half of a character: its JSON says `\\ud83d` alone.",
)
def lone_surrogate(parts: Parts) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        victim = entry.type == "token" and entry.payload["text"] == WORDS[3]
        yield replace(frame, data=frame.data.replace("🍰", "\\ud83d")) if victim else frame

    return frames(parts, changed)


@defect("type-missing", "schema.known-type", "An event has no type.")
def type_missing(parts: Parts) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        yield replace(frame, event=None) if entry.type == VICTIM else frame

    return frames(parts, changed)


@defect("type-unknown", "schema.known-type", "An event has a type that the protocol lacks.")
def type_unknown(parts: Parts) -> Parts:
    def changed(entry: Entry, frame: Frame) -> Iterator[Frame]:
        yield replace(frame, event="artifact") if entry.type == VICTIM else frame

    return frames(parts, changed)


@defect("field-dropped", "schema.required-fields", "A required field is missing.")
def field_dropped(parts: Parts) -> Parts:
    def change(entry: Entry) -> Entry:
        return replace(entry, payload={"creation_type": entry.payload["creation_type"]})

    return _victims(parts, change)


@defect("field-of-wrong-type", "schema.required-fields", "A number is sent as a string.")
def field_of_wrong_type(parts: Parts) -> Parts:
    return _victims(parts, lambda entry: with_payload(entry, count=str(entry.payload["count"])))


@defect("extra-field", "schema.no-extra-fields", "An event has a field nobody declared.")
def extra_field(parts: Parts) -> Parts:
    return _victims(parts, lambda entry: with_payload(entry, internal_state="draft"))


@defect("null-optional", "schema.no-null-optionals", "An optional field is null, not left out.")
def null_optional(parts: Parts) -> Parts:
    return _victims(parts, lambda entry: with_payload(entry, tool_use_id=None))


@defect("run-changes", "schema.constant-identity", "The run's name changes within its stream.")
def run_changes(parts: Parts) -> Parts:
    class Changing(Cursors):
        """From event 5 on, the run is spelled backwards."""

        def text(self, run: str, seq: int) -> str:
            return super().text(run[::-1] if seq > 4 else run, seq)

        def parse(self, text: str) -> Cursor:
            cursor = super().parse(text)
            return replace(cursor, run=cursor.run[::-1]) if cursor.seq > 4 else cursor

    return replace(parts, cursors=Changing())


@defect(
    "run-changes-once",
    "schema.constant-identity",
    "One event of a run bears another run's name.",
)
def run_changes_once(parts: Parts) -> Parts:
    class Slipping(Cursors):
        def text(self, run: str, seq: int) -> str:
            return super().text(run[::-1] if seq == 3 else run, seq)

        def parse(self, text: str) -> Cursor:
            cursor = super().parse(text)
            return replace(cursor, run=cursor.run[::-1]) if cursor.seq == 3 else cursor

    return replace(parts, cursors=Slipping())
