"""Loading a dialect: the built-in ones, a user's own, and every way in which it can fail."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from pytest_agentstream.dialects import DialectError, builtin_names, load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """\
name = "mine"
type_from = [{ sse_event = true }]
"""
BODY = """\
[events.token]
required = { text = "string" }
[events.done]
role = "terminal"
[order]
terminal = [{ event = "done", outcome = "success" }]
"""
TYPES = "string, integer, number, boolean, object, array, null or any"
BUILT_IN = "agent-event-stream, generic-data, generic-typed or native"

ERRORS = {
    "nothing at all": (
        "",
        (
            "name is missing; expected text\n"
            "mine.toml: type_from is missing; expected an array\n"
            "mine.toml: events is missing; expected a table"
        ),
    ),
    "broken TOML": (
        HEAD + "x = [1,, 2]\n",
        "no valid TOML: Invalid value (at line 3, column 8)",
    ),
    "TOML that stops": (
        HEAD + "x = [\n\n",
        "no valid TOML: Invalid value (at line 3, the end)",
    ),
    "an unknown key": (
        HEAD + BODY + "[start]\nheders = {}\n",
        (
            "start.heders is no key that is known here; "
            "expected method, json, headers, prompt, idempotency_header or disconnect_cancels; "
            "did you mean headers?"
        ),
    ),
    "an unknown key in an array": (
        HEAD + BODY + '[[spans]]\nname = "a"\nopen = "token"\nclsoe = ["done"]\n',
        (
            "spans[0].clsoe is no key that is known here; expected name, open, open_where, "
            "continues, close, key, is_tool, once or must_close; did you mean close?"
        ),
    ),
    "an unknown key in a field's rule": (
        HEAD + BODY.replace('"string"', '{ type = "integer", min = 3 }'),
        (
            "events.token.required.text.min is no key that is known here; "
            "expected type, enum, minimum or maximum; did you mean minimum?"
        ),
    ),
    "an unknown word": (
        HEAD + BODY.replace("success", "sucess"),
        (
            'order.terminal[0].outcome is "sucess"; '
            'expected "success", "failure", "interrupt" or "cancelled"; did you mean success?'
        ),
    ),
    "an unknown word where an array could stand too": (
        'unknown = "ignroe"\n' + HEAD + BODY,
        'unknown is "ignroe"; expected "ignore" or "forbid" or an array; did you mean ignore?',
    ),
    "an unknown level, without a reason": (
        HEAD + BODY + '[requirements."ids.*"]\nlevel = "MAY"\n',
        (
            'requirements."ids.*".level is "MAY"; expected "MUST" or "SHOULD"\n'
            'mine.toml: requirements."ids.*".why is missing; expected text'
        ),
    ),
    "the wrong type": (
        HEAD + BODY + '[response]\nrun_header = 3\nstatus = "x"\n',
        (
            'response.status is "x"; expected an array\n'
            "mine.toml: response.run_header is 3; expected text"
        ),
    ),
    "no positive number": (
        HEAD + BODY + '[heartbeat]\nkind = "comment"\ninterval = 0\n',
        "heartbeat.interval is 0; expected a number above 0",
    ),
    "a field of no type": (
        HEAD + BODY.replace('"string"', "3"),
        "events.token.required.text is 3; expected text or a table",
    ),
    "a field of an unknown type": (
        HEAD + BODY.replace('"string"', '"strnig|null"'),
        f'events.token.required.text is "strnig|null"; expected {TYPES}; did you mean string?',
    ),
    "a rule of an unknown type": (
        HEAD + BODY.replace('"string"', '{ type = "int" }'),
        f'events.token.required.text.type is "int"; expected {TYPES}; did you mean integer?',
    ),
    "a field in both tables": (
        HEAD + BODY.replace("[events.done]", 'optional = { text = "string" }\n[events.done]'),
        "events.token.optional.text is required too; expected it in one table",
    ),
    "a terminal that is not declared": (
        HEAD + BODY.replace('event = "done"', 'event = "doen"'),
        (
            'order.terminal[0].event is "doen", which is no declared event; '
            "expected token or done; did you mean done?"
        ),
    ),
    "spans, progress and counts of what is not declared": (
        HEAD
        + BODY
        + 'counts = { turns = "turn" }\nprogress = { event = "progress", value = "percent" }\n'
        + '[[spans]]\nname = "tool"\nopen = "tool_use"\nclose = ["tool_result"]\n',
        (
            'order.counts.turns is "turn", which is no declared event; expected token or done\n'
            'mine.toml: order.progress.event is "progress", which is no declared event; '
            "expected token or done\n"
            'mine.toml: spans[0].open is "tool_use", which is no declared event; '
            "expected token or done\n"
            'mine.toml: spans[0].close[0] is "tool_result", which is no declared event; '
            "expected token or done"
        ),
    ),
    "a terminal that no rule names": (
        HEAD + BODY + '[events.stop]\nrole = "terminal"\n',
        (
            'events.stop.role is "terminal" and no order.terminal names it; '
            "expected a rule that says which outcome it means"
        ),
    ),
    "a path that is none": (
        HEAD + BODY + '[errors]\nmessage_path = "$..message"\n',
        'errors.message_path is "$..message"; expected a path like a.b[0].c',
    ),
    "no selector and two in one": (
        HEAD.replace("sse_event = true }", 'sse_event = true, constant = "a" }, {}') + BODY,
        (
            "type_from[0] has sse_event and constant; "
            "expected one of sse_event, json_path, key_present or constant\n"
            "mine.toml: type_from[1] has nothing; "
            "expected one of sse_event, json_path, key_present or constant"
        ),
    ),
    "no selectors": (
        HEAD.replace("{ sse_event = true }", "") + BODY,
        (
            "type_from is empty; expected at least one of "
            "sse_event, json_path, key_present or constant"
        ),
    ),
    "a cursor's pattern that is none": (
        HEAD + BODY + '[cursor]\nsource = "sse-id"\npattern = "("\n',
        (
            'cursor.pattern is "("; expected a regular expression: '
            "missing ), unterminated subpattern at position 0"
        ),
    ),
    "a cursor's pattern without its number": (
        HEAD + BODY + '[cursor]\nsource = "sse-id"\norder = "integer"\npattern = "[0-9]+"\n',
        (
            'cursor.pattern is "[0-9]+"; expected a named group (?P<seq>…) in it, '
            'since cursor.order is "integer"'
        ),
    ),
    "a cursor in the payload, nobody knows where": (
        HEAD + BODY + '[cursor]\nsource = "json-path"\n',
        (
            'cursor.json_path is missing and cursor.source is "json-path"; '
            'expected a path with the source "json-path", and only with it'
        ),
    ),
    "opaque cursors without holes": (
        HEAD + BODY + '[cursor]\nsource = "sse-id"\ncontiguous = true\n',
        'cursor.contiguous is true; expected cursor.order = "integer" with it',
    ),
    "a resume without a cursor": (
        HEAD + BODY + '[resume]\nkind = "last-event-id"\n',
        (
            'resume.kind is "last-event-id" and cursor.source is "none"; '
            'expected "sse-id" or "json-path": a cursor to resume from'
        ),
    ),
    "a replay without a path": (
        HEAD + BODY + '[resume]\nkind = "replay"\n',
        'resume.kind is "replay" and resume.path is missing; expected where to ask',
    ),
    "a query without a name": (
        HEAD + BODY + '[cursor]\nsource = "sse-id"\n[resume]\nkind = "query"\n',
        (
            'resume.kind is "query" and resume.query is missing; '
            "expected the name that the cursor is sent under"
        ),
    ),
    "a cancel that is no request": (
        HEAD + BODY + '[resume]\ncancel = "/runs/{run}"\n',
        'resume.cancel is "/runs/{run}"; expected "METHOD /path"',
    ),
    "heartbeat events that are not declared": (
        HEAD + BODY + '[heartbeat]\nkind = "event"\n',
        'heartbeat.kind is "event"; expected an event with role = "heartbeat"',
    ),
    "a promise of nothing": (
        HEAD + BODY + "[heartbeat]\npromised = true\n",
        'heartbeat.promised is true and heartbeat.kind is "none"; expected comment or event',
    ),
    "a schema file that is not there": (
        HEAD + BODY + '[events.x]\nschema_file = "x.json"\n',
        'events.x.schema_file is "x.json"; there is no such file beside the dialect\'s',
    ),
    "a schema beside a table": (
        HEAD + BODY.replace("required", 'schema_file = "token.json"\nrequired'),
        "events.token.schema_file stands beside field tables; expected one of the two, not both",
    ),
    "a schema that is no JSON": (
        HEAD + BODY + '[events.x]\nschema_file = "broken.json"\n',
        (
            'events.x.schema_file is "broken.json"; broken.json is no JSON document: '
            "Expecting value: line 1 column 7 (char 6)"
        ),
    ),
    "a schema that is none": (
        HEAD + BODY + '[events.x]\nschema_file = "wrong.json"\n',
        (
            'events.x.schema_file is "wrong.json"; it is no valid JSON Schema at $.type: '
            "'strnig' is not valid under any of the given schemas"
        ),
    ),
    "a schema that is a list": (
        HEAD + BODY + '[events.x]\nschema_file = "list.json"\n',
        'events.x.schema_file is "list.json"; expected a JSON Schema, an object, but it holds [1]',
    ),
    "a part that is not in the file": (
        HEAD + BODY + '[events.x]\nschema_file = "token.json#/nothing"\n',
        'events.x.schema_file is "token.json#/nothing"; token.json has no part /nothing',
    ),
    "a reference to elsewhere": (
        HEAD + BODY + '[events.x]\nschema_file = "remote.json"\n',
        (
            'events.x.schema_file is "remote.json"; '
            'its reference "other.json#/x" leads nowhere within the file'
        ),
    ),
}
FILES = {
    "token.json": '{"type": "object"}',
    "broken.json": '{"a": nonsense}',
    "wrong.json": '{"type": "strnig"}',
    "list.json": "[1]",
    "remote.json": '{"properties": {"a": {"$ref": "other.json#/x"}}}',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with schema files, which is the working directory."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "folder.toml").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("toml", "message"), ERRORS.values(), ids=ERRORS)
def test_error(folder: Path, toml: str, message: str) -> None:
    """What is wrong with a file is said with its key, what was found and what was expected."""
    (folder / "mine.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(DialectError) as caught:
        load("mine.toml")
    assert str(caught.value) == f"mine.toml: {message}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_error_is_a_value_error() -> None:
    """A caller that knows nothing of dialects can catch a ValueError."""
    assert issubclass(DialectError, ValueError)


def test_many_errors_are_capped(folder: Path) -> None:
    """Ten complaints are shown, the others counted."""
    unknown = "".join(f"key{number} = 1\n" for number in range(13))
    (folder / "mine.toml").write_text(unknown + HEAD + BODY)
    with pytest.raises(DialectError) as caught:
        load("mine.toml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "mine.toml: and 3 more"


def test_not_utf8(folder: Path) -> None:
    """A file that is not UTF-8 is said to be so, with the line."""
    (folder / "mine.toml").write_bytes(b'name = "mine"\ntitle = "\xff"\n')
    with pytest.raises(DialectError) as caught:
        load("mine.toml")
    assert str(caught.value) == "mine.toml: line 2 is not UTF-8, as TOML must be"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "natve",
            (
                f"there is no dialect named 'natve': expected {BUILT_IN}, "
                "or the path of a TOML file; did you mean native?"
            ),
        ),
        (
            "other.toml",
            (
                "other.toml: there is no such file; expected a dialect's TOML file, "
                f"or one of the names {BUILT_IN}"
            ),
        ),
        ("folder.toml", "folder.toml: cannot be read: Is a directory"),
    ],
)
def test_no_such_dialect(folder: Path, name: str, message: str) -> None:
    """A name or path that leads to no dialect is answered with the names that there are."""
    with pytest.raises(DialectError) as caught:
        load(name)
    assert str(caught.value) == message


def test_own_dialect_is_named_by_its_hash(folder: Path) -> None:
    """The label of a user's own dialect has the first twelve digits of its file's SHA-256."""
    (folder / "mine.toml").write_text(HEAD + BODY)
    digest = hashlib.sha256((HEAD + BODY).encode()).hexdigest()
    assert load("mine.toml").label == f"mine sha256:{digest[:12]}"
    assert load(folder / "mine.toml").label == f"mine sha256:{digest[:12]}"


def test_hash_covers_schema_files(folder: Path) -> None:
    """Another schema is another dialect."""
    (folder / "mine.toml").write_text(HEAD + BODY + '[events.x]\nschema_file = "token.json"\n')
    before = load("mine.toml").label
    (folder / "token.json").write_text('{"type": "array"}')
    assert load("mine.toml").label != before


def test_builtin_names() -> None:
    """The built-in dialects are these."""
    assert builtin_names() == ("agent-event-stream", "generic-data", "generic-typed", "native")


@pytest.mark.parametrize("name", builtin_names())
def test_builtin(name: str) -> None:
    """A built-in dialect loads, is labelled by its name, and says against what it was verified."""
    dialect = load(name)
    assert dialect.label == dialect.profile.name == name
    assert dialect.profile.title
    assert dialect.profile.verified_against
    assert dialect.profile.verified_on == "2026-11-21"
    assert dialect.profile.source
    assert load(name) is dialect


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_as_a_path(name: str, tmp_path: Path) -> None:
    """A copy of a built-in dialect is a user's own, and as good."""
    from importlib.resources import files

    copy = tmp_path / "copy.toml"
    copy.write_bytes((files("pytest_agentstream.dialects") / f"{name}.toml").read_bytes())
    assert load(copy).label.startswith(f"{name} sha256:")
