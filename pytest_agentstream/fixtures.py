"""What users' own tests get: the reference client without `async`, and the results of probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.preflight import PreflightFailed
from pytest_agentstream.surroundings import SurroundingsError

if TYPE_CHECKING:
    from pytest_agentstream.observing import Observation
    from pytest_agentstream.probing import Probe
    from pytest_agentstream.recording import Recording
    from pytest_agentstream.session import Session


class BlockingClient:
    """The reference client for plain functions; all runs in the session's background loop."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, scenario: str = "complete", **options: Any) -> Observation:
        """Start one run and follow it to its end; `options` are those of `Client.run`.

        Raises `NotTested` where the scenario has no control.
        """
        return self._call("run", scenario, **options)  # type: ignore[no-any-return]

    def resume(self, seen: Observation, cursor: str, **options: Any) -> Recording:
        """Read a run back from a cursor, in one exchange."""
        return self._call("resume", seen, cursor, **options)  # type: ignore[no-any-return]

    def request(self, method: str, path: str, **options: Any) -> Recording:
        """Send any other request to the target's origin."""
        return self._call("request", method, path, **options)  # type: ignore[no-any-return]

    def result(self, probe: Probe) -> Any:
        """What a probe returned; it runs at most once in a session, whoever asks."""
        self._begin()
        return self._session.scheduler.result(probe)

    def _begin(self) -> None:
        """Have a server that streams; fails the test that asks where there is none."""
        __tracebackhide__ = True
        try:
            self._session.begin([])
        except (PreflightFailed, SurroundingsError) as failure:
            why = str(failure)
        else:
            return
        pytest.fail(why, pytrace=False)

    def _call(self, method: str, *args: object, **options: Any) -> Any:
        self._begin()
        driver = self._session.driver("a test")

        async def call() -> object:
            return await getattr(driver, method)(*args, **options)

        return self._session.scheduler.call(call)
