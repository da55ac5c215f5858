"""Which requirements a dialect has a mechanism for, and how binding they are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.dialects.names import matches
from pytest_agentstream.requirements import SHOULD, Level, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects.profile import Override, Profile

ONLY_WHERE_DECLARED = frozenset(
    {
        "cancel.explicit",
        "framing.field-case",
        "framing.id-without-nul",
        "framing.retry-digits",
        "ids.contiguous",
        "resume.future-cursor",
        "resume.same-request",
        "resume.unknown-cursor",
        "retry.duplicate-start",
        "schema.no-extra-fields",
        "schema.no-null-optionals",
        "security.origin",
        "terminal.dead-producer",
        "terminal.on-shutdown",
    }
)
"""Requirements that are MUST only in a dialect whose own text says so, and SHOULD in all others."""


def override_of(profile: Profile, slug: str) -> Override | None:
    """Return what the dialect itself says of a requirement: by its slug, else by the first glob."""
    if slug in profile.requirements:
        return profile.requirements[slug]
    fitting = (glob for glob in profile.requirements if matches(slug, glob))
    return next((profile.requirements[glob] for glob in fitting), None)


def level_of(profile: Profile, slug: str, default: Level) -> Level:
    """Return the level that the dialect says, or else the catalogue's, or what is left of it.

    Heartbeats are MUST where the dialect promises them, and SHOULD elsewhere.
    """
    override = override_of(profile, slug)
    if override is not None and override.level is not None:
        return override.level
    unpromised = slug.startswith("heartbeat.") and not profile.heartbeat.promised
    return SHOULD if unpromised or slug in ONLY_WHERE_DECLARED else default


def not_applicable(profile: Profile, slug: str) -> str | None:
    """Return why a requirement does not apply: the dialect's own word, or what it lacks."""
    override = override_of(profile, slug)
    if override is not None and not override.applies:
        return override.why
    for glob, lacks, why in _LACKING:
        if matches(slug, glob) and lacks(profile):
            return f"the dialect {profile.name} {why}"
    return None


def mechanism(profile: Profile, tier: Tier | str) -> bool:
    """Tell whether the dialect has the mechanism without which a tier cannot be reached."""
    needs_resume = Tier(tier) in (Tier.RESUMABLE, Tier.DURABLE)
    return not needs_resume or profile.resume.kind != "none"


def _no_ids(profile: Profile) -> bool:
    return profile.cursor.source == "none"


def _no_resume(profile: Profile) -> bool:
    return profile.resume.kind == "none"


def _no_cursor_to_resume(profile: Profile) -> bool:
    return _no_ids(profile) and profile.resume.kind not in ("replay", "snapshot")


def _opaque(profile: Profile) -> bool:
    return profile.cursor.order == "opaque"


def _no_terminal(profile: Profile) -> bool:
    return not profile.order.terminal


def _no_outcome(outcome: str) -> Callable[[Profile], bool]:
    return lambda profile: all(rule.outcome != outcome for rule in profile.order.terminal)


def _no_role(role: str) -> Callable[[Profile], bool]:
    return lambda profile: all(event.role != role for event in profile.events.values())


def _must_close_none_of(*outcomes: str) -> Callable[[Profile], bool]:
    return lambda profile: not any(set(outcomes) & set(span.must_close) for span in profile.spans)


def _no_person(profile: Profile) -> bool:
    return _no_role("input")(profile) and _no_outcome("interrupt")(profile)


def _no_constant(profile: Profile) -> bool:
    return not profile.order.constant and "(?P<run>" not in (profile.cursor.pattern or "")


def _nothing_required(profile: Profile) -> bool:
    events = profile.events.values()
    return not any(event.required or event.optional or event.schema_file for event in events)


