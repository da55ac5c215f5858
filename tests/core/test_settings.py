"""Settings: where they come from, which one counts, and where their paths lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from pathlib import Path

URL = "http://127.0.0.1:8000/chat"


def write(folder: Path, text: str, name: str = "agentstream.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"[tool.agentstream]\n{text}", encoding="utf-8")
    return path


def settings(folder: Path, env: dict[str, str] | None = None, **options: Any) -> Settings:
    return load(options, directory=folder, environment=env or {}).settings


def test_command_line_over_environment_over_file(tmp_path: Path) -> None:
    """An option counts more than a variable, and a variable more than the file."""
    write(tmp_path, f'url = "{URL}"\nheartbeat = 1\nlevel = "should"\nconcurrency = 1')
    env = {"AGENTSTREAM_HEARTBEAT": "2", "AGENTSTREAM_CONCURRENCY": "2"}
    found = settings(tmp_path, env, heartbeat="3")
    assert (found.heartbeat, found.concurrency, found.level) == (3.0, 2, "should")


def test_empty_variables_are_not_set(tmp_path: Path) -> None:
    """An empty variable of the environment is none."""
    write(tmp_path, f'url = "{URL}"\nheartbeat = 1')
    assert settings(tmp_path, {"AGENTSTREAM_HEARTBEAT": ""}).heartbeat == 1.0


def test_headers_of_both_are_sent(tmp_path: Path) -> None:
    """Headers of the command line are added to the file's, and replace those of their name."""
    write(tmp_path, f'url = "{URL}"\nheaders = {{ X-Tenant = "file", X-Kept = "file" }}')
    found = settings(tmp_path, headers={"x-tenant": "option"})
    assert found.headers == {"X-Kept": "file", "x-tenant": "option"}


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    """The search goes upwards, past files that have no table of ours, and ends at the first."""
    write(tmp_path, 'url = "http://127.0.0.1/far"')
    near = write(tmp_path / "a", 'url = "http://127.0.0.1/near"', "pyproject.toml")
    below = tmp_path / "a" / "b" / "c"
    below.mkdir(parents=True)
    (tmp_path / "a" / "b" / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    found = load({}, directory=below, environment={})
    assert found.settings.url == "http://127.0.0.1/near"
    assert found.source == str(near)


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    """`--agentstream-config` is read from the folder where pytest was called; no other file is."""
    write(tmp_path, 'url = "http://127.0.0.1/found"')
    write(tmp_path / "other", 'url = "http://127.0.0.1/named"', "mine.toml")
    found = load({}, directory=tmp_path, environment={}, config="other/mine.toml")
    assert found.settings.url == "http://127.0.0.1/named"


def test_paths_in_a_file_are_from_its_folder(tmp_path: Path) -> None:
    """Relative paths in a file lead from the file's folder, those of options from here."""
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "known.toml").write_text("")
    write(
        tmp_path, f'url = "{URL}"\nca_file = "ca.pem"\nbaseline = "known.toml"\nreport = "r.json"'
    )
    below = tmp_path / "below"
    below.mkdir()
    found = settings(below, recordings="mine.jsonl")
    assert found.ca_file == str(tmp_path / "ca.pem")
    assert found.baseline == str(tmp_path / "known.toml")
    assert found.report == str(tmp_path / "r.json")
    assert found.recordings == "mine.jsonl"


def test_a_dialect_file_is_from_its_folder(tmp_path: Path) -> None:
    """A dialect's file is found beside the configuration, and a built-in one by its name."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntype_from = [{ sse_event = true }]\n[events.token]\n'
    )
    write(tmp_path, f'url = "{URL}"\ndialect = "mine.toml"')
    below = tmp_path / "below"
    below.mkdir()
    assert settings(below).dialect == str(tmp_path / "mine.toml")
    write(tmp_path, f'url = "{URL}"\ndialect = "native"')
    assert settings(below).dialect == "native"


def test_no_server_is_an_error_that_says_how(tmp_path: Path) -> None:
    """Without a URL the error names the option, the variable and the key."""
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path)
    for way in ("--agentstream-url", "AGENTSTREAM_URL", "[tool.agentstream]"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "warned"),
    [
        ('headers = { Authorization = "Bearer abcdef" }', "headers.Authorization"),
        ('scenarios.complete.headers = { X-Api-Key = "abcdef" }', "scenarios.complete.headers.X-"),
        (
            'setup = [{ request = "POST /a", headers = { Cookie = "a=b" } }]',
            "setup[0].headers.Cookie",
        ),
    ],
)
def test_literal_secrets_are_warned_about(tmp_path: Path, headers: str, warned: str) -> None:
    """A credential that stands in the file as it is gets a warning that does not quote it."""
    path = write(tmp_path, f'url = "{URL}"\n{headers}')
    (warning,) = load({}, directory=tmp_path, environment={}).warnings
    assert warning.startswith(f"{path}: {warned}")
    assert "holds a literal secret; take it from the environment" in warning
    assert "abcdef" not in warning


def test_secrets_from_the_environment_are_not_warned_about(tmp_path: Path) -> None:
    """A credential that comes from the environment is kept secret, with no warning."""
    write(tmp_path, f'url = "{URL}"\nheaders = {{ Authorization = "Bearer {{env:TOKEN}}" }}')
    found = load({}, directory=tmp_path, environment={"TOKEN": "s3cret-token"})
    assert not found.warnings
    assert "s3cret-token" in found.secrets


def test_every_kind_of_secret_is_known(tmp_path: Path) -> None:
    """Values of the environment that are used, and literal credentials, are secrets."""
    write(
        tmp_path,
        'url = "http://127.0.0.1/{env:IN_URL}"\n'
        'scenarios.complete = { json = { key = "{env:IN_BODY}" } }\n'
        'setup = [{ request = "POST /a", headers = { Cookie = "sid=abcdefgh" } }]\n',
    )
    env = {"IN_URL": "in-the-url", "IN_BODY": "in-the-body", "OTHER": "not-used"}
    options = {"headers": {"Authorization": "Bearer literal-token"}}
    found = load(options, directory=tmp_path, environment=env).secrets
    assert {"in-the-url", "in-the-body", "abcdefgh", "literal-token"} <= set(found)
    assert "not-used" not in found
