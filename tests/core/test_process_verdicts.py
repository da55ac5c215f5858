"""What servers may do when their process ends, and with lost readers; and what they may not."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from conformance_cases import disconnect_leaks, durable, isolation, terminal_process
from conformance_cases.probes.buffering import Backlog
from conformance_cases.probes.holding import Lost, Storms
from conformance_cases.probes.killing import Finished, Killed, Newcomer, ShutDown
from conformance_cases.probes.readback import Answer
from conformance_cases.probes.replicas import Executions, Paid, around_kill
from pytest_agentstream.dialects import load
from pytest_agentstream.doubles import Call
from pytest_agentstream.observing import Observation
from pytest_agentstream.process import Usage
from pytest_agentstream.recording import Chunk, End, EndKind, Head, Recording, Request, Run
from pytest_agentstream.target import Scenario, Target
from pytest_agentstream.verdicts import Failed, InDoubt, NotTested

NATIVE = load("native")
TARGET = Target(url="http://127.0.0.1:1/v1/runs", grace=2.0)
REQUEST = Request("POST", TARGET.url)
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
NAME, OTHER = "a" * 22, "b" * 22
DURABLE = ("Agentstream-Log", "durable; retention=60; run-bytes=1000; lease=1")
STREAM = ("Content-Type", "text/event-stream")

TURN = ("turn", '{"turn_number":1}')
ERROR = ("error", '{"error_type":"shutdown","message":"It ends.","retryable":true}')
FINAL = ("error", '{"error_type":"shutdown","message":"It ends.","retryable":false}')
FAILED, CANCELLED = ("done", '{"status":"error"}'), ("done", '{"status":"cancelled"}')
DONE = ("done", '{"status":"completed","num_turns":1}')


def token(text: str) -> tuple[str, str]:
    return "token", f'{{"text":"{text}"}}'


def stream(
    *events: tuple[str, str],
    run: str = NAME,
    after: int = 0,
    end: EndKind = EndKind.COMPLETE,
    at: float = 0.2,
) -> Recording:
    """A stream that begins at AT, has all its events at `at` seconds, and ends then."""
    blocks = (
        f"event: {kind}\ndata: {data}\nid: {run}/{number}\n\n"
        for number, (kind, data) in enumerate(events, after + 1)
    )
    chunk = Chunk(at, "".join(blocks).encode())
    head = Head(200, "OK", "HTTP/1.1", (STREAM, DURABLE), 0.01)
    return Recording(REQUEST, head, (chunk,), End(end, at), AT.isoformat())


def refusal(status: int) -> Recording:
    head = Head(status, "", "HTTP/1.1", (), 0.01)
    return Recording(REQUEST, head, (), End(EndKind.COMPLETE, 0.02), AT.isoformat())


def unanswered(kind: EndKind, at: float) -> Recording:
    return Recording(REQUEST, None, (), End(kind, at), AT.isoformat())


def seen(*exchanges: Recording, scenario: str = "long") -> Observation:
    return Observation(Run(scenario, "header", exchanges), NATIVE, Scenario(), 1)


# -- SIGTERM --------------------------------------------------------------------------------------


def shut_down(*runs: Recording, after: float = -0.1) -> ShutDown:
    """Runs that were under way when SIGTERM came, `after` seconds behind their last event."""
    return ShutDown(AT + timedelta(seconds=0.2 + after), tuple(map(seen, runs)), ())


@pytest.mark.parametrize("events", [(TURN, DONE), (TURN, ERROR, FAILED)])
def test_streams_that_end_as_they_should(events: tuple[tuple[str, str], ...]) -> None:
    """A run that comes to its end, and one that ends in a retryable error, are both fine."""
    terminal_process.test_on_shutdown(shut_down(stream(*events)), NATIVE, TARGET)


@pytest.mark.parametrize(
    ("stream_", "what"),
    [
        (stream(TURN, end=EndKind.CUT), "the body is cut"),
        (stream(TURN, end=EndKind.RESET), "the connection is reset"),
        (stream(TURN, FINAL, FAILED), "'retryable': False"),
        (stream(TURN, CANCELLED), "cancelled"),
        (stream(TURN, DONE, at=9.0), "the terminal 8.90 s after it"),
    ],
)
def test_streams_that_do_not(stream_: Recording, what: str) -> None:
    """A cut, an end that nobody tries again, and one behind the grace are findings."""
    with pytest.raises(Failed, match=what):
        terminal_process.test_on_shutdown(
            ShutDown(AT + timedelta(seconds=0.1), (seen(stream_),), ()), NATIVE, TARGET
        )


def test_streams_that_were_over_before() -> None:
    """Runs that had ended when SIGTERM came prove nothing."""
    with pytest.raises(NotTested, match="was over before SIGTERM"):
        terminal_process.test_on_shutdown(shut_down(stream(TURN, DONE), after=0.1), NATIVE, TARGET)


def test_streams_that_are_too_short() -> None:
    """Where no run outlives the grace only one that ended before its time shows anything."""
    waited = replace(shut_down(stream(TURN, DONE)), outlives=False)
    with pytest.raises(NotTested, match="none lasts longer than the grace of 2 s"):
        terminal_process.test_on_shutdown(waited, NATIVE, TARGET)
    ended = replace(shut_down(stream(TURN, ERROR, FAILED)), outlives=False)
    terminal_process.test_on_shutdown(ended, NATIVE, TARGET)


@pytest.mark.parametrize(
    "answer",
    [
        unanswered(EndKind.REFUSED, 0.0),
        unanswered(EndKind.RESET, 0.1),  # the kernel had accepted it
        refusal(503),
        refusal(502),
        stream(TURN, DONE),
        stream(TURN, ERROR, FAILED),
    ],
)
def test_newcomers_that_are_told(answer: Recording) -> None:
    """Refused, 503, a gateway's 502, and a run that is served all tell a newcomer what it needs."""
    ending = ShutDown(AT, (), (Newcomer(0.1, answer),))
    terminal_process.test_refuses_on_shutdown(ending, NATIVE)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (unanswered(EndKind.RESET, 1.5), "no answer for 1.50 s"),
        (unanswered(EndKind.TIMEOUT, 3.0), "no answer for 3.00 s"),
        (refusal(500), "status 500"),
        (stream(TURN, end=EndKind.CUT), "without a terminal"),
    ],
)
def test_newcomers_that_are_not(answer: Recording, what: str) -> None:
    """A start that hangs, gets 500, or is begun and dropped is a finding."""
    with pytest.raises(Failed, match=what):
        terminal_process.expect_turned_away(Newcomer(0.1, answer), NATIVE)


