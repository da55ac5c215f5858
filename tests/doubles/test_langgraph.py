"""A LangGraph graph of a router and an agent runs on the double as it does on an LLM."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.environments import python_of

if TYPE_CHECKING:
    from tests.doubles.conftest import Running

FOLDER = Path(__file__).with_name("langgraph")
LIMIT = 60.0
"""Seconds for one graph, most of which are imports."""


@pytest.fixture(scope="module")
def python() -> Path:
    """An interpreter with LangGraph."""
    return python_of("langgraph", FOLDER / "requirements.txt")


def run(python: Path, double: Running, dialect: str, question: str) -> Any:
    """Run the graph, and return what it did."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), str(FOLDER / "two_nodes.py"), dialect, question],
        env={**environment, **double.double.environment},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_graph(python: Path, double: Running, dialect: str) -> None:
    """The router gets its schema's first value, the agent each turn of the script once."""
    turns = 'say "One \\"moment\\"."; tool search {"q": "cats"}; tool; say "Done: ☕"'
    told = run(python, double, dialect, f"Please [[agentstream: tag graph; {turns}]]")
    assert told == {
        "route": "agent",
        "searched": ["cats", "ok"],
        "text": "Done: ☕",
        "failure": "",
    }
    assert [call.played for call in double.calls] == [False, True, True, True]
    assert [call.streaming for call in double.calls] == [False, True, True, True]


def test_a_graph_that_fails(python: Path, double: Running) -> None:
    """An outage in the agent's second call comes after the router and the tool."""
    turns = 'tool search {"q": "cats"}; status 503'
    told = run(python, double, "openai-chat", f"[[agentstream: {turns}]]")
    assert (told["searched"], told["failure"]) == (["cats"], "OpenAIAPIError")
    assert [call.status for call in double.calls] == [200, 200, 503]
