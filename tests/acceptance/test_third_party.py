"""The suite's verdicts on servers that this project did not write are the true ones."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Judge = Callable[[str, str | None], Any]
    Line = Mapping[str, str]

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = (
    pytest.param(
        "agent-event-stream", "agentstream.toml", ["verdicts.toml"], id="agent-event-stream"
    ),
    pytest.param(
        "agent-event-stream",
        "agentstream-forget-done.toml",
        ["verdicts.toml", "verdicts-forget-done.toml"],
        id="agent-event-stream-forget-done",
    ),
    pytest.param("plain-fastapi", "agentstream.toml", ["verdicts.toml"], id="plain-fastapi"),
    pytest.param(
        "sse-generic",
        "agentstream-sse-starlette.toml",
        ["verdicts.toml", "verdicts-sse-starlette.toml"],
        id="sse-starlette",
    ),
    pytest.param(
        "sse-generic",
        "agentstream-fastapi-sse.toml",
        ["verdicts.toml", "verdicts-fastapi-sse.toml"],
        id="fastapi-sse",
    ),
)
BEHIND_THE_SUITE = (
    pytest.param("openai-chat", "agentstream.toml", ["verdicts.toml"], id="openai-chat"),
    pytest.param("litellm", "agentstream-chat.toml", ["verdicts.toml"], id="litellm-chat"),
    pytest.param(
        "litellm",
        "agentstream-messages.toml",
        ["verdicts.toml", "verdicts-messages.toml"],
        id="litellm-messages",
    ),
    pytest.param(
        "litellm",
        "agentstream-responses.toml",
        ["verdicts.toml", "verdicts-responses.toml"],
        id="litellm-responses",
    ),
)
"""Servers that the suite starts itself, with its LLM double behind them."""

CRASHES = {
    "agentstream-sse-starlette.toml": ("GET /sse/crash", r"data: word2 \\r\\n"),
    "agentstream-fastapi-sse.toml": ("GET /native/crash", r'data: \{"text": "word1 "\}'),
}
"""The request that crashes, and the last event before the cut, as findings show them."""

NO_LLM = "live: unproven: no control for the scenario `upstream-stall`"
RED = {"failed", "control broken", "error"}


def expected_lines(example: str, files: list[str], judged: Mapping[str, Any]) -> dict[str, Line]:
    """The checked-in lines by slug; a family stands for every judged requirement in it."""
    found: dict[str, Line] = {}
    for file in files:
        table = tomllib.loads((EXAMPLES / example / file).read_text(encoding="utf-8"))["verdicts"]
        for name, line in table.items():
            members = [slug for slug in judged if slug.startswith(name.removesuffix("*"))]
            slugs = members if name.endswith(".*") and members else [name]
            found |= dict.fromkeys(slugs, line)
    return found


def shown(slug: str, line: Line, result: Mapping[str, Any] | None) -> str:
    """A checked-in line, or what the suite found in the words of that line."""
    if result is None:
        parts = [line["verdict"], line.get("by", ""), line.get("says", ""), line.get("also", "")]
    else:
        said = f"{result['reason']} {result['actual']}".strip()
        also = " ".join(result["also"])
        parts = [result["verdict"], result["blocked_by"]]
        parts.append(line["says"] if "says" in line and line["says"] in said else "")
        parts.append(line["also"] if "also" in line and line["also"] in also else "")
    return f"{slug}: {' | '.join(part for part in parts if part)}"


@pytest.mark.parametrize(("example", "config", "files"), CASES + BEHIND_THE_SUITE)
def test_verdicts(judged: Judge, example: str, config: str, files: list[str]) -> None:
    """Every verdict, with its cause and reason, is the one that the bytes of the server demand."""
    found = judged(example, config)
    expected = expected_lines(example, files, found.results)
    wanted = [shown(slug, expected[slug], None) for slug in sorted(expected)]
    came = [
        shown(slug, expected.get(slug, {}), result)
        for slug, result in sorted(found.results.items())
    ]
    if wanted != came:
        difference = "\n".join(
            difflib.unified_diff(wanted, came, " and ".join(files), "the suite", n=0, lineterm="")
        )
        changed = [slug for slug in found.results if f"\n+{slug}:" in difference]
        reasons = [
            f"{slug}: {found.results[slug]['reason']} {found.results[slug]['actual']}"
            for slug in changed
        ]
        reasons += [f"{slug}: not judged" for slug in expected if slug not in found.results]
        text = "\n".join([difference, "", *reasons])
        pytest.fail(f"examples/{example}, {config}: other verdicts\n{text}", pytrace=False)


@pytest.mark.parametrize(("example", "config", "files"), CASES + BEHIND_THE_SUITE)
def test_exit_code(judged: Judge, example: str, config: str, files: list[str]) -> None:
    """A server that fails a MUST makes the command fail, with as many failures as the list has."""
    found = judged(example, config)
    expected = expected_lines(example, files, found.results)
    red = sum(line["verdict"] in RED for line in expected.values())
    assert found.code == 1, found.output
    assert f"{red} failed" in found.output.splitlines()[-1]


@pytest.mark.parametrize(("example", "config", "files"), CASES)
def test_crash_is_shown_once_with_its_bytes(
    judged: Judge, example: str, config: str, files: list[str]
) -> None:
    """The crash is one finding: it shows the last event and the cut, and what the cut entails."""
    del files
    found = judged(example, config)
    finding = section(found.output, "terminal.on-crash")
    request, last = CRASHES.get(config, ('{"message": "crash', r'data: \{"(text|content)": '))
    assert re.search(rf"< .*{last}.*\(bytes \d+-\d+\)", finding), finding
    assert re.search(r"! \d+\.\d+ s  \(the body was cut: ", finding), finding
    assert request in finding, finding
    assert "Also         http.terminated-body" in finding, finding
    assert found.results["http.terminated-body"]["verdict"] == "met"
    caused = [
        slug for slug, one in found.results.items() if one["blocked_by"] == "terminal.on-crash"
    ]
    assert caused, "what a crash entails is blocked by it"


def section(output: str, slug: str) -> str:
    """The finding of one requirement, as the command prints it."""
    _, _, rest = output.partition(f"{slug} (MUST")
    finding, _, _ = rest.partition("\n__")
    return finding.partition("\n==")[0]


@pytest.mark.parametrize(
    ("example", "config", "states"),
    [
        (
            "agent-event-stream",
            "agentstream.toml",
            [
                "core: reached",
                "live: not reached: heartbeat.present is warned",
                "resilient: not reached",
                "resumable: cannot be reached in this dialect",
            ],
        ),
        ("plain-fastapi", "agentstream.toml", ["core: reached", "live: unproven: no control"]),
        ("sse-generic", "agentstream-sse-starlette.toml", ["core: not reached", NO_LLM]),
        ("sse-generic", "agentstream-fastapi-sse.toml", ["core: reached", NO_LLM]),
        ("openai-chat", "agentstream.toml", ["core: reached", "durable: cannot be reached"]),
    ],
)
def test_tiers(judged: Judge, example: str, config: str, states: list[str]) -> None:
    """The summary says how far the server got, and no tier is reached by what was not seen."""
    lines = judged(example, config).output.splitlines()
    for state in states:
        assert any(line.startswith(state) for line in lines), state


def test_cost_of_resuming_without_a_log_is_said(judged: Judge) -> None:
    """Where a resume repeats the start request, the summary says how often that was asked for."""
    repeated = "requests that resumed by repeating the start request: "
    assert repeated in judged("sse-generic", "agentstream-fastapi-sse.toml").output
    assert repeated not in judged("agent-event-stream", "agentstream.toml").output


def test_forgotten_terminal_is_shown_with_its_bytes(judged: Judge) -> None:
    """A run without a terminal shows its last event, its clean end, and the client it misleads."""
    found = judged("agent-event-stream", "agentstream-forget-done.toml")
    finding = section(found.output, "terminal.success-said")
    last = r"< event: token\\ndata: .*\(bytes \d+-\d+\)\n +! \d+\.\d+ s  \(the body ended, complete"
    assert re.search(last, finding), finding
    assert "agent-stream's client" in finding, finding


@pytest.mark.parametrize(
    ("example", "config"),
    [
        ("agent-event-stream", "agentstream.toml"),
        ("sse-generic", "agentstream-sse-starlette.toml"),
        ("sse-generic", "agentstream-fastapi-sse.toml"),
    ],
)
def test_planted_secret_is_in_the_log_alone(judged: Judge, example: str, config: str) -> None:
    """The exception with the planted secret was really raised: the server's own log has it."""
    found = judged(example, config)
    assert "boom mid-stream: secret-path=/srv/app" in found.log
    assert "boom before the first event: secret-path=/srv/app" in found.log


