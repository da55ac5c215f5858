"""The order of a run: TOML tables and a run's events in, outcome and violations out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.dialects import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.dialects import Dialect
    from pytest_agentstream.recording import Run

    Declared = Callable[[str], Dialect]
    RunOf = Callable[..., Run]

TOML = """\
name = "mine"
type_from = [{ sse_event = true }]
unknown = "ignore"
[events]
hello = {}
part = { required = { id = "string" } }
open = { required = { id = "string" } }
close = {}
call = {}
result = {}
step = {}
error = { role = "error" }
ping = { role = "heartbeat", ephemeral = true }
end = { role = "terminal" }
[order]
first = ["hello", "error"]
terminal = [
    { event = "end", where = { status = ["ok", "fine"] }, outcome = "success" },
    { event = "end", where = { status = "stopped" }, outcome = "cancelled" },
    { event = "end", after = "error", outcome = "failure" },
]
counts = { "totals.parts" = "part" }
progress = { event = "step", value = "percent", key = "name", complete = 100 }
sequence_path = "n"
constant = ["run"]
[[spans]]
name = "message"
open = "open"
continues = ["part"]
close = ["close"]
key = "id"
must_close = ["success", "failure"]
[[spans]]
name = "call"
open = "call"
open_where = { kind = "tool" }
close = ["result"]
key = "id"
is_tool = true
"""
Told = tuple[str, Any]

HELLO: Told = ("hello", {})
OK = ("end", {"status": "ok"})
OPEN, PART, CLOSE = ("open", {"id": "m"}), ("part", {"id": "m"}), ("close", {"id": "m"})
CALL, RESULT = ("call", {"id": "t", "kind": "tool"}), ("result", {"id": "t"})


def stream(*events: Told, first: int | None = None) -> str:
    """Write events as an event stream; numbered ids from `first`."""
    blocks = []
    for number, (name, payload) in enumerate(events, first or 0):
        data = payload if isinstance(payload, str) else json.dumps(payload)
        cursor = "" if first is None else f"id: {number}\n"
        blocks.append(f"{cursor}event: {name}\ndata: {data}\n\n")
    return "".join(blocks)


GOOD: dict[str, tuple[list[Told], Outcome | None]] = {
    "the shortest": ([HELLO, OK], Outcome.SUCCESS),
    "another word for success": ([HELLO, ("end", {"status": "fine"})], Outcome.SUCCESS),
    "cancelled, with a call open": (
        [HELLO, CALL, ("end", {"status": "stopped"})],
        Outcome.CANCELLED,
    ),
    "failure, with a call open": ([HELLO, CALL, ("error", {}), ("end", {})], Outcome.FAILURE),
    "an error at once": ([("error", {}), ("end", {})], Outcome.FAILURE),
    "no terminal, with spans open": ([HELLO, OPEN, CALL], None),
    "a heartbeat first": ([("ping", {}), HELLO, OK], Outcome.SUCCESS),
    "an unknown event first": ([("new", {}), HELLO, OK], Outcome.SUCCESS),
    "spans": ([HELLO, OPEN, PART, CALL, PART, CLOSE, RESULT, OK], Outcome.SUCCESS),
    "a span opened again": ([HELLO, OPEN, CLOSE, OPEN, PART, CLOSE, OK], Outcome.SUCCESS),
    "a call that is no tool's": ([HELLO, ("call", {"id": "t", "kind": "x"}), OK], Outcome.SUCCESS),
    "progress of two steps": (
        [
            HELLO,
            ("step", {"name": "a", "percent": 50}),
            ("step", {"name": "b", "percent": 10}),
            ("step", {"name": "a", "percent": 50}),
            ("step", {"name": "a", "percent": 100}),
            ("step", {"name": "b", "percent": 100}),
            OK,
        ],
        Outcome.SUCCESS,
    ),
    "progress cut short by a failure": (
        [HELLO, ("step", {"percent": 5}), ("error", {}), ("end", {})],
        Outcome.FAILURE,
    ),
    "totals": (
        [HELLO, OPEN, PART, PART, CLOSE, ("end", {"status": "ok", "totals": {"parts": 2}})],
        Outcome.SUCCESS,
    ),
    "sequence numbers from anywhere": (
        [("hello", {"n": 7}), ("step", {}), ("step", {"n": 8}), OK],
        Outcome.SUCCESS,
    ),
    "constants": ([("hello", {"run": 1}), ("step", {}), ("step", {"run": 1}), OK], Outcome.SUCCESS),
    "anything behind the end": ([HELLO, OK, CLOSE, RESULT, OPEN, HELLO], Outcome.SUCCESS),
}


@pytest.mark.parametrize(("events", "outcome"), GOOD.values(), ids=GOOD)
def test_good(
    declared: Declared, run_of: RunOf, events: list[Told], outcome: Outcome | None
) -> None:
    """A run in order has its outcome and no violations."""
    reading = declared(TOML).read(run_of(stream(*events)))
    assert (reading.outcome, reading.violations) == (outcome, ())


BAD: dict[str, tuple[list[Told], tuple[str, str, str]]] = {
    "a wrong first event": (
        [OPEN, CLOSE, OK],
        ("order.first", "`hello` or `error` as the first event", "`open`"),
    ),
    "the end first": ([OK], ("order.first", "`hello` or `error` as the first event", "`end`")),
    "a part outside": (
        [HELLO, PART, OK],
        (
            "order.spans-open-before-use",
            "message 'm' is open at `part`",
            "message 'm' was never opened",
        ),
    ),
    "a part behind its span": (
        [HELLO, OPEN, CLOSE, PART, OK],
        ("order.spans-open-before-use", "message 'm' is open at `part`", "message 'm' is closed"),
    ),
    "a close outside": (
        [HELLO, CLOSE, OK],
        (
            "order.spans-open-before-use",
            "message 'm' is open at `close`",
            "message 'm' was never opened",
        ),
    ),
    "opened twice": (
        [HELLO, OPEN, OPEN, CLOSE, OK],
        ("order.no-double-open", "message 'm' is not open yet at `open`", "message 'm' is open"),
    ),
    "never closed": (
        [HELLO, OPEN, OK],
        ("order.spans-closed", "message 'm' closed before the success", "it is open"),
    ),
    "left open by a crash": (
        [HELLO, OPEN, ("error", {}), ("end", {})],
        ("terminal.spans-after-crash", "message 'm' closed before the failure", "it is open"),
    ),
    "a result of no call": (
        [HELLO, RESULT, OK],
        (
            "order.tool-results-match",
            "call 't' names a call of this run at `result`",
            "call 't' names none",
        ),
    ),
    "a result before its call": (
        [HELLO, RESULT, CALL, OK],
        (
            "order.spans-open-before-use",
            "call 't' is open at `result`",
            "call 't' was opened only later",
        ),
    ),
    "a result before its call, and one behind it": (
        [HELLO, RESULT, CALL, RESULT, OK],
        (
            "order.spans-open-before-use",
            "call 't' is open at `result`",
            "call 't' was opened only later",
        ),
    ),
    "a result of no call, and no end": (
        [HELLO, RESULT],
        (
            "order.tool-results-match",
            "call 't' names a call of this run at `result`",
            "call 't' names none",
        ),
    ),
    "a result twice": (
        [HELLO, CALL, RESULT, RESULT, OK],
        ("order.spans-open-before-use", "call 't' is open at `result`", "call 't' is closed"),
    ),
    "progress that goes back": (
        [
            HELLO,
            ("step", {"name": "a", "percent": 50}),
            ("step", {"name": "a", "percent": 40}),
            ("step", {"name": "a", "percent": 100}),
            OK,
        ],
        ("order.progress-monotonic", 'at least 50 of "a", as before', "40"),
    ),
    "progress that stops short": (
        [HELLO, ("step", {"name": "a", "percent": 70}), OK],
        ("order.progress-completes", '100 of "a" before success', "70 was the last"),
    ),
    "a wrong total": (
        [HELLO, OPEN, PART, CLOSE, ("end", {"status": "ok", "totals": {"parts": 2}})],
        ("order.counts-agree", "totals.parts = 1, the `part` events that were sent", "2"),
    ),
    "a number left out": (
        [("hello", {"n": 1}), ("step", {"n": 3}), ("step", {"n": 4}), OK],
        ("order.sequence-contiguous", "n = 2, after 1", "3"),
    ),
    "a constant that changes": (
        [("hello", {"run": "a"}), ("step", {"run": "b"}), ("step", {"run": "c"}), OK],
        ("schema.constant-identity", 'run = "a", as in the first event', '"b"'),
    ),
    "an opening without its key": (
        [HELLO, ("open", {}), PART, CLOSE, OK],
        ("schema.required-fields", "`id` in `open`", "{}"),
    ),
    "an opening that is no JSON": (
        [HELLO, ("call", "{"), RESULT, OK],
        (
            "schema.json-strict",
            "JSON as RFC 8259 defines it",
            'no JSON: Expecting property name enclosed in double quotes at character 1: "{"',
        ),
    ),
    "a closing that is no JSON": (
        [HELLO, CALL, ("result", "nonsense"), OK],
        (
            "schema.json-strict",
            "JSON as RFC 8259 defines it",
            'no JSON: Expecting value at character 0: "nonsense"',
        ),
    ),
    "a terminal that is no JSON": (
        [HELLO, ("end", "ok")],
        (
            "schema.json-strict",
            "JSON as RFC 8259 defines it",
            'no JSON: Expecting value at character 0: "ok"',
        ),
    ),
}


@pytest.mark.parametrize(("events", "violation"), BAD.values(), ids=BAD)
def test_bad(
    declared: Declared, run_of: RunOf, events: list[Told], violation: tuple[str, str, str]
) -> None:
    """One thing wrong with a run is one violation, with the event that it was seen at."""
    reading = declared(TOML).read(run_of(stream(*events)))
    found = [(one.requirement, one.expected, one.actual) for one in reading.violations]
    assert found == [violation]
    assert reading.violations[0].event in reading.events
    assert reading.of(violation[0]) == reading.violations


@pytest.mark.parametrize("name", [name for name in BAD if "JSON" in name])
def test_unreadable_events_still_end_the_run(declared: Declared, run_of: RunOf, name: str) -> None:
    """A payload that does not parse is one fault, not also a run without an end."""
    events, _ = BAD[name]
    assert declared(TOML).read(run_of(stream(*events))).outcome is Outcome.SUCCESS


def test_terminal_that_says_nothing_after_an_error(declared: Declared, run_of: RunOf) -> None:
    """An end without its status means failure where an error was said."""
    toml = TOML.replace('after = "error"', 'where = { status = "bad" }')
    body = stream(HELLO, ("error", {}), ("end", {}))
    assert declared(toml).read(run_of(body)).outcome is Outcome.FAILURE


def test_two_terminals(declared: Declared, run_of: RunOf) -> None:
    """Every terminal is found; the first one is the outcome."""
    reading = declared(TOML).read(run_of(stream(HELLO, OK, ("error", {}), ("end", {}))))
    assert [outcome for _, outcome in reading.terminals] == [Outcome.SUCCESS, Outcome.FAILURE]
    assert reading.outcome is Outcome.SUCCESS
    assert reading.terminals[0][0] is reading.events[1]


def test_read_once(declared: Declared, run_of: RunOf) -> None:
    """A run is read once, however many cases ask; another dialect reads it for itself."""
    dialect, run = declared(TOML), run_of(stream(HELLO, OK))
    assert dialect.read(run) is dialect.read(run)
    assert declared(TOML).read(run) is not dialect.read(run)


NUMBERED = TOML + '[cursor]\nsource = "sse-id"\norder = "integer"\ncontiguous = true\n'
OPAQUE = TOML + '[cursor]\nsource = "sse-id"\n'
LOOSE = NUMBERED.replace("contiguous = true", "")
TALE = [HELLO, OPEN, PART, PART, CLOSE, ("end", {"status": "ok", "totals": {"parts": 2}})]


@pytest.mark.parametrize("toml", [NUMBERED, OPAQUE, LOOSE])
@pytest.mark.parametrize(
    "cuts",
    [
        [(0, 6), (3, 6)],
        [(0, 3), (3, 6)],
        [(0, 3), (0, 6)],
        [(0, 4), (2, 5), (2, 6)],
        [(0, 6), (0, 6), (5, 6)],
    ],
)
def test_replays(declared: Declared, run_of: RunOf, toml: str, cuts: list[tuple[int, int]]) -> None:
    """What a reconnect repeats is neither out of order nor a second terminal."""
    bodies = [stream(*TALE[start:end], first=start + 1) for start, end in cuts]
    reading = declared(toml).read(run_of(*bodies))
    assert reading.violations == ()
    assert [outcome for _, outcome in reading.terminals] == [Outcome.SUCCESS]
    assert len(reading.events) == sum(end - start for start, end in cuts)


LOST = {
    "a lost opening": [stream(HELLO, first=1), stream(*TALE[2:], first=3)],
    "a lost closing": [stream(*TALE[:4], first=1), stream(*TALE[5:], first=6)],
    "all but the end": [stream(*TALE[:2], first=1), stream(*TALE[5:], first=6)],
    "lost within one exchange": [stream(HELLO, first=1) + stream(*TALE[2:], first=3)],
    "another run's events": [stream(*TALE[:3], first=1), stream(*TALE, first=1)],
    "no ids after the reconnect": [stream(*TALE[:3], first=1), stream(*TALE[4:])],
}


@pytest.mark.parametrize("bodies", LOST.values(), ids=LOST)
def test_gaps(declared: Declared, run_of: RunOf, bodies: list[str]) -> None:
    """What a resume loses is for the requirements on resume, and not also out of order."""
    assert declared(NUMBERED).read(run_of(*bodies)).violations == ()


def test_duplicates_within_the_first_exchange_count(declared: Declared, run_of: RunOf) -> None:
    """An id sent twice in one exchange is no replay: its event is judged like any other."""
    body = stream(HELLO, OPEN, first=1) + stream(OPEN, CLOSE, OK, first=2)
    (violation,) = declared(NUMBERED).read(run_of(body)).violations
    assert violation.requirement == "order.no-double-open"


def test_a_span_that_opens_once(declared: Declared, run_of: RunOf) -> None:
    """Where a dialect opens a span once in a run, a key must not come again once it was closed."""
    twice = stream(HELLO, OPEN, CLOSE, OPEN, CLOSE, OK)
    once = TOML.replace('open = "open"', 'open = "open"\nonce = true')

    assert declared(TOML).read(run_of(twice)).violations == ()
    (violation,) = declared(once).read(run_of(twice)).violations
    assert (violation.requirement, violation.actual) == (
        "order.no-double-open",
        "message 'm' was closed before",
    )


def test_joining_late(declared: Declared, recorded: Any) -> None:
    """A run that was joined at a cursor from the first is not judged by its missing beginning."""
    from pytest_agentstream.recording import Request, Run

    request = Request("GET", "http://127.0.0.1/", (("Last-Event-ID", "3"),))
    recording = recorded(stream(*TALE[3:], first=4), request=request)
    reading = declared(NUMBERED).read(Run("complete", "test", (recording,)))
    assert (reading.violations, reading.outcome) == ((), Outcome.SUCCESS)


def test_full_replay(declared: Declared, run_of: RunOf) -> None:
    """Where resuming replays from the start, the last exchange is the run."""
    toml = TOML + '[resume]\nkind = "replay"\npath = "/again"\n'
    reading = declared(toml).read(run_of(stream(*TALE[:3]), stream(*TALE)))
    assert (reading.violations, len(reading.terminals)) == ((), 1)


def test_empty_run(declared: Declared, run_of: RunOf) -> None:
    """A run without events has no outcome and breaks no order."""
    reading = declared(TOML).read(run_of("", ": hb\n\n"))
    assert (reading.events, reading.outcome, reading.violations) == ((), None, ())


def test_cost_is_linear(declared: Declared, run_of: RunOf, monkeypatch: Any) -> None:
    """Every event is fed to the machine once, and no part of it looks back over the run."""
    from pytest_agentstream.dialects.machine import TableMachine

    fed: list[Any] = []
    feed = TableMachine.feed

    def counted(self: TableMachine, event: Any) -> Any:
        fed.append(event)
        return feed(self, event)

    monkeypatch.setattr(TableMachine, "feed", counted)
    body = stream(HELLO, OPEN, *[PART] * 20_000, CLOSE, OK, first=1)
    reading = declared(NUMBERED).read(run_of(body))
    assert (len(fed), len(reading.events), reading.violations) == (20_004, 20_004, ())
