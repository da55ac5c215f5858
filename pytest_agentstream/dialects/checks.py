"""Cross-checks: what each field of a profile may say only in view of others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_agentstream.dialects.fields import FIELD_TYPES, types_of
from pytest_agentstream.dialects.names import matches
from pytest_agentstream.dialects.paths import WHOLE, steps
from pytest_agentstream.wording import listed, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_agentstream.dialects.profile import Profile

_PLACES = ("sse_event", "json_path", "key_present", "constant")
_REQUEST = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /\S*")


def problems_of(profile: Profile) -> list[str]:
    """Return what contradicts itself in a profile, a sentence for each, with its dotted key."""
    checks = (_selectors, _fields, _paths, _cursor, _resume, _heartbeat)
    unnamed = list(_names(profile)) or list(_roles(profile))
    return [*unnamed, *(problem for check in checks for problem in check(profile))]


def _selectors(profile: Profile) -> Iterator[str]:
    if not profile.type_from:
        yield f"type_from is empty; expected at least one of {listed(_PLACES)}"
    for index, selector in enumerate(profile.type_from):
        given = [place for place in _PLACES if getattr(selector, place)]
        if len(given) != 1:
            found = f"has {listed(given, 'and')}" if given else "has nothing"
            yield f"type_from[{index}] {found}; expected one of {listed(_PLACES)}"


def _fields(profile: Profile) -> Iterator[str]:
    for name, event in profile.events.items():
        for table in ("required", "optional"):
            for field, rule in getattr(event, table).items():
                key = f"events.{name}.{table}.{field}"
                declared, key = (rule, key) if isinstance(rule, str) else (rule.type, f"{key}.type")
                try:
                    types_of(declared)
                except ValueError as error:
                    unknown = str(error)
                    hint = nearest(unknown, FIELD_TYPES)
                    yield f"{key} is {shown(declared)}; expected {listed(FIELD_TYPES)}{hint}"
        for field in event.required.keys() & event.optional.keys():
            yield f"events.{name}.optional.{field} is required too; expected it in one table"


def _names(profile: Profile) -> Iterator[str]:
    """Rules that name an event type which is not declared."""
    order = profile.order
    named: list[tuple[str, str]] = []
    for index, rule in enumerate(order.terminal):
        named.append((f"order.terminal[{index}].event", rule.event))
        if rule.after is not None:
            named.append((f"order.terminal[{index}].after", rule.after))
    for key in ("first", "after_terminal"):
        named.extend((f"order.{key}[{i}]", name) for i, name in enumerate(getattr(order, key)))
    named.extend((f"order.counts.{field}", name) for field, name in order.counts.items())
    if order.progress is not None:
        named.append(("order.progress.event", order.progress.event))
    for index, span in enumerate(profile.spans):
        named.append((f"spans[{index}].open", span.open))
        for key in ("continues", "close"):
            names = getattr(span, key)
            named.extend((f"spans[{index}].{key}[{i}]", name) for i, name in enumerate(names))
    if profile.errors.event is not None:
        named.append(("errors.event", profile.errors.event))
    known = [*profile.events, *profile.payload.sentinels]
    for key, name in named:
        if not any(matches(one, name) or matches(name, one) for one in known):
            yield (
                f"{key} is {shown(name)}, which is no declared event; "
                f"expected {listed(known)}{nearest(name, known)}"
            )


def _roles(profile: Profile) -> Iterator[str]:
    for name, event in profile.events.items():
        ends = any(matches(name, r.event) or matches(r.event, name) for r in profile.order.terminal)
        if event.role == "terminal" and not ends:
            yield (
                f'events.{name}.role is "terminal" and no order.terminal names it; '
                f"expected a rule that says which outcome it means"
            )


def _paths(profile: Profile) -> Iterator[str]:
    order, errors = profile.order, profile.errors
    paths: list[tuple[str, str | None]] = [
        ("order.sequence_path", order.sequence_path),
        ("errors.message_path", errors.message_path),
        ("errors.retryable_path", errors.retryable_path),
        ("errors.retry_after_ms_path", errors.retry_after_ms_path),
        ("errors.http_message_path", errors.http_message_path),
        ("cursor.json_path", profile.cursor.json_path),
    ]
    paths.extend(
        (f"events.{name}.text", event.text)
        for name, event in profile.events.items()
        if event.text != WHOLE
    )
    paths.extend(
        (f"type_from[{i}].json_path", s.json_path) for i, s in enumerate(profile.type_from)
    )
    paths.extend((f"order.constant[{i}]", path) for i, path in enumerate(order.constant))
    paths.extend((f"order.counts.{field}", field) for field in order.counts)
    for index, rule in enumerate(order.terminal):
        paths.extend((f"order.terminal[{index}].where", path) for path in rule.where)
    if order.progress is not None:
        paths.append(("order.progress.value", order.progress.value))
        paths.append(("order.progress.key", order.progress.key))
    for index, span in enumerate(profile.spans):
        paths.append((f"spans[{index}].key", span.key))
        paths.extend((f"spans[{index}].open_where", path) for path in span.open_where)
    for key, path in paths:
        try:
            steps(path or "absent")
        except ValueError:
            yield f"{key} is {shown(path)}; expected a path like a.b[0].c"


def _cursor(profile: Profile) -> Iterator[str]:
    cursor = profile.cursor
    if (cursor.source == "json-path") != (cursor.json_path is not None):
        path = "missing" if cursor.json_path is None else shown(cursor.json_path)
        yield (
            f'cursor.json_path is {path} and cursor.source is "{cursor.source}"; '
            'expected a path with the source "json-path", and only with it'
        )
    if cursor.contiguous and cursor.order != "integer":
        yield 'cursor.contiguous is true; expected cursor.order = "integer" with it'
    if cursor.pattern is None:
        return
    try:
        groups = re.compile(cursor.pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        yield f"cursor.pattern is {shown(cursor.pattern)}; expected a regular expression: {error}"
        return
    if cursor.order == "integer" and "seq" not in groups:
        yield (
            f"cursor.pattern is {shown(cursor.pattern)}; expected a named group (?P<seq>…) in it, "
            f'since cursor.order is "integer"'
        )


def _resume(profile: Profile) -> Iterator[str]:
    resume = profile.resume
    if resume.kind in ("last-event-id", "query", "body") and profile.cursor.source == "none":
        yield (
            f'resume.kind is "{resume.kind}" and cursor.source is "none"; '
            f'expected "sse-id" or "json-path": a cursor to resume from'
        )
    if resume.kind in ("replay", "snapshot") and resume.path is None:
        yield f'resume.kind is "{resume.kind}" and resume.path is missing; expected where to ask'
    if resume.kind in ("query", "body") and resume.query is None:
        yield (
            f'resume.kind is "{resume.kind}" and resume.query is missing; '
            f"expected the name that the cursor is sent under"
        )
    for key in ("cancel", "answer"):
        request = getattr(resume, key)
        if request is not None and _REQUEST.fullmatch(request) is None:
            yield f'resume.{key} is {shown(request)}; expected "METHOD /path"'


def _heartbeat(profile: Profile) -> Iterator[str]:
    heartbeats = [name for name, event in profile.events.items() if event.role == "heartbeat"]
    if profile.heartbeat.kind == "event" and not heartbeats:
        yield 'heartbeat.kind is "event"; expected an event with role = "heartbeat"'
    if profile.heartbeat.promised and profile.heartbeat.kind == "none":
        yield 'heartbeat.promised is true and heartbeat.kind is "none"; expected comment or event'