def test_a_late_refusal_within_our_own_lag() -> None:
    """Where our own loop was late by as much, a start that seems left hanging accuses nobody."""
    late = replace(unanswered(EndKind.REFUSED, 1.2), lag=0.3)
    with pytest.raises(InDoubt):
        terminal_process.expect_turned_away(Newcomer(0.1, late), NATIVE)


# -- SIGKILL --------------------------------------------------------------------------------------

BEFORE = stream(TURN, token("one"), token("two"), end=EndKind.RESET)
FIRST = seen(stream(TURN, token("x"), DONE, run=OTHER), scenario="complete")
WHOLE = stream(token("x"), DONE, run=OTHER, after=1)


def killed(
    last: Recording, first: Recording, finished: Recording = WHOLE, beside: Recording | None = None
) -> Killed:
    """A run that was killed behind its third event: the answers behind that, and the first."""
    again = (Answer(f"{NAME}/3", last), Answer(f"{NAME}/1", first))
    over = (Finished(FIRST, Answer(f"{OTHER}/1", finished)),)
    return Killed(seen(BEFORE), AT + timedelta(seconds=0.2), again, over, beside, ())


REST = stream(ERROR, FAILED, after=3)
REPLAY = stream(token("one"), token("two"), ERROR, FAILED, after=1)


@pytest.mark.parametrize(
    ("rest", "replay"),
    [
        (REST, REPLAY),
        (
            stream(token("three"), DONE, after=3),
            stream(token("one"), token("two"), token("three"), DONE, after=1),
        ),
    ],
)
def test_a_run_that_outlives_its_process(rest: Recording, replay: Recording) -> None:
    """A run that ends in a retryable error, and one that simply goes on, are both fine."""
    kept = killed(rest, replay)
    durable.test_sent_is_stored(kept, NATIVE, TARGET)
    durable.test_kill_and_resume(kept, NATIVE, TARGET)
    durable.test_epoch(kept, NATIVE)


