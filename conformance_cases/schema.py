"""What each event says: that it parses, has a known type, and the fields of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_agentstream.cases import requirement, sample
from pytest_agentstream.observing import intact
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.verdicts import expect

if TYPE_CHECKING:
    from pytest_agentstream.observing import Observation

DIALECT = "the dialect's own description of its events"


def expect_none(slug: str, runs: list[Observation]) -> None:
    """Fail with the first violation of a requirement that the dialect found in any of the runs."""
    for run in runs:
        for violation in run.violations(slug):
            expect(
                False,
                expected=violation.expected,
                actual=violation.actual,
                at=violation.event if violation.event is not None else run.last,
            )


@requirement(
    "schema.json-strict",
    MUST,
    tier="core",
    text="Every payload parses as the dialect's kind; JSON has no NaN and no Infinity.",
    source="RFC 8259 2, 6 and 8.1",
    breaks="JSON.parse, and so every browser and Node client: the event, mostly the run, is lost",
    hint="json.dumps(…, allow_nan=False), and one encoder for all events",
    presupposes=[
        "framing.no-interleaving",
        "framing.no-empty-data",
        "framing.utf-8",
    ],
    needs=sample(events=1),
)
def test_json_strict(all_runs: list[Observation]) -> None:
    expect_none("schema.json-strict", intact(all_runs))


@requirement(
    "schema.no-lone-surrogates",
    SHOULD,
    tier="core",
    text="No JSON text holds a lone surrogate.",
    source="RFC 8259 8.2: unpredictable; RFC 7493 2.1 forbids them",
    breaks="clients that encode the text again, as Python's do: UnicodeEncodeError",
    hint="a character was cut in two: join upstream chunks before encoding",
    presupposes=["schema.json-strict"],
    needs=sample(events=1),
)
def test_no_lone_surrogates(all_runs: list[Observation]) -> None:
    expect_none("schema.no-lone-surrogates", all_runs)


@requirement(
    "schema.known-type",
    MUST,
    tier="core",
    text="Every event has a type, and one that the dialect knows or allows.",
    source=DIALECT,
    breaks="clients of the dialect: some ignore the event, ai 6 fails the stream",
    hint="send only event types of the dialect",
    presupposes=[
        "framing.field-case",
        "framing.no-interleaving",
        "schema.json-strict",
    ],
    needs=sample(events=1),
)
def test_known_type(all_runs: list[Observation]) -> None:
    expect_none("schema.known-type", intact(all_runs))


@requirement(
    "schema.type-agreement",
    MUST,
    tier="core",
    text="Where the type stands in event: and in the payload, both say the same.",
    source=DIALECT,
    breaks="clients of the dialect, which look at one or at the other",
    hint="write both from one value",
    presupposes=["schema.json-strict"],
    needs=sample(events=1),
)
def test_type_agreement(all_runs: list[Observation]) -> None:
    expect_none("schema.type-agreement", all_runs)


@requirement(
    "schema.required-fields",
    MUST,
    tier="core",
    text="Every event has the fields that its type requires, of the right kind.",
    source=DIALECT,
    breaks="typed clients of the dialect: the event is rejected, mostly with the whole run",
    hint="validate events against the dialect's schema where they are made",
    presupposes=["schema.json-strict", "schema.known-type"],
    needs=sample(events=1),
)
def test_required_fields(all_runs: list[Observation]) -> None:
    expect_none("schema.required-fields", all_runs)


@requirement(
    "schema.no-extra-fields",
    SHOULD,
    tier="core",
    text="No event has fields that the dialect does not declare, where it forbids them.",
    source=DIALECT,
    breaks="clients that validate strictly",
    hint="move additions to a field that is meant for them, or to the dialect's description",
    presupposes=["schema.json-strict"],
    needs=sample(events=1),
)
def test_no_extra_fields(all_runs: list[Observation]) -> None:
    expect_none("schema.no-extra-fields", all_runs)


@requirement(
    "schema.no-null-optionals",
    SHOULD,
    tier="core",
    text="An optional field that has no value is left out, not null.",
    source=DIALECT,
    breaks="@ag-ui/client and ai 6, which reject null where a field is optional",
    hint="model_dump(exclude_none=True)",
    presupposes=["schema.json-strict"],
    needs=sample(events=1),
)
def test_no_null_optionals(all_runs: list[Observation]) -> None:
    expect_none("schema.no-null-optionals", all_runs)


@requirement(
    "schema.constant-identity",
    MUST,
    tier="core",
    text="The ids that the dialect declares constant stay the same within a run.",
    source=DIALECT,
    breaks="clients that file events by that id: the rest of the run goes astray",
    hint="make the id once, when the run starts",
    presupposes=["schema.json-strict", "framing.id-without-nul"],
    needs=sample(events=2),
)
def test_constant_identity(all_runs: list[Observation]) -> None:
    expect_none("schema.constant-identity", all_runs)
