"""Bad settings: each gets its place, what was found, what was expected, and the nearest name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from pathlib import Path

URL = 'url = "http://127.0.0.1:8000/chat"\n'


def refused(folder: Path, toml: str, env: dict[str, str] | None = None, **options: Any) -> str:
    """The error of a file in `folder`, its path written as FILE."""
    path = folder / "agentstream.toml"
    path.write_text(f"[tool.agentstream]\n{toml}", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(options, directory=folder, environment=env or {})
    return str(caught.value).replace(str(path), "FILE").replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("heartbeet = 1", "FILE: heartbeet is no key that is known here; expected url, "),
        ("heartbeet = 1", "; did you mean heartbeat?"),
        (
            "scenarios.complete = { jsn = {} }",
            "FILE: scenarios.complete.jsn is no key that is known here; expected json, body, ",
        ),
        ("scenarios.complete = { jsn = {} }", "; did you mean json?"),
        ("scenarios.complete = { json_body = {} }", "scenarios.complete.json_body is no key"),
        ('setup = [{ reqest = "POST /a" }]', "FILE: setup[0].request is missing; expected text"),
        ('setup = [{ reqest = "POST /a" }]', "; did you mean request?"),
        ("timeouts = { haed = 3 }", "timeouts.haed is no key that is known here; expected connect"),
        ("scenario = {}", "; did you mean scenarios?"),
        ("heartbeat = -1", "FILE: heartbeat is -1; expected a number above 0"),
        ("heartbeat = nan", "FILE: heartbeat is NaN; expected a "),
        ("timeouts.end = inf", "FILE: timeouts.end is Infinity; expected a finite number"),
        ('heartbeat = "often"', 'FILE: heartbeat is "often"; expected a number'),
        ("concurrency = 0", "FILE: concurrency is 0; expected a number above 0"),
        ("max_runs = 0", "FILE: max_runs is 0; expected a number not below 1"),
        ('level = "shuold"', 'FILE: level is "shuold"; expected "must" or "should"; did you mean'),
        ('require = "resumeable"', "; did you mean resumable?"),
        ('allow = ["fuz"]', 'FILE: allow[0] is "fuz"; expected '),
        ('allow = ["fuz"]', "; did you mean fuzz?"),
        ('headers = ["a"]', "FILE: headers has a value of the wrong kind; expected a table"),
        ("headers = { Authorization = 5 }", "headers.Authorization has a value of the wrong kind"),
        ("scenarios = 5", "FILE: scenarios is 5; expected a table"),
        (
            "scenarios.compleet = {}",
            "FILE: scenarios.compleet is no scenario that is known; expected complete, tools, ",
        ),
        ("scenarios.compleet = {}", "; did you mean complete?"),
        (
            'dialect = "nativ"',
            "FILE: dialect cannot be used: there is no dialect named 'nativ': expected ",
        ),
        ('dialect = "nativ"', "; did you mean native?"),
        (
            'dialect = "no.toml"',
            "FILE: dialect cannot be used: FOLDER/no.toml: there is no such file",
        ),
        ('ca_file = "ca.pem"', 'FILE: ca_file is "FOLDER/ca.pem", and there is no such file'),
        (
            'scenarios.complete.json.to = "{prmpt}"',
            "FILE: scenarios.complete.json.to cannot be sent: unknown variable in the template {pr",
        ),
        (
            'scenarios.complete.json.to = "{prmpt}"',
            "{prmpt}; did you mean {prompt}? Known here: {prompt}, {uuid}, {env:NAME}.",
        ),
        (
            'scenarios.complete.json.to = ["{thread}"]',
            "scenarios.complete.json.to[0] cannot be sent: unknown variable in the template {th",
        ),
        (
            'headers.X-Key = "{env:NO_KEY}"',
            "FILE: headers.X-Key cannot be sent: the template {env:NO_KEY} needs the environment v",
        ),
        (
            'headers.X-Thread = "{thread}"',
            "FILE: headers.X-Thread cannot be sent: unknown variable",
        ),
        (
            'scenarios.crash = { json = {}, secret = "a part of the exception\'s text" }',
            'FILE: scenarios.crash.secret is still "a part of the exception\'s text"; expected s',
        ),
        (
            "scenarios.echo = { json = {}, verbatim = true }",
            "FILE: scenarios.echo.verbatim is true, and nothing that is sent says {prompt}",
        ),
        (
            'setup = [{ request = "threads" }]',
            'FILE: setup[0].request is "threads"; expected a method',
        ),
        (
            'setup = [{ request = "POST /a", capture = { thread = "thread_id" } }]',
            'FILE: setup[0].capture.thread is "thread_id"; expected "json:path.to.value" or ',
        ),
    ],
)
def test_a_bad_file(tmp_path: Path, toml: str, expected: str) -> None:
    """The error names the file and the key as it is written there."""
    assert expected in refused(tmp_path, URL + toml)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:8000/chat", "expected an absolute http:// or https:// URL"),
        ("ftp://127.0.0.1/chat", "expected an absolute http:// or https:// URL"),
        ("http:///chat", "expected an absolute http:// or https:// URL"),
        ("http://127.0.0.1:99999/chat", "expected an absolute http:// or https:// URL"),
        ("http://[::1/chat", "expected an absolute http:// or https:// URL"),
        ("http://{env:HOST}/chat", "AGENTSTREAM_URL gives all of it"),
    ],
)
def test_a_bad_url(tmp_path: Path, url: str, expected: str) -> None:
    """A URL that no request can be sent to is told before one is."""
    found = refused(tmp_path, f'url = "{url}"', {"HOST": "127.0.0.1"})
    assert found.startswith(f'FILE: url is "{url}"')
    assert expected in found


def test_a_password_in_the_url(tmp_path: Path) -> None:
    """A password in the URL, which no client of ours would send, is refused and not quoted."""
    found = refused(tmp_path, 'url = "http://user:pa55word@127.0.0.1/chat"')
    assert found == (
        "FILE: url holds a user or password; expected them in a header: "
        'headers = { Authorization = "Basic {env:NAME}" }'
    )


def test_setup_captures_are_known_from_there_on(tmp_path: Path) -> None:
    """A step's template may name what an earlier step captures, not what it captures itself."""
    first = '{ request = "POST /a/{b}", capture = { b = "json:b" } }'
    second = '{ request = "POST /b/{b}" }'
    found = refused(tmp_path, f"{URL}setup = [{first}, {second}]")
    assert found.startswith("FILE: setup[0].request cannot be sent: unknown variable")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"heartbeat": "often"}, '--agentstream-heartbeat is "often"; expected a number'),
        ({"allow": ["load", "atack"]}, '--agentstream-allow is "atack"; expected '),
        ({"max_runs": "0"}, '--agentstream-max-runs is "0"; expected a number not below 1'),
        ({"require": "resumeable"}, '--agentstream-require is "resumeable"; expected '),
        ({"dialect": "nativ"}, "--agentstream-dialect cannot be used: there is no dialect"),
        ({"url": "chat"}, '--agentstream-url is "chat"; expected an absolute'),
        (
            {"headers": {"X-Key": "{env:NO_KEY}"}},
            "--agentstream-header (X-Key) cannot be sent: the template {env:NO_KEY} needs",
        ),
    ],
)
def test_a_bad_option(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    """The error of an option names the option, also beside a file that sets the same."""
    assert expected in refused(tmp_path, f"{URL}heartbeat = 5", **options)


def test_a_bad_variable(tmp_path: Path) -> None:
    """The error of a variable of the environment names the variable."""
    found = refused(tmp_path, URL, {"AGENTSTREAM_REQUIRE": "coer"})
    assert found.startswith('AGENTSTREAM_REQUIRE is "coer"; expected "core", ')
    assert found.endswith("; did you mean core?")


def test_every_error_is_told_at_once(tmp_path: Path) -> None:
    """Several mistakes get a line each."""
    found = refused(tmp_path, f"{URL}heartbeat = -1\nlevel = 5\n")
    assert [line.split(" is ")[0] for line in found.splitlines()] == [
        "FILE: heartbeat",
        "FILE: level",
    ]


VALUES = (
    '"text"',
    "-1",
    "70000",
    "1.5",
    "true",
    "[]",
    "{}",
    "[5]",
    '["a"]',
    "{ a = 5 }",
    "nan",
    "9" * 40,
    "2026-01-01",
)


@pytest.mark.parametrize("name", [*Settings.model_fields, "timeouts.start"])
def test_every_error_is_in_our_words(tmp_path: Path, name: str) -> None:
    """Whatever stands in a key, nothing is said in the words of the library that checks it."""
    options = {} if name == "url" else {"url": "http://127.0.0.1:1/chat"}
    said = []
    for value in VALUES:
        (tmp_path / "agentstream.toml").write_text(f"[tool.agentstream]\n{name} = {value}\n")
        try:
            load(options, directory=tmp_path, environment={})
        except SettingsError as error:
            said.append(str(error))
    assert said
    assert all(name in text for text in said)
    assert not re.search("Input should|nable to", "\n".join(said))


def test_a_number_of_too_many_digits(tmp_path: Path) -> None:
    """A variable that holds no number that fits is told to have fewer digits."""
    found = refused(tmp_path, URL, {"AGENTSTREAM_MAX_RUNS": "9" * 5000})
    assert found.startswith('AGENTSTREAM_MAX_RUNS is "999')
    assert found.endswith("...; expected a whole number of fewer digits")


def test_a_secret_is_not_quoted(tmp_path: Path) -> None:
    """A credential of the wrong kind is not shown in the complaint about it."""
    assert "s3cret" not in refused(tmp_path, URL + 'headers = { Authorization = ["s3cret"] }')


def test_a_syntax_error_has_its_line(tmp_path: Path) -> None:
    """A file that is no TOML is named with the line where it stops being TOML."""
    found = refused(tmp_path, f"{URL}heartbeat = = 5")
    assert found.startswith("FILE: no valid TOML: ")
    assert "(at line 3, column" in found


def test_a_file_without_the_table(tmp_path: Path) -> None:
    """agentstream.toml without [tool.agentstream] is told what it has instead."""
    (tmp_path / "agentstream.toml").write_text(f"[agentstream]\n{URL}")
    with pytest.raises(
        SettingsError, match=r"has no table \[tool.agentstream\].*found agentstream"
    ):
        load({}, directory=tmp_path, environment={})


def test_two_files_in_one_folder(tmp_path: Path) -> None:
    """Two tables in one folder are an error: neither is the nearer one."""
    (tmp_path / "pyproject.toml").write_text(f"[tool.agentstream]\n{URL}")
    assert refused(tmp_path, URL) == (
        "FOLDER: agentstream.toml and pyproject.toml both have a table [tool.agentstream]; "
        "expected one, so remove the other"
    )


@pytest.mark.parametrize("text", ["tool = 5", "[tool]\nagentstream = 5"])
def test_a_table_that_is_none(tmp_path: Path, text: str) -> None:
    """Another kind of value where the table should be is an error, no crash."""
    (tmp_path / "agentstream.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"\[tool.agentstream\]"):
        load({}, directory=tmp_path, environment={})


def test_anothers_broken_pyproject_is_left_to_its_owner(tmp_path: Path) -> None:
    """A broken pyproject.toml is an error only where it speaks of agentstream, or is named."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.ruff\n")
    loaded = load({"url": "http://127.0.0.1/"}, directory=tmp_path, environment={})
    assert loaded.source == "no configuration file"
    path.write_text("[tool.agentstream\n")
    with pytest.raises(SettingsError, match=r"pyproject.toml: no valid TOML: .*line 1"):
        load({}, directory=tmp_path, environment={})


@pytest.mark.parametrize("name", ["missing.toml", "pyproject.toml"])
def test_a_named_file_that_says_nothing(tmp_path: Path, name: str) -> None:
    """`--agentstream-config` must name a file that has the table."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    with pytest.raises(SettingsError, match=r"there is no file|has no table"):
        load({}, directory=tmp_path, environment={}, config=name)


def test_a_dialect_of_ones_own_that_names_an_unknown_requirement(tmp_path: Path) -> None:
    """A slug in a dialect's `requirements` that nobody has gets the nearest one."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntype_from = [{ sse_event = true }]\n[events.token]\n'
        '[requirements]\n"terminal.exactly-two" = { level = "SHOULD", why = "ours" }\n'
        '"framing.*" = { level = "SHOULD", why = "ours" }\n'
    )
    assert refused(tmp_path, URL + 'dialect = "mine.toml"') == (
        'FILE: dialect cannot be used: FOLDER/mine.toml: requirements."terminal.exactly-two" is no '
        "requirement that is known; expected one that `agentstream requirements` lists; "
        "did you mean terminal.exactly-one?"
    )


def test_a_dialect_of_ones_own_that_needs_an_unknown_variable(tmp_path: Path) -> None:
    """The start request of a dialect is checked with the templates of the settings."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntype_from = [{ sse_event = true }]\n[events.token]\n'
        '[start]\njson = { id = "{thread}" }\n'
    )
    found = refused(tmp_path, URL + 'dialect = "mine.toml"')
    assert "mine.toml: start.json.id cannot be sent: unknown variable in the template" in found