_LACKING: tuple[tuple[str, Callable[[Profile], bool], str], ...] = (
    ("ids.*", _no_ids, "has no ids"),
    ("resume.*", _no_cursor_to_resume, "has no ids"),
    ("resume.*", _no_resume, "has no way to resume"),
    ("durable.*", _no_resume, "has no way to resume"),
    ("terminal.dead-producer", _no_resume, "has no way to join a run at another process"),
    ("security.cross-tenant-resume", _no_resume, "has no way to resume"),
    ("security.auth-on-resume", _no_resume, "has no way to resume"),
    ("retry.after-terminal", _no_resume, "has no way to resume: posting again is its protocol"),
    ("heartbeat.no-cursor", _no_ids, "has no ids"),
    (
        "heartbeat.while-tool-runs",
        lambda p: not any(span.is_tool for span in p.spans),
        "has no tool calls",
    ),
    ("ids.strictly-increasing", _opaque, "has opaque ids, which have no order"),
    ("resume.future-cursor", _opaque, "has opaque ids, which have no order"),
    ("ids.contiguous", lambda p: not p.cursor.contiguous, "does not say that ids have no holes"),
    ("resume.two-readers", lambda p: p.resume.readers == "one", "allows a run one reader"),
    (
        "resume.same-request",
        lambda p: p.resume.kind != "last-event-id",
        "does not resume by Last-Event-ID",
    ),
    (
        "resume.header-and-query",
        lambda p: p.resume.kind != "last-event-id" or p.resume.query is None,
        "carries the cursor in one place only",
    ),
    (
        "disconnect.cancels",
        lambda p: p.resume.disconnect != "cancels" and not p.start.disconnect_cancels,
        'does not say that a disconnect cancels; where the server says so: disconnect = "cancels"',
    ),
    (
        "disconnect.continues",
        lambda p: p.resume.disconnect != "continues",
        "does not say that a run goes on without its reader",
    ),
    ("disconnect.continues", _no_resume, "has no way to join a run again"),
    ("cancel.*", _no_outcome("cancelled"), "has no cancelled terminal"),
    ("cancel.*", lambda p: p.resume.cancel is None, "has no request that cancels a run"),
    ("terminal.exactly-one", _no_terminal, "has no terminal"),
    ("terminal.last", _no_terminal, "has no terminal"),
    ("terminal.closes", _no_terminal, "has no terminal"),
    ("terminal.success-said", _no_outcome("success"), "has no success terminal"),
    ("terminal.interrupt-*", _no_person, "has no way to wait for a person"),
    (
        "terminal.spans-after-crash",
        _must_close_none_of("failure"),
        "leaves spans open when a run fails",
    ),
    ("order.first", lambda p: not p.order.first, "lets any event come first"),
    ("order.spans-open-before-use", lambda p: not p.spans, "has no spans"),
    ("order.no-double-open", lambda p: not p.spans, "has no spans"),
    (
        "order.spans-closed",
        _must_close_none_of("success", "interrupt", "cancelled"),
        "says of no span that it must be closed",
    ),
    (
        "order.tool-results-match",
        lambda p: not any(span.is_tool for span in p.spans),
        "has no tool calls",
    ),
    ("order.final-equals-deltas", lambda p: True, "declares no final value of its deltas"),
    ("order.progress-monotonic", lambda p: p.order.progress is None, "has no progress"),
    (
        "order.progress-completes",
        lambda p: p.order.progress is None or p.order.progress.complete is None,
        "has no progress with an end",
    ),
    ("order.counts-agree", lambda p: not p.order.counts, "declares no totals"),
    (
        "order.sequence-contiguous",
        lambda p: p.order.sequence_path is None,
        "has no sequence numbers in its payloads",
    ),
    ("schema.constant-identity", _no_constant, "declares nothing constant"),
    (
        "schema.type-agreement",
        lambda p: p.framing.event_line != "equals-type",
        "says the type in one place only",
    ),
    ("schema.json-strict", lambda p: p.payload.kind == "text", "has payloads of plain text"),
    ("schema.no-lone-surrogates", lambda p: p.payload.kind == "text", "has payloads of plain text"),
    ("schema.required-fields", _nothing_required, "declares no fields"),
    (
        "schema.no-extra-fields",
        lambda p: not any(e.extra == "forbid" or e.schema_file for e in p.events.values()),
        "forbids no undeclared fields",
    ),
    (
        "schema.no-null-optionals",
        lambda p: all(e.null_optionals == "allow" for e in p.events.values()),
        "lets optional fields be null",
    ),
    (
        "retry.class-in-stream",
        lambda p: p.errors.retryable_path is None,
        "has no place in its error for whether a retry can help",
    ),
    (
        "retry.consistent",
        lambda p: p.errors.retryable_path is None,
        "has no place in its error for whether a retry can help",
    ),
    (
        "terminal.truncation-said",
        lambda p: not p.order.incomplete,
        "has no place for saying that an answer is not whole",
    ),
    (
        "retry.duplicate-start",
        lambda p: p.start.idempotency_header is None,
        "has no idempotency key",
    ),
)