def test_pings_as_blocks_are_shown_with_what_a_client_sees(judged: Judge) -> None:
    """A ping that is a block of its own is shown as what it is to a popular decoder: an event."""
    for config in ("agentstream-sse-starlette.toml", "agentstream-fastapi-sse.toml"):
        warned = judged("sse-generic", config).results["framing.client-agreement"]
        assert warned["expected"].startswith("the specification has 9 events"), warned
        assert re.search(r"sees 1[1-4] events; number 5 is \('message', ''\)", warned["actual"])


def test_lost_event_is_shown_by_its_last_neighbour(judged: Judge) -> None:
    """Only where an event is lost before a crash that is found, with the last one that came."""
    slug = "terminal.nothing-lost-before-crash"
    whole = judged("sse-generic", "agentstream-sse-starlette.toml")
    assert section(whole.output, slug) == ""
    finding = section(judged("sse-generic", "agentstream-fastapi-sse.toml").output, slug)
    assert "the marker 'word2' before the" in finding, finding
    assert re.search(r'< .*data: \{"text": "word1 "\}.*\(bytes \d+-\d+\)', finding), finding
    assert re.search(r"! \d+\.\d+ s  \(the body was cut: ", finding), finding


@pytest.mark.parametrize(
    ("example", "dialect", "red"),
    [
        ("agent-event-stream", "agent-event-stream", []),
        ("plain-fastapi", "generic-data", ["retry.before-stream-is-http"]),
    ],
)
def test_without_configuration(judged: Judge, example: str, dialect: str, red: list[str]) -> None:
    """A URL alone is enough: the dialect is detected, and what needs a control is not tested."""
    found = judged(example, None)
    assert [slug for slug, one in found.results.items() if one["verdict"] in RED] == red
    assert found.code == bool(red), found.output
    assert f"dialect {dialect} (detected)" in found.output
    assert found.results["terminal.on-crash"]["verdict"] == "not tested"
    assert "[tool.agentstream.scenarios] crash = { json = " in found.output
