"""The probes of the packaged suite: what is asked of the server under test, once for all cases.

`runs` starts one run for each scenario; `readback` reads a finished run back from every cursor;
`requests` asks for what should be refused, or answered once.
"""

from __future__ import annotations

from conformance_cases.probes.readback import (
    after_terminal,
    crash_readback,
    foreign_cursor,
    future_cursor,
    header_and_query,
    readback,
    same_request,
    unusable_cursors,
)
from conformance_cases.probes.requests import (
    bad_bodies,
    cors,
    duplicate_start,
    overloaded,
    same_connection,
    unknown_run,
    without_credentials,
    wrong_method,
)
from conformance_cases.probes.runs import (
    all_runs,
    bad_runs,
    complete_run,
    crash_cancelled_run,
    crash_exit_run,
    crash_first_run,
    crash_run,
    crash_tool_run,
    crashed_runs,
    echo_run,
    fail_run,
    good_runs,
    gzip_run,
    interrupt_run,
    long_run,
    pauses_run,
    silence_run,
    slow_start_run,
    survivor_run,
    tools_run,
)

__all__ = [
    "after_terminal",
    "all_runs",
    "bad_bodies",
    "bad_runs",
    "complete_run",
    "cors",
    "crash_cancelled_run",
    "crash_exit_run",
    "crash_first_run",
    "crash_readback",
    "crash_run",
    "crash_tool_run",
    "crashed_runs",
    "duplicate_start",
    "echo_run",
    "fail_run",
    "foreign_cursor",
    "future_cursor",
    "good_runs",
    "gzip_run",
    "header_and_query",
    "interrupt_run",
    "long_run",
    "overloaded",
    "pauses_run",
    "readback",
    "same_connection",
    "same_request",
    "silence_run",
    "slow_start_run",
    "survivor_run",
    "tools_run",
    "unknown_run",
    "unusable_cursors",
    "without_credentials",
    "wrong_method",
]