@pytest.mark.parametrize(
    ("replay", "what"),
    [
        (refusal(404), "status 404"),
        (stream(token("one"), ERROR, FAILED, after=1), "found error"),
        (stream(token("one"), after=1), "nothing more"),
        (stream(token("one"), token("2"), ERROR, FAILED, after=1), "token: {'text': '2'}"),
    ],
)
def test_a_run_that_lost_what_was_seen(replay: Recording, what: str) -> None:
    """What a client saw and cannot be read again, or is something else then, is a finding."""
    with pytest.raises(Failed, match=what):
        durable.test_sent_is_stored(killed(REST, replay), NATIVE, TARGET)


@pytest.mark.parametrize(
    ("rest", "what"),
    [
        (stream(ERROR, FAILED), "numbering|behind"),
        (stream(token("two"), ERROR, FAILED, after=2), "again"),
        (stream(FINAL, FAILED, after=3), "'retryable': False"),
        (stream(CANCELLED, after=3), "cancelled"),
        (stream(end=EndKind.TIMEOUT, at=9.0), "time-out"),
        (refusal(204), "status 204"),
    ],
)
def test_a_run_that_is_not_resumed(rest: Recording, what: str) -> None:
    """Other numbers, repeats, a final error, silence and an empty answer are findings."""
    with pytest.raises(Failed, match=what):
        durable.test_kill_and_resume(killed(rest, REPLAY), NATIVE, TARGET)


@pytest.mark.parametrize("answer", [refusal(404), refusal(410), refusal(204), WHOLE])
def test_history_that_is_refused_or_there(answer: Recording) -> None:
    """A lost history may be refused in any way, and one that is kept may be sent."""
    lost = killed(refusal(404), refusal(404), answer)
    durable.test_epoch(lost, NATIVE)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (stream(token("y"), DONE, run=OTHER, after=1), "'text': 'y'"),
        (stream(token("x"), DONE, run=NAME, after=1), NAME),
        (stream(end=EndKind.TIMEOUT), "without an event"),
        (unanswered(EndKind.TIMEOUT, 5.0), "no answer"),
    ],
)
def test_history_that_is_taken_for_another(answer: Recording, what: str) -> None:
    """Another run's events, and a silent stream, are no answer to a cursor of before."""
    with pytest.raises(Failed, match=what):
        durable.test_epoch(killed(refusal(404), refusal(404), answer), NATIVE)


def test_a_server_that_does_not_come_back() -> None:
    """A durable server that does not start again is a finding, and other cases say why not."""
    gone = Killed(seen(BEFORE), AT, broken="exited with code 1")
    with pytest.raises(Failed, match="exited with code 1"):
        durable.test_sent_is_stored(gone, NATIVE, TARGET)
    with pytest.raises(NotTested, match="did not start again"):
        durable.test_epoch(gone, NATIVE)


def test_a_dead_producer() -> None:
    """Its readers elsewhere get the end within the lease and its tolerance, and not later."""
    in_time = stream(token("one"), token("two"), ERROR, FAILED, after=1, at=1.5)
    terminal_process.test_dead_producer(killed(REST, REPLAY, beside=in_time), TARGET)

    late = stream(token("one"), token("two"), ERROR, FAILED, after=1, at=5.0)
    with pytest.raises(Failed, match=r"the terminal 4\.80 s after SIGKILL"):
        terminal_process.test_dead_producer(killed(REST, REPLAY, beside=late), TARGET)

    never = stream(token("one"), token("two"), after=1, end=EndKind.TIMEOUT, at=9.0)
    with pytest.raises(Failed, match=r"8\.8 s after SIGKILL"):
        terminal_process.test_dead_producer(killed(REST, REPLAY, beside=never), TARGET)

    with pytest.raises(NotTested, match="have a second one started"):
        terminal_process.test_dead_producer(killed(REST, REPLAY), TARGET)


@pytest.mark.parametrize("lease", [None, 600.0])
def test_a_dead_producer_that_its_restart_ends(lease: float | None) -> None:
    """An end behind the restart shows nothing where the lease was not waited for."""
    ended = stream(token("one"), token("two"), ERROR, FAILED, after=1, at=1.5)
    early = replace(killed(REST, REPLAY, beside=ended), restarted=AT + timedelta(seconds=0.5))
    target = TARGET.model_copy(update={"lease": lease})
    if lease is None:
        early = replace(early, run=unsaid(early.run))
    with pytest.raises(NotTested, match="ended when its process was started again"):
        terminal_process.test_dead_producer(early, target)


