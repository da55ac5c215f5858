"""What an LLM that fails makes of servers that this project did not write, shown with its bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Judge = Callable[[str, str | None], Any]

CHAT, MESSAGES, RESPONSES = (
    ("litellm", f"agentstream-{name}.toml") for name in ("chat", "messages", "responses")
)
APP = ("openai-chat", "agentstream.toml")
FLAGS = re.DOTALL | re.MULTILINE
CLEAN_END = r"! +\d+\.\d+ s  \(the body ended, complete"


def finding(output: str, slug: str) -> str:
    """The finding of one requirement, as the command prints it, without the server's log."""
    found = re.search(
        rf"^{re.escape(slug)} \((?:MUST|SHOULD).*?(?=^_{{3}}|^={{3}}|\Z)", output, FLAGS
    )
    assert found is not None, f"{slug} is not among the findings:\n{output}"
    return found.group().partition("\n  Server log ")[0]


def test_error_without_done(judged: Judge) -> None:
    """At the chat endpoint an error is the last event, and the body ends without [DONE]."""
    shown = finding(judged(*CHAT).output, "terminal.on-upstream-cut")
    *_, last, end = (line for line in shown.splitlines() if re.match(r"[ !]+\d+\.\d+ s ", line))
    assert '< data: {"error": {"message": "litellm.' in last, shown
    assert "OpenAIException - Response paylo" in last, shown
    assert re.search(CLEAN_END, end), shown
    assert "Control      upstream-cut: double" in shown, shown


@pytest.mark.parametrize(
    ("example", "last"),
    [
        (MESSAGES, r'! .* < event: message_stop\\ndata: \{"type": "message_stop"\}'),
        (RESPONSES, r'! .* < data: \{"type":"response.completed"'),
    ],
)
def test_garbage_passes_for_success(judged: Judge, example: tuple[str, str], last: str) -> None:
    """At the other endpoints malformed data is dropped, and the run says that it succeeded."""
    assert re.search(last, finding(judged(*example).output, "terminal.on-upstream-garbage"))


@pytest.mark.parametrize("example", [CHAT, MESSAGES, RESPONSES])
def test_missing_key_is_a_server_error(judged: Judge, example: tuple[str, str]) -> None:
    """Without credentials the proxy breaks down, which is shown with its status."""
    shown = finding(judged(*example).output, "retry.auth")
    assert re.search(r"! .* < 500 Internal Server Error", shown), shown


@pytest.mark.parametrize("example", [CHAT, MESSAGES, RESPONSES])
def test_key_is_nowhere(judged: Judge, example: tuple[str, str]) -> None:
    """The proxy's master key, sent with every request, is in no output and no report."""
    found = judged(*example)
    assert found.results["http.status-200"]["verdict"] == "met"
    assert found.key not in found.output
    assert found.key not in found.report


def test_hanging_llm_is_shown(judged: Judge) -> None:
    """An answer that stops in its middle is shown with its last word and the time-out behind it."""
    shown = finding(judged(*APP).output, "terminal.deadline")
    assert re.search(r'< data: \{"content": "word5"\}', shown), shown
    assert re.search(r"! +\d+\.\d+ s  \(time-out while waiting for (end|silence)", shown), shown


@pytest.mark.parametrize("example", [APP, CHAT, MESSAGES, RESPONSES])
def test_what_was_started_is_said(judged: Judge, example: tuple[str, str]) -> None:
    """The header says where the double listens, and which process is judged at which address."""
    output = judged(*example).output
    assert re.search(r"^agentstream: LLM double at http://127\.0\.0\.1:\d+$", output, re.MULTILINE)
    started = r"^agentstream: the server under test: process \d+ at http://127\.0\.0\.1:\d+/"
    assert re.search(started, output, re.MULTILINE), output
    assert "{port}" not in output.partition("collected")[2]
