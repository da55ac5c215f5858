"""Detection: the first answer says which dialect it is, or it is not guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import detect

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_agentstream.recording import Recording

    Recorded = Callable[..., Recording]

ANSWERS = {
    "agent-event-stream": (
        'event: token\ndata: {"text": "a"}\n\nevent: done\ndata: {}\n\n',
        ["agent-event-stream"],
    ),
    "agent-event-stream, a failure": (
        'event: error\ndata: {"error_type": "a", "message": "b"}\n\nevent: done\ndata: {}\n\n',
        ["agent-event-stream"],
    ),
    "agent-event-stream's events and others": (
        'event: token\ndata: {"text": "a"}\n\nevent: citation\ndata: {}\n\n',
        [],
    ),
    "agent-event-stream's events, typed in the data": (
        'event: token\ndata: {"type": "token", "text": "a"}\n\n',
        [],
    ),
    "only an event that many have": ('event: error\ndata: {"message": "a"}\n\n', []),
    "generic-typed": (
        'event: chunk\ndata: {"content": "a"}\n\nevent: complete\ndata: {}\n\n',
        ["generic-typed"],
    ),
    "generic-typed, with events of its own": (
        'event: jobs\ndata: []\n\nevent: complete\ndata: {"conversation_id": "a"}\n\n',
        ["generic-typed"],
    ),
    "generic-data": ('data: {"content": "a"}\n\ndata: [DONE]\n\n', ["generic-data"]),
    "generic-data, a failure": ('data: {"error": "a"}\n\ndata: [DONE]\n\n', ["generic-data"]),
    "generic-data's fields with event lines": ('event: x\ndata: {"content": "a"}\n\n', []),
    "another dialect's sentinel": ("data: [DONE]\n\n", []),
    "OpenAI chat": (
        'data: {"object": "chat.completion.chunk", "choices": []}\n\ndata: [DONE]\n\n',
        [],
    ),
    "AG-UI": ('data: {"type": "RUN_STARTED", "threadId": "a", "runId": "b"}\n\n', []),
    "plain text": ("data: hello\n\n", []),
    "numbers": ("data: 1\n\n", []),
    "HTML": ("<html></html>", []),
    "nothing": ("", []),
    "heartbeats": (": hb\n\n", []),
}


@pytest.mark.parametrize(("body", "names"), ANSWERS.values(), ids=ANSWERS)
def test_detect(recorded: Recorded, body: str, names: list[str]) -> None:
    """A dialect is named only where its own marks are there."""
    assert detect(recorded(body)) == names


def test_header_decides(recorded: Recorded) -> None:
    """The native protocol is known by its header, though its events look like another's."""
    header = (("agentstream-run", "x"),)
    body, _ = ANSWERS["agent-event-stream"]
    assert detect(recorded(body, headers=header)) == ["native"]
    assert detect(recorded("", headers=header)) == ["native"]


def test_header_of_another_dialect(recorded: Recorded) -> None:
    """A server may send that header in other dialects too: the events tell."""
    body, names = ANSWERS["generic-typed"]
    assert detect(recorded(body, headers=(("agentstream-run", "x"),))) == names
