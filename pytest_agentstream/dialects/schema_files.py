"""Schema files: the JSON Schemas that stand beside a dialect's TOML file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pytest_agentstream.dialects.fields import schema_of
from pytest_agentstream.dialects.schemas import Schema
from pytest_agentstream.wording import capped, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from pytest_agentstream.dialects.profile import EventType, Profile

_URI = "urn:agentstream:schema"
_DEFINITIONS = ("$defs", "definitions")


class SchemaFiles:
    """The schema files of one dialect, each read once; `room` is the folder of its TOML file.

    `file.json#/name` means the part `name` of a file. A part with definitions of its own (`$defs`)
    is a document of its own; any other looks its `#/…` references up in the whole file.
    """

    def __init__(self, room: Traversable | Path) -> None:
        self._room = room
        self._raw: dict[str, bytes] = {}

    def problems_of(self, profile: Profile) -> list[str]:
        """Return what is wrong with the schemas that a profile names, a sentence for each."""
        found = []
        for name, event in profile.events.items():
            if event.schema_file is None:
                continue
            key = f"events.{name}.schema_file"
            if event.required or event.optional:
                found.append(f"{key} stands beside field tables; expected one of the two, not both")
            if (problem := self._problem(event.schema_file)) is not None:
                found.append(f"{key} is {shown(event.schema_file)}; {problem}")
        return found

    def compiled(self, name: str, event: EventType) -> Schema:
        """Return the schema of an event type; its file, if any, must be without problems."""
        nulls = event.null_optionals == "allow"
        if event.schema_file is None:
            return Schema(name, schema_of(event), nulls=nulls)
        document, pointer = self._document(event.schema_file)
        return Schema(name, document, pointer=pointer, nulls=nulls)

    def content(self) -> bytes:
        """Return the bytes of all the files, in the order of their names."""
        return b"".join(self._raw[file] for file in sorted(self._raw))

    def _document(self, reference: str) -> tuple[Any, str]:
        file, _, pointer = reference.partition("#")
        if file not in self._raw:
            self._raw[file] = (self._room / file).read_bytes()
        whole = json.loads(self._raw[file])
        if not pointer:
            return whole, ""
        part = (
            Resource.from_contents(whole, default_specification=DRAFT202012)
            .pointer(pointer, resolver=Registry().resolver())
            .contents
        )
        own = isinstance(part, dict) and any(key in part for key in _DEFINITIONS)
        return (part, "") if own else (whole, pointer)

    def _problem(self, reference: str) -> str | None:
        file, _, pointer = reference.partition("#")
        try:
            document, pointer = self._document(reference)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, FileNotFoundError):
                return "there is no such file beside the dialect's"
            what = error.strerror if isinstance(error, OSError) else error
            return f"{file} is no JSON document: {capped(str(what))}"
        except Unresolvable:
            return f"{file} has no part {pointer}"
        return _invalid(document, pointer)


def _invalid(document: Any, pointer: str) -> str | None:
    if not isinstance(document, dict):
        return f"expected a JSON Schema, an object, but it holds {shown(document)}"
    dialect = validator_for(document, default=Draft202012Validator)
    try:
        dialect.check_schema(document)
    except SchemaError as error:
        where = f" at {error.json_path}" if error.path else ""
        return f"it is no valid JSON Schema{where}: {capped(error.message)}"
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    resolver = Registry().with_resource(_URI, resource).resolver(_URI)
    part = resolver.lookup(f"#{pointer}").contents
    seen: set[str] = set()
    waiting = list(_references(part))
    while waiting:
        reference = waiting.pop()
        if reference in seen:
            continue
        seen.add(reference)
        try:
            waiting.extend(_references(resolver.lookup(reference).contents))
        except Unresolvable:
            return f"its reference {shown(reference)} leads nowhere within the file"
    return None


def _references(schema: Any) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            if isinstance(item.get("$ref"), str):
                yield item["$ref"]
            waiting.extend(item.values())
