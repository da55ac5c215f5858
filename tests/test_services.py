"""Services that tests need: found, started, ended; and missing ones are never passed over."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.services import REQUIRED, executable, free_port, redis_server, toxiproxy_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.services import Service


@pytest.mark.parametrize("name", ["toxiproxy-server", "redis-server"])
def test_a_missing_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """What is not installed is said with how to install it: a skip, or where required a failure."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOBIN", raising=False)
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{name} is not installed, .* NOT TESTED"):
        executable(name)
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match=f"{name} is not installed"):
        executable(name)


def test_an_executable_beside_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What `go install` made is found where it puts things."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GOBIN", str(tmp_path / "bin"))
    made = tmp_path / "bin" / "toxiproxy-server"
    made.parent.mkdir()
    made.touch(0o755)
    assert executable("toxiproxy-server") == str(made)


@pytest.mark.parametrize("start", [toxiproxy_server, redis_server])
def test_a_service_comes_and_goes(start: Callable[[int], AbstractContextManager[Service]]) -> None:
    """A service listens while it is there, at the port that was asked for, and is ended after."""
    port = free_port()
    for _ in range(2):
        with start(port) as service:
            assert f"127.0.0.1:{port}" in service.url
            with closing(socket.create_connection(("127.0.0.1", port), timeout=5)):
                assert service.process.poll() is None
        assert service.process.poll() is not None