def unsaid(run: Observation) -> Observation:
    """The same run of a server that does not say how it keeps it."""
    head = Head(200, "OK", "HTTP/1.1", (STREAM,), 0.01)
    return seen(*(replace(exchange, head=head) for exchange in run.exchanges))


def test_a_dead_producer_with_a_long_lease() -> None:
    """A reader that was given up before the lease was over, or was dropped, shows nothing."""
    waiting = stream(token("one"), token("two"), after=1, end=EndKind.TIMEOUT, at=9.0)
    target = TARGET.model_copy(update={"lease": 600.0})
    with pytest.raises(NotTested, match="lease of 600 s was not over"):
        terminal_process.test_dead_producer(killed(REST, REPLAY, beside=waiting), target)

    dropped = stream(token("one"), after=1, end=EndKind.CUT)
    again = replace(killed(REST, REPLAY, beside=dropped), whole=(REPLAY, REPLAY))
    with pytest.raises(NotTested, match="dropped the reader"):
        terminal_process.test_dead_producer(again, TARGET)


def test_a_resumed_run_with_a_long_lease() -> None:
    """A run is not lost for its client before anybody can know that its process is dead."""
    waiting = killed(stream(end=EndKind.TIMEOUT, at=9.0), REPLAY)
    target = TARGET.model_copy(update={"lease": 600.0})
    with pytest.raises(NotTested, match="lease of 600 s was not over"):
        durable.test_kill_and_resume(waiting, NATIVE, target)
    with pytest.raises(Failed, match="time-out"):
        durable.test_kill_and_resume(waiting, NATIVE, TARGET)
    dropped = killed(stream(end=EndKind.CUT, at=9.0), REPLAY)
    with pytest.raises(Failed, match="cut"):
        durable.test_kill_and_resume(dropped, NATIVE, target)


def test_nothing_that_a_cursor_could_be_taken_for() -> None:
    """Without another run behind the restart nothing is known of cursors that are mistaken."""
    alone = replace(killed(REST, REPLAY), others=False)
    with pytest.raises(NotTested, match="nothing to mistake"):
        durable.test_epoch(alone, NATIVE)


def test_a_run_whose_retention_is_over() -> None:
    """A 410 is right once a run that another replica ended is kept no longer, and no sooner."""

    def slowly_restarted(seconds: float) -> Killed:
        at = (AT + timedelta(seconds=seconds)).isoformat()
        gone = replace(refusal(410), started=at)
        return killed(gone, gone, beside=REPLAY)

    durable.test_sent_is_stored(slowly_restarted(61), NATIVE, TARGET)
    with pytest.raises(NotTested, match="its retention over"):
        durable.test_kill_and_resume(slowly_restarted(61), NATIVE, TARGET)
    with pytest.raises(Failed, match="status 410"):
        durable.test_sent_is_stored(slowly_restarted(30), NATIVE, TARGET)
    with pytest.raises(Failed, match="status 410"):
        durable.test_kill_and_resume(slowly_restarted(30), NATIVE, TARGET)


def test_executors() -> None:
    """Once is shown by two processes that saw the run to its end, and by no single one."""
    whole = stream(token("one"), token("two"), ERROR, FAILED, after=1)
    alone = replace(killed(REST, REPLAY), whole=(whole,))
    with pytest.raises(NotTested, match="only one process"):
        durable.test_one_executor(Executions(alone, None), NATIVE, TARGET)

    both = replace(alone, whole=(whole, whole))
    durable.test_one_executor(Executions(both, None), NATIVE, TARGET)

    endless = replace(killed(refusal(404), REPLAY), whole=(refusal(404), refusal(404)))
    with pytest.raises(NotTested, match="no reader"):
        durable.test_one_executor(Executions(endless, None), NATIVE, TARGET)


@pytest.mark.parametrize(("calls", "usual"), [(1, 1), (3, 2), (5, 0)])
def test_who_pays_once(calls: int, usual: int) -> None:
    """A call more than usual may be of the run's own; without a usual number nothing is known."""
    both = replace(killed(REST, REPLAY), whole=(REPLAY, REPLAY))
    paid = Paid(seen(BEFORE), "read by two", calls, usual)
    durable.test_one_executor(Executions(both, None, (paid,)), NATIVE, TARGET)


def test_who_pays_is_not_known() -> None:
    """A double that knows of no usual answer shows no second executor, so that nothing is met."""
    both = replace(killed(REST, REPLAY), whole=(REPLAY, REPLAY))
    paid = (Paid(seen(BEFORE), "read by two", 0, 0),)
    with pytest.raises(NotTested, match="a second executor that writes nothing"):
        durable.test_one_executor(Executions(both, None, paid, doubled=True), NATIVE, TARGET)


