"""The bytes of a stream: encoding, lines, fields and blocks, before any event is looked at."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING

from conformance_cases.clients import httpx_sse_events, httpx_sse_version
from pytest_agentstream.cases import requirement, sample
from pytest_agentstream.dialects.payload import parse
from pytest_agentstream.dialects.reading import Outcome
from pytest_agentstream.observing import intact
from pytest_agentstream.requirements import MUST, SHOULD
from pytest_agentstream.tolerances import LONGEST_LINE, LONGEST_RETRY, SHORTEST_RETRY
from pytest_agentstream.verdicts import NotApplicable, NotTested, expect

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.target import Target
    from pytest_agentstream.wire import Block, Line

FIELDS = frozenset({"data", "event", "id", "retry"})
FIELD_NAMES = frozenset(name.encode() for name in FIELDS)
NAMED = {b"\n": "LF", b"\r\n": "CRLF", b"\r": "CR"}


def streams(runs: list[Observation]) -> Iterator[Recording]:
    """Every exchange that was answered with a stream; an error page is none.

    A wrong content type on a 2xx is what `http.content-type` is about.
    """
    for run in runs:
        for exchange in run.exchanges:
            if is_answered(exchange) and exchange.blocks:
                yield exchange


def is_answered(exchange: Recording) -> bool:
    return exchange.head is not None and 200 <= exchange.head.status < 300


def blocks(runs: list[Observation]) -> Iterator[tuple[Recording, Block]]:
    for exchange in streams(runs):
        for block in exchange.blocks:
            yield exchange, block


def lines(runs: list[Observation]) -> Iterator[tuple[Recording, Line]]:
    for exchange, block in blocks(runs):
        for line in block.lines:
            yield exchange, line


def fields(name: str, runs: list[Observation]) -> list[tuple[Recording, Line]]:
    """Every line of one field; raises `NotApplicable` where the server never sends it."""
    found = [(exchange, line) for exchange, line in lines(runs) if line.name == name]
    if not found:
        raise NotApplicable(f"the server sends no `{name}` field")
    return found


def is_whole(exchange: Recording, block: Block) -> bool:
    """Whether a block was not merely torn by the end of the exchange."""
    return block.complete or exchange.ended_cleanly


@requirement(
    "framing.utf-8",
    MUST,
    tier="core",
    text="The body is valid UTF-8.",
    source="WHATWG HTML 9.2.5: event streams are always encoded as UTF-8; RFC 3629",
    breaks="every client: what is not UTF-8 is shown as U+FFFD, and the text is lost",
    hint="encode once, at the end, as UTF-8",
    needs=sample(blocks=1),
)
def test_utf8(all_runs: list[Observation]) -> None:
    planted = any(
        run.scenario == "echo"
        and run.outcome is Outcome.SUCCESS
        and not (run.declared.text or "").isascii()
        for run in all_runs
    )
    if not planted and all(exchange.body.isascii() for exchange in streams(all_runs)):
        raise NotTested("only ASCII was seen", "map an `echo` scenario: it plants other characters")
    for exchange, block in blocks(all_runs):
        torn = not is_whole(exchange, block)
        wrong = [at for at in block.invalid_utf8 if not (torn and at >= block.end - 3)]
        expect(
            not wrong,
            expected="valid UTF-8",
            actual=f"byte {exchange.body[wrong[0]]:#04x} at offset {wrong[0]}" if wrong else "",
            at=block,
            recording=exchange,
        )


@requirement(
    "framing.no-bom",
    SHOULD,
    tier="core",
    text="A stream does not start with a byte-order mark.",
    source="WHATWG HTML 9.2.5 allows one; clients.md's clients do not",
    breaks="openai, anthropic, httpx-sse and httpx2, which lose the first line",
    hint="encode as utf-8, not as utf-8-sig",
    needs=sample(blocks=1),
)
def test_no_bom(all_runs: list[Observation]) -> None:
    for exchange in streams(all_runs):
        first = exchange.blocks[0]
        expect(
            not first.bom,
            expected="no byte-order mark",
            actual="the bytes ef bb bf before the first line",
            at=first,
            recording=exchange,
        )


@requirement(
    "framing.complete-blocks",
    MUST,
    tier="core",
    text="Every block ends with a blank line, the last one too.",
    source="WHATWG HTML 9.2.6: once the end of the file is reached, pending data must be discarded",
    breaks="EventSource and every client that follows the specification: they discard the event",
    hint="end the last block with an empty line like all others",
    needs=sample(blocks=1),
)
def test_complete_blocks(good_runs: list[Observation]) -> None:
    if not any(exchange.ended_cleanly for exchange in streams(good_runs)):
        raise NotTested("no stream came to its own end, so its last block may just be cut")
    for exchange, block in blocks(good_runs):
        if not exchange.ended_cleanly or block.complete:
            continue
        fields = [line for line in block.lines if line.kind == "field"]
        expect(
            not fields,
            expected="a blank line at the end of the last block",
            actual=f"the body ends {block.end - block.start} bytes into a block",
            at=block,
            recording=exchange,
        )


@requirement(
    "framing.known-fields",
    SHOULD,
    tier="core",
    text="Lines are data, event, id, retry or comments.",
    source="WHATWG HTML 9.2.6: otherwise, the field is ignored",
    breaks="every client: the line is dropped without a word",
    hint="look for a newline that got into a field, or a colon that got lost",
    presupposes=["framing.no-interleaving", "framing.field-case"],
    needs=sample(blocks=1),
)
def test_known_fields(all_runs: list[Observation]) -> None:
    for exchange, block in blocks(intact(all_runs)):
        for line in block.lines if is_whole(exchange, block) else ():
            expect(
                line.kind != "field" or line.name.lower() in FIELDS,
                expected="one of the fields data, event, id, retry, or a comment",
                actual=f"the field {line.name[:60]!r}",
                at=line,
                recording=exchange,
            )


@requirement(
    "framing.field-case",
    MUST,
    tier="core",
    text="The names of the four fields are written in lower case.",
    source="WHATWG HTML 9.2.6: the field name must be matched literally, with no case folding",
    breaks="EventSource and every other decoder, which ignore the line",
    hint="write data:, event:, id:, retry:",
    needs=sample(blocks=1),
)
def test_field_case(all_runs: list[Observation]) -> None:
    for exchange, line in lines(all_runs):
        variant = line.kind == "field" and line.name not in FIELDS and line.name.lower() in FIELDS
        expect(
            not variant,
            expected=f"the field {line.name.lower()!r}",
            actual=f"the field {line.name!r}",
            at=line,
            recording=exchange,
        )


@requirement(
    "framing.no-interleaving",
    MUST,
    tier="core",
    text="Heartbeats and events never mix within a line.",
    source="WHATWG HTML 9.2.5: a comment is a line of its own",
    breaks="every client: an event is torn, or a heartbeat becomes part of a text",
    hint="write each block in one piece, under one lock with the heartbeats",
    needs=sample(blocks=1),
)
def test_no_interleaving(all_runs: list[Observation], dialect: Dialect, target: Target) -> None:
    heartbeats = {
        line.raw
        for _, line in lines(all_runs)
        if line.kind == "comment" and line.value.strip() and len(line.raw) <= 64
    }
    if not heartbeats:
        waited = any(run.scenario == "silence" for run in all_runs)
        if waited or target.heartbeat is None:
            raise NotApplicable("the server sends no heartbeat that could be mixed into an event")
        raise NotTested("no heartbeat was seen", "map a `silence` scenario, so that one is due")
    for exchange in streams(all_runs):
        torn = next(_torn_heartbeats(exchange, heartbeats), None)
        expect(
            torn is None,
            expected="heartbeats on lines of their own",
            actual=f"the line {torn.raw[:60]!r}, a heartbeat that goes on as an event"
            if torn
            else "",
            at=torn,
            recording=exchange,
        )
    for exchange, block in blocks(all_runs):
        data = block.event.data if block.event is not None else None
        if data is not None and parse(data, dialect.profile.payload).problem is None:
            continue  # an event that is whole may well quote a heartbeat
        for line in block.lines if is_whole(exchange, block) else ():
            searched = line.value.encode() if line.name in FIELDS else line.raw[1:]
            inside = next((text for text in heartbeats if text in searched), None)
            expect(
                inside is None or not _is_torn(line, dialect),
                expected="heartbeats on lines of their own",
                actual=f"the heartbeat {inside!r} inside a line",
                at=line,
                recording=exchange,
            )
            expect(
                line.kind != "comment" or not _EVENT_IN_COMMENT.search(line.value),
                expected="a comment that holds no part of an event",
                actual=f"the comment {line.value[:60]!r}",
                at=line,
                recording=exchange,
            )


def _torn_heartbeats(exchange: Recording, heartbeats: Collection[bytes]) -> Iterator[Line]:
    """The comments that begin as a heartbeat and go on as a field, where its rest stands alone."""
    found = [line for block in exchange.blocks for line in block.lines]
    rests = {line.raw for line in found if line.name and not line.colon} - FIELD_NAMES
    beats = [beat for beat in heartbeats if beat.endswith(tuple(rests))] if rests else []
    for line in found if beats else ():
        for beat in beats if line.kind == "comment" else ():
            for rest in rests:
                head = beat.removesuffix(rest)
                behind = line.raw.removeprefix(head).partition(b":")[0]
                if head != beat and line.raw.startswith(head) and behind in FIELD_NAMES:
                    yield line


_EVENT_IN_COMMENT = re.compile(r"(?:^|[^a-z])data: ?[\[{]")


def _is_torn(line: Line, dialect: Dialect) -> bool:
    """Whether what stands in the line breaks it: a whole payload may well quote a heartbeat."""
    if line.kind == "comment":
        return False
    return line.name != "data" or parse(line.value, dialect.profile.payload).problem is not None


@requirement(
    "framing.retry-digits",
    MUST,
    tier="core",
    text="retry is a number of milliseconds in ASCII digits.",
    source="WHATWG HTML 9.2.6: if the field value consists of only ASCII digits",
    breaks="EventSource ignores it; openai, anthropic and httpx-sse accept -5 and crash or storm",
    hint="write milliseconds as an integer: retry: 1500",
    needs=sample(blocks=1),
)
def test_retry_digits(all_runs: list[Observation]) -> None:
    for exchange, line in fields("retry", all_runs):
        expect(
            line.value.isascii() and line.value.isdigit(),
            expected="ASCII digits",
            actual=f"retry: {line.value[:60]}",
            at=line,
            recording=exchange,
        )


@requirement(
    "framing.retry-sane",
    SHOULD,
    tier="core",
    text="retry lies between 100 ms and 10 minutes.",
    source="WHATWG HTML 9.2.3: the reconnection time; field experience with restarts",
    breaks="the server itself: with 0 every client comes back at once, over and over",
    hint="retry: 1000 to 5000 suits most servers",
    presupposes=["framing.retry-digits"],
    needs=sample(blocks=1),
)
def test_retry_sane(all_runs: list[Observation]) -> None:
    fields("retry", all_runs)
    for exchange, block in blocks(all_runs):
        if block.retry is not None:
            expect(
                SHORTEST_RETRY <= block.retry <= LONGEST_RETRY,
                expected=f"{SHORTEST_RETRY} to {LONGEST_RETRY} ms",
                actual=f"{block.retry} ms",
                at=block,
                recording=exchange,
            )


@requirement(
    "framing.id-without-nul",
    MUST,
    tier="core",
    text="No id contains U+0000.",
    source="WHATWG HTML 9.2.6: if the field value does not contain U+0000 NULL",
    breaks="EventSource, which ignores the id and resumes from an older one",
    hint="make ids of printable ASCII",
    needs=sample(blocks=1),
)
def test_id_without_nul(all_runs: list[Observation]) -> None:
    for exchange, line in fields("id", all_runs):
        expect(
            "\0" not in line.value,
            expected="an id without NUL",
            actual=f"the id {line.value[:60]!r}",
            at=line,
            recording=exchange,
        )


@requirement(
    "framing.no-dataless-events",
    SHOULD,
    tier="core",
    text="No block has an event type or an id but no data.",
    source="WHATWG HTML 9.2.6: if the data buffer is an empty string, nothing is dispatched",
    breaks="openai raises JSONDecodeError; httpx-sse and httpx2 emit an event that was never sent",
    hint="send data with every event, or a comment where nothing is to be said",
    presupposes=["heartbeat.no-cursor"],
    needs=sample(blocks=1),
)
def test_no_dataless_events(all_runs: list[Observation]) -> None:
    for exchange, block in blocks(intact(all_runs)):
        names = {line.name for line in block.lines if line.kind == "field"}
        expect(
            not block.complete or "data" in names or not names & {"event", "id"},
            expected="a data line",
            actual=f"a block with only {' and '.join(sorted(names))}",
            at=block,
            recording=exchange,
        )


@requirement(
    "framing.retry-not-alone",
    SHOULD,
    tier="core",
    text="retry comes with an event, not in a block of its own.",
    source="WHATWG HTML 9.2.6 allows it; clients.md's clients do not",
    breaks="openai raises JSONDecodeError; httpx-sse and httpx2 emit an event that was never sent",
    hint="put retry: into the first event's block",
    needs=sample(blocks=1),
)
def test_retry_not_alone(all_runs: list[Observation]) -> None:
    for exchange, block in blocks(all_runs):
        names = {line.name for line in block.lines if line.kind == "field"}
        expect(
            names != {"retry"} or not block.complete,
            expected="an event in the block with retry",
            actual="a block with only retry",
            at=block,
            recording=exchange,
        )


@requirement(
    "framing.no-empty-data",
    SHOULD,
    tier="core",
    text="No event has empty data, unless it primes a cursor.",
    source="WHATWG HTML 9.2.6 dispatches it; clients.md's clients do not survive it",
    breaks="openai, @ag-ui/client and ai 6, which fail on the empty JSON text",
    hint="leave the event out, or use a comment",
    needs=sample(blocks=1),
)
def test_no_empty_data(all_runs: list[Observation], dialect: Dialect) -> None:
    allowed = dialect.profile.framing.empty_data
    for exchange, block in blocks(all_runs):
        primes = allowed == "allowed" or (allowed == "priming" and block.id is not None)
        expect(
            block.event is None or block.event.data != "" or primes,
            expected="data",
            actual="an event with empty data",
            at=block,
            recording=exchange,
        )


@requirement(
    "framing.line-ends",
    MUST,
    tier="core",
    text="Lines end as the dialect's own clients accept.",
    source="the dialect; WHATWG HTML 9.2.5 allows LF, CRLF and CR",
    breaks="clients that split on LF LF only, such as @ag-ui/client: not one event comes out",
    hint="write LF; sse-starlette takes sep='\\n'",
    needs=sample(blocks=1),
)
def test_line_ends(all_runs: list[Observation], dialect: Dialect) -> None:
    accepted = dialect.profile.framing.line_ends
    for exchange, line in lines(intact(all_runs)):
        expect(
            not line.end or NAMED[line.end] in accepted,
            expected=f"lines that end in {' or '.join(accepted)}",
            actual=f"a line that ends in {NAMED.get(line.end, '')}",
            at=line,
            recording=exchange,
        )


@requirement(
    "framing.line-ends-uniform",
    SHOULD,
    tier="core",
    text="All lines of a stream end in the same way.",
    source="WHATWG HTML 9.2.5 allows a mixture; hand-written decoders do not expect one",
    breaks="clients that look for one separator of blocks",
    hint="one writer for events and heartbeats",
    presupposes=["framing.line-ends"],
    needs=sample(blocks=1),
)
def test_line_ends_uniform(all_runs: list[Observation]) -> None:
    for exchange in streams(intact(all_runs)):
        first: Line | None = None
        for block in exchange.blocks:
            for line in block.lines:
                first = first or (line if line.end else None)
                expect(
                    first is None or not line.end or line.end == first.end,
                    expected=f"{NAMED[first.end]} as before" if first else "",
                    actual=f"a line that ends in {NAMED.get(line.end, '')}",
                    at=line,
                    recording=exchange,
                )


@requirement(
    "framing.newlines-in-text",
    MUST,
    tier="core",
    text="CR, LF and CRLF inside a text arrive as sent and break no block.",
    source="WHATWG HTML 9.2.6: data lines; RFC 8259 7: control characters are escaped in JSON",
    breaks="every client: a text with a line end in it tears its event, or forges another",
    hint="encode the payload as JSON on one line",
)
def test_newlines_in_text(echo_run: Observation) -> None:
    _expect_planted(echo_run, "\n\r", "line ends")


@requirement(
    "framing.unicode-separators",
    MUST,
    tier="core",
    text="U+2028, U+2029 and U+0085 inside a text arrive as sent.",
    source="WHATWG HTML 9.2.5: they are no line ends; RFC 8259 allows them raw in strings",
    breaks="clients that split lines as Python's splitlines does, such as a2a-sdk",
    hint="escape them in JSON (\\u2028); never call splitlines() on a text",
)
def test_unicode_separators(echo_run: Observation, dialect: Dialect) -> None:
    _expect_planted(echo_run, "\u2028\u2029\u0085", "Unicode separators")
    if dialect.profile.framing.separators == "escaped":
        for exchange, line in lines([echo_run]):
            raw = next((c for c in "\u2028\u2029\u0085" if c.encode() in line.raw), None)
            expect(
                raw is None,
                expected="Unicode separators escaped, as the dialect wants them",
                actual=f"U+{ord(raw):04X} as it is" if raw else "",
                at=line,
                recording=exchange,
            )


def _expect_planted(run: Observation, wanted: str, name: str) -> None:
    """The segments of the planted text that hold the wanted characters must come back as sent."""
    for sent, came in run.planted_segments(wanted):
        expect(
            came == sent,
            expected=f"the {name} of the planted text: {sent!r}",
            actual=f"{came!r}" if came is not None else "the text around them did not arrive",
            at=run.place_of(sent) or run.first,
        )


@requirement(
    "framing.bounded-lines",
    SHOULD,
    tier="core",
    text="No line is longer than 64 KiB.",
    source="buffers of real clients and proxies; Go's bufio.Scanner stops at 64 KiB",
    breaks="clients with a line buffer, which drop the stream",
    hint="split large payloads over several events",
    needs=sample(blocks=1),
)
def test_bounded_lines(all_runs: list[Observation]) -> None:
    for exchange, block in blocks(all_runs):
        if block.end - block.start <= LONGEST_LINE:
            continue
        for line in block.lines:
            expect(
                len(line.raw) <= LONGEST_LINE and not block.truncated,
                expected=f"lines of at most {LONGEST_LINE} bytes",
                actual=f"a line of {max(len(line.raw), block.end - block.start)} bytes",
                at=block,
                recording=exchange,
            )


@requirement(
    "framing.client-agreement",
    SHOULD,
    tier="core",
    text="A popular decoder sees the same events as the specification.",
    source="WHATWG HTML 9.2.6, compared with httpx-sse on the same bytes",
    breaks="httpx-sse, and openai and anthropic, which decode alike",
    hint="write a heartbeat as a comment line without a blank line behind it",
    presupposes=[
        "framing.no-bom",
        "framing.no-dataless-events",
        "framing.retry-not-alone",
        "framing.retry-digits",
        "framing.unicode-separators",
        "heartbeat.no-cursor",
    ],
    needs=sample(blocks=1),
)
def test_client_agreement(all_runs: list[Observation]) -> None:
    for exchange in streams(intact(all_runs)):
        whole = [block for block in exchange.blocks if block.complete and not block.truncated]
        ours = [(block.event.type, block.event.data) for block in whole if block.event]
        theirs = httpx_sse_events(whole)
        if ours == theirs:
            continue
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))
        number = sum(1 for _ in shared)
        near = [block for block in whole if block.event][max(0, number - 1) : number + 1]
        expect(
            False,
            expected=_said(ours, number, "the specification has"),
            actual=_said(theirs, number, f"{httpx_sse_version()} sees"),
            at=tuple(near),
            recording=exchange,
        )


def _said(events: list[tuple[str, str]], number: int, who: str) -> str:
    what = f"{events[number]!r}"[:80] if number < len(events) else "no more"
    return f"{who} {len(events)} events; number {number + 1} is {what}"
