"""What starts the server, and what stands around it: every way to write it, and to be wrong."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.dialects import load as load_dialect
from pytest_agentstream.settings import SettingsError, load

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_agentstream.settings import Settings

PYTHON = sys.executable


def settings(folder: Path, toml: str, **options: Any) -> Settings:
    (folder / "agentstream.toml").write_text(f"[tool.agentstream]\n{toml}", encoding="utf-8")
    return load(options, directory=folder, environment={"PATH": "/usr/bin:/bin"}).settings


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (f'command = "{PYTHON} app.py {{port}}"', ((PYTHON, "app.py", "{port}"),)),
        (f"command = \"{PYTHON} 'a b' {{port}}\"", ((PYTHON, "a b", "{port}"),)),
        (f'command = ["{PYTHON}", "{{port}}"]', ((PYTHON, "{port}"),)),
        (
            f'command = [["{PYTHON}", "{{port}}"], ["{PYTHON}", "-b", "{{port}}"]]',
            ((PYTHON, "{port}"), (PYTHON, "-b", "{port}")),
        ),
        ("", ()),
    ],
    ids=["text", "quoted", "words", "replicas", "none"],
)
def test_ways_to_write_a_command(
    tmp_path: Path, toml: str, expected: tuple[tuple[str, ...], ...]
) -> None:
    """A command is text as a shell reads it, its words, or such a list for each replica."""
    assert settings(tmp_path, f'url = "http://127.0.0.1:9/chat"\n{toml}').command == expected


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("/chat", "http://127.0.0.1:{port}/chat"),
        ("http://127.0.0.1:{port}/chat", "http://127.0.0.1:{port}/chat"),
        ("http://127.0.0.1:8123/chat", "http://127.0.0.1:8123/chat"),
        ("http://localhost/chat?a=1", "http://localhost:{port}/chat?a=1"),
        ("http://[::1]/chat", "http://[::1]:{port}/chat"),
        ("http://[::1]:81/chat", "http://[::1]:81/chat"),
    ],
)
def test_ways_to_write_its_url(tmp_path: Path, url: str, whole: str) -> None:
    """The URL of a command may be a path, leave the port open, or name it; it is on loopback."""
    made = settings(tmp_path, f'url = "{url}"\ncommand = "{PYTHON} {{port}}"')
    assert made.url == whole
    assert made.is_loopback


def test_a_replica_elsewhere(tmp_path: Path) -> None:
    """A session is on loopback only where all replicas are."""
    toml = 'url = "http://127.0.0.1:1/chat"\nreplicas = ["http://{host}:2/chat"]'
    assert settings(tmp_path, toml.replace("{host}", "localhost")).is_loopback
    assert not settings(tmp_path, toml.replace("{host}", "10.0.0.7")).is_loopback


def test_where_a_command_runs(tmp_path: Path) -> None:
    """A command from a file runs in that file's folder, unless `cwd` says another."""
    below = tmp_path / "below"
    below.mkdir()
    toml = f'url = "/chat"\ncommand = "{PYTHON} {{port}}"'
    assert settings(tmp_path, toml).cwd == str(tmp_path)
    assert settings(tmp_path, f'{toml}\ncwd = "below"').cwd == str(below)
    assert settings(tmp_path, toml, command=[[PYTHON, "{port}"]]).cwd is None


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("command = 5", 'command is 5; expected text such as "uvicorn app:app --port {port}"'),
        ('command = ["a", ["b"]]', "; expected text such as"),
        ('command = "a \'b"', "expected words as a shell reads them (no closing quotation)"),
        ('command = ""', "command is empty; expected what starts the server"),
        ('command = [["sh", "{port}"], []]', "command[1] is empty; expected what starts"),
        ('command = "no-such {port}"', 'command starts with "no-such", and no such program'),
        ('command = "./app {port}"', 'command starts with "./app", and no such program is found'),
        ('command = "sh"', "command has no {port}, and the url has no port; expected {port} wh"),
        (
            'command = [["sh", "{port}"], ["sh"]]',
            "command[1] has no {port}; expected it, so that each replica gets a port of its own",
        ),
        ('command = "sh {prt}"', "cannot be started: unknown variable in the template {prt}"),
        (
            'command = "sh {port}"\nenv = { A = "{double}" }',
            "env.A cannot be given to the server: it names {double}, and there is none; expected",
        ),
        ('command = "sh {port}"\nenv = { "A=B" = "" }', "cannot be a variable; expected a name"),
        ('command = "sh {port}"\ncwd = "gone/"', "there is no such folder"),
        ('replicas = ["/chat"]', 'replicas[0] is "/chat"; expected an absolute http:// or'),
        (
            'replicas = ["http://127.0.0.1:2/talk"]',
            "expected the path of the url, /chat, on another host or port",
        ),
        (
            'replicas = ["http://localhost:1/chat"]',
            "the same place as url; expected another process",
        ),
        (
            'replicas = ["http://127.0.0.1:2/chat", "http://127.0.0.1:2/chat"]',
            "the same place as replicas[0]",
        ),
        ('command = ["uvicorn app:app --port {port}"]', "is one word, "),
        ('toxiproxy = "8474"', "toxiproxy cannot be used: "),
        ("double = 0", "double is 0; expected true, false or a port from 1 to 65535"),
        ("double = 70000", "double is 70000; expected true, false or a port from 1 to 65535"),
        ('double = "4011"', 'double is "4011"; expected true, false or a port from 1 to 65535'),
        (
            'replicas = "text"',
            'replicas is "text"; expected an array such as ["http://127.0.0.1:8001/chat"]',
        ),
        ('env = "A=B"', 'env is "A=B"; expected a table such as { LOG_LEVEL = "debug" }'),
        (
            "command = []",
            'command is []; expected text such as "uvicorn app:app --port {port}", a list of',
        ),
        ("grace = 0", "grace is 0; expected a number above 0"),
        ('disconnect = "cancel"', 'disconnect is "cancel"; expected "cancels" or "continues"; did'),
    ],
)
def test_bad_surroundings(tmp_path: Path, toml: str, expected: str) -> None:
    """Each mistake gets its key, what was found and what was expected."""
    url = "/chat" if "command" in toml else "http://127.0.0.1:1/chat"
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, f'url = "{url}"\n{toml}')
    assert expected in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_replica_that_is_the_server_of_the_command(tmp_path: Path, host: str) -> None:
    """A server of the suite's with a port of its own is no replica of itself."""
    toml = f'url = "http://127.0.0.1:28111/chat"\ncommand = "{PYTHON} app.py 28111"\n'
    own = f"http://{host}:28111/chat"
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, f'{toml}replicas = ["{own}"]')
    path = tmp_path / "agentstream.toml"
    expected = f'replicas[0] is "{own}", the same place as url; expected another process'
    assert str(caught.value) == f"{path}: {expected}"
    assert settings(tmp_path, f'{toml}replicas = ["{own.replace("28111", "28112")}"]').replicas