@pytest.mark.parametrize(("calls", "usual"), [(2, 1), (4, 2)])
def test_who_pays_twice(calls: int, usual: int) -> None:
    """Twice as many answers of the LLM as usual are those of two executors."""
    paid = Paid(seen(BEFORE), "read by two", calls, usual)
    with pytest.raises(Failed, match=f"expected {usual} answers.*found {calls} for a run read by"):
        durable.test_one_executor(Executions(None, None, (paid,)), NATIVE, TARGET)


def test_what_was_paid_around_a_kill() -> None:
    """The answers of the LLM for a killed run are counted until the kill and behind it."""
    now = time.monotonic()
    calls = [
        Call("/v1/chat/completions", "openai-chat", True, now + at, tag=tag, played=played)
        for at, tag, played in (
            (-5.0, "alone", True),
            (-2.0, "run", True),
            (-2.0, "run", False),
            (2.0, "run", True),
            (2.1, "run", True),
        )
    ]
    one, other = (
        Observation(run.run, NATIVE, Scenario(prompt=f"[[agentstream: tag {tag}; say 2 words]]"), 1)
        for run, tag in ((seen(BEFORE), "run"), (seen(WHOLE), "alone"))
    )
    was_killed = replace(killed(REST, REPLAY), run=one, at=datetime.now(UTC))
    found = around_kill(calls, was_killed, other)
    assert [(paid.calls, paid.usual) for paid in found] == [(1, 1), (2, 1)]


# -- what is held ---------------------------------------------------------------------------------


def usage(descriptors: int, threads: int = 4) -> Usage:
    return Usage(50_000_000, descriptors, threads)


def storms(dropped: int = 100, during: int = 110, after: Usage | None = None) -> Storms:
    return Storms(dropped, usage(10), usage(during), after or usage(12), 1.0)


@pytest.mark.parametrize("after", [usage(20), usage(10, 14)])
def test_a_few_more_are_no_zombies(after: Usage) -> None:
    """A pool may grow by a little between two storms."""
    disconnect_leaks.test_no_zombies(storms(after=after))


@pytest.mark.parametrize(
    ("after", "what"), [(usage(110), "110, 1.0 s after 100"), (usage(10, 104), "104, 1.0 s")]
)
def test_zombies(after: Usage, what: str) -> None:
    """A descriptor, or a thread, for each dropped stream is a finding."""
    with pytest.raises(Failed, match=what):
        disconnect_leaks.test_no_zombies(storms(after=after))


@pytest.mark.parametrize("after", [usage(10, 18), usage(24), usage(30)])
def test_pools_of_workers_are_no_zombies(after: Usage) -> None:
    """What grows by no more than one for five streams is a worst deal among workers, no leak."""
    disconnect_leaks.test_no_zombies(storms(after=after))
    with pytest.raises(Failed, match="up to 20 more"):
        disconnect_leaks.test_no_zombies(storms(after=usage(31)))


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (storms(dropped=20), "20 streams of a storm could be dropped"),
        (storms(during=11), "showed in 1 of the process's descriptors"),
    ],
)
def test_storms_that_prove_nothing(found: Storms, what: str) -> None:
    """Too few streams, or a process that does not show its connections, are not tested."""
    with pytest.raises(NotTested, match=what):
        disconnect_leaks.test_no_zombies(found)


def test_lost_readers() -> None:
    """What lost readers held is to be given back, most of it at least."""
    runs = (seen(BEFORE),) * 5
    disconnect_leaks.test_half_open(Lost(runs, usage(10), usage(12), 0.1), storms())
    with pytest.raises(Failed, match=r"15, 5\.1 s later"):
        disconnect_leaks.test_half_open(Lost(runs, usage(10), usage(15), 5.1), storms())


def test_a_backlog() -> None:
    """Memory that stalled readers cost is allowed up to its margin."""
    run, mib = seen(BEFORE), 2**20
    isolation.test_bounded_backlog(Backlog(run, 12 * mib, 1, 6 * mib, None, 6.0 * mib))
    with pytest.raises(Failed, match=r"27\.0 MiB, 1\.0 MiB where they read"):
        isolation.test_bounded_backlog(Backlog(run, 12 * mib, 3, 27 * mib, mib, 18.0 * mib))
