"""Which requirements apply in a dialect, why not, and how binding they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import load
from pytest_agentstream.requirements import MUST, SHOULD, Level, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects import Dialect

    Declared = Callable[[str], Dialect]

PLAIN = 'name = "mine"\ntype_from = [{ sse_event = true }]\n[events.token]\n'
OVERRIDES = """\
[requirements]
"ids.present" = { applies = true, why = "ids are in another header" }
"heartbeat.*" = { applies = false, why = "its gateway keeps connections open" }
"terminal.*" = { level = "SHOULD", why = "an early draft" }
"terminal.closes" = { level = "MUST", why = "but it closes" }
"http.no-store" = { level = "MUST", why = "there is a cache" }
"""

LACKING = [
    ("agent-event-stream", "ids.present", "has no ids"),
    ("agent-event-stream", "resume.exact-suffix", "has no ids"),
    ("agent-event-stream", "durable.epoch", "has no way to resume"),
    (
        "agent-event-stream",
        "terminal.dead-producer",
        "has no way to join a run at another process",
    ),
    ("agent-event-stream", "order.first", "lets any event come first"),
    ("agent-event-stream", "order.counts-agree", "declares no totals"),
    ("agent-event-stream", "schema.type-agreement", "says the type in one place only"),
    (
        "agent-event-stream",
        "retry.class-in-stream",
        "has no place in its error for whether a retry can help",
    ),
    (
        "agent-event-stream",
        "retry.after-terminal",
        "has no way to resume: posting again is its protocol",
    ),
    ("generic-data", "order.spans-closed", "says of no span that it must be closed"),
    ("generic-data", "order.no-double-open", "has no spans"),
    ("generic-data", "order.tool-results-match", "has no tool calls"),
    ("generic-data", "order.progress-monotonic", "has no progress"),
    ("generic-typed", "ids.strictly-increasing", "has opaque ids, which have no order"),
    ("generic-typed", "resume.two-readers", "allows a run one reader"),
    (
        "generic-typed",
        "disconnect.cancels",
        'does not say that a disconnect cancels; where the server says so: disconnect = "cancels"',
    ),
    ("generic-typed", "cancel.explicit", "has no cancelled terminal"),
    (
        "agent-event-stream",
        "retry.consistent",
        "has no place in its error for whether a retry can help",
    ),
    (
        "generic-typed",
        "terminal.truncation-said",
        "has no place for saying that an answer is not whole",
    ),
    ("native", "order.sequence-contiguous", "has no sequence numbers in its payloads"),
    ("native", "terminal.spans-after-crash", "leaves spans open when a run fails"),
]


@pytest.mark.parametrize(("name", "slug", "lacks"), LACKING)
def test_lacking(name: str, slug: str, lacks: str) -> None:
    """What a dialect has no mechanism for does not apply in it, and the reason names the two."""
    assert load(name).not_applicable(slug) == f"the dialect {name} {lacks}"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("agent-event-stream", "heartbeat.present"),
        ("agent-event-stream", "order.tool-results-match"),
        ("agent-event-stream", "terminal.success-said"),
        ("generic-data", "terminal.interrupt-said"),
        ("generic-typed", "resume.exact-suffix"),
        ("native", "ids.contiguous"),
        ("native", "resume.same-request"),
        ("native", "disconnect.continues"),
        ("native", "disconnect.cancels"),
        ("native", "terminal.truncation-said"),
        ("native", "cancel.explicit"),
        ("native", "schema.constant-identity"),
    ],
)
def test_applies(name: str, slug: str) -> None:
    """What a dialect has a mechanism for applies in it."""
    assert load(name).not_applicable(slug) is None


@pytest.mark.parametrize(
    ("name", "slug", "default", "level"),
    [
        ("native", "heartbeat.present", MUST, MUST),
        ("agent-event-stream", "heartbeat.present", MUST, SHOULD),
        ("generic-typed", "heartbeat.present", MUST, MUST),
        ("native", "framing.field-case", MUST, MUST),
        ("native", "framing.field-case", SHOULD, MUST),
        ("agent-event-stream", "framing.field-case", MUST, SHOULD),
        ("generic-typed", "terminal.on-shutdown", MUST, SHOULD),
        ("native", "resume.unknown-cursor", SHOULD, MUST),
        ("agent-event-stream", "order.spans-closed", MUST, SHOULD),
        ("agent-event-stream", "terminal.exactly-one", MUST, MUST),
        ("native", "http.no-store", SHOULD, SHOULD),
    ],
)
def test_levels(name: str, slug: str, default: Level, level: Level) -> None:
    """What only some dialects promise is a MUST in these, and a SHOULD elsewhere."""
    assert load(name).level_of(slug, default) is level


def test_overrides(declared: Declared) -> None:
    """A dialect's own word counts, the slug's before the glob's, and its reason is given."""
    dialect = declared(PLAIN + OVERRIDES)
    assert dialect.not_applicable("heartbeat.present") == "its gateway keeps connections open"
    assert dialect.not_applicable("ids.present") == "the dialect mine has no ids"
    assert dialect.level_of("terminal.last", MUST) is SHOULD
    assert dialect.level_of("terminal.closes", SHOULD) is MUST
    assert dialect.level_of("http.no-store", SHOULD) is MUST
    assert dialect.why("terminal.last") == "an early draft"
    assert dialect.why("retry.auth") is None


@pytest.mark.parametrize(
    ("name", "tier", "has"),
    [
        ("native", Tier.DURABLE, True),
        ("generic-typed", Tier.RESUMABLE, True),
        ("agent-event-stream", Tier.RESILIENT, True),
        ("agent-event-stream", Tier.RESUMABLE, False),
        ("agent-event-stream", Tier.DURABLE, False),
        ("agent-event-stream", Tier.HARDENED, True),
        ("generic-data", "resumable", False),
    ],
)
def test_mechanism(name: str, tier: Tier | str, has: bool) -> None:
    """A dialect that cannot resume has no way to the tiers that rest on it."""
    assert load(name).mechanism(tier) is has


def test_replay_needs_no_ids(declared: Declared) -> None:
    """A dialect that resumes by replaying all is judged by that, though it has no ids."""
    dialect = declared(PLAIN + '[resume]\nkind = "replay"\npath = "/again"\n')
    assert dialect.not_applicable("resume.finished-run") is None
    assert dialect.not_applicable("ids.unique") == "the dialect mine has no ids"


@pytest.mark.parametrize(
    ("name", "glob", "matched"),
    [
        ("token", "token", True),
        ("jobs_data", "*_data", True),
        ("data", "*_data", False),
        ("[DONE]", "[DONE]", True),
        ("D", "[DONE]", False),
        ("a.b", "a?b", False),
        (None, "*", False),
        ("line\nbreak", "line*", True),
    ],
)
def test_matches_type(name: str | None, glob: str, matched: bool) -> None:
    """In a glob `*` is any text, and every other character is itself."""
    assert load("native").matches_type(name, glob) is matched