def test_a_path_that_is_a_template(tmp_path: Path) -> None:
    """A program is looked for where the process would find it, in a PATH that is rendered."""
    program = tmp_path / "own-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    toml = f'url = "/chat"\ncommand = "own-server {{port}}"\nenv.PATH = "{tmp_path}:{{env:PATH}}"'
    assert settings(tmp_path, toml).command == (("own-server", "{port}"),)
    toml = toml.replace(str(tmp_path), "/nowhere")
    with pytest.raises(SettingsError, match='"own-server", and no such program is found'):
        settings(tmp_path, toml)
    with pytest.raises(SettingsError, match=r"env\.PATH cannot be given to the server: "):
        settings(tmp_path, toml.replace("{env:PATH}", "{env:NO_SUCH}"))


@pytest.mark.parametrize("value", ["{env:TOOLS}", "{env:TOOLS}:/usr/bin"])
def test_a_path_of_nothing_but_a_template(tmp_path: Path, value: str) -> None:
    """What PATH holds is known from the environment alone."""
    program = tmp_path / "own-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "agentstream.toml").write_text(
        f'[tool.agentstream]\nurl = "/chat"\ncommand = "own-server {{port}}"\nenv.PATH = "{value}"'
    )
    load({}, directory=tmp_path, environment={"TOOLS": str(tmp_path)})


def test_a_command_for_another_machine(tmp_path: Path) -> None:
    """A command is started here, so that its URL is on loopback."""
    with pytest.raises(SettingsError, match=r'url names "example\.com", and the command'):
        settings(tmp_path, f'url = "http://example.com/chat"\ncommand = "{PYTHON} {{port}}"')


@pytest.mark.parametrize("url", ["/chat", "http://127.0.0.1:{port}/chat"])
def test_a_url_that_needs_a_command(tmp_path: Path, url: str) -> None:
    """A path, or a port left open, needs a command that fills it in."""
    with pytest.raises(SettingsError, match="and there is no command; expected an absolute"):
        settings(tmp_path, f'url = "{url}"')


def test_a_declared_disconnect(tmp_path: Path) -> None:
    """What a disconnect means to the server can be declared where its dialect leaves it open."""
    made = settings(tmp_path, 'url = "http://127.0.0.1:1/chat"\ndisconnect = "cancels"')
    dialect = load_dialect("generic-typed")
    assert dialect.not_applicable("disconnect.cancels") is not None
    assert dialect.declaring(made.disconnect).not_applicable("disconnect.cancels") is None
    assert dialect.declaring(None) is dialect


def test_a_literal_secret_for_the_command(tmp_path: Path) -> None:
    """A secret that stands in the file is warned about; one from the environment is not."""
    (tmp_path / "agentstream.toml").write_text(
        '[tool.agentstream]\nurl = "/chat"\ncommand = "sh {port}"\n'
        'env = { OPENAI_API_KEY = "sk-123456789", MY_TOKEN = "{env:HOME}", KEYBOARD = "de" }'
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/home/somebody"}
    loaded = load({}, directory=tmp_path, environment=environment)
    [warning] = loaded.warnings
    assert "env.OPENAI_API_KEY holds a literal secret" in warning
    assert "/home/somebody" in loaded.secrets
