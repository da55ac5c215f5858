"""pytest-xdist: one worker gets every case, so that `-n 4` sends what `-n 0` sends."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.collection import NAME, belongs, check_left

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_agentstream.running import Running

SCHEDULERS: Mapping[str, str] = {
    "load": "LoadScopeScheduling",
    "worksteal": "LoadScopeScheduling",
    "loadscope": "LoadScopeScheduling",
    "loadfile": "LoadFileScheduling",
    "loadgroup": "LoadGroupScheduling",
}
"""Which of xdist's schedulers is made to give every case to one worker, by the mode asked for."""


def check_mode(config: pytest.Config) -> None:
    """Refuse a mode that would run every probe in every worker; raises pytest.UsageError."""
    mode = config.getoption("dist", "no")
    if mode != "no" and mode not in SCHEDULERS:
        raise pytest.UsageError(
            f"agentstream: --dist {mode} would run every probe in every worker; "
            f"use one of {', '.join(sorted(SCHEDULERS))}"
        )


class Distribution:
    """The hooks that exist only where xdist does."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[NAME] = {
            "words": self._running.words,
            "others": list(self._running.config.args),
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        if self._running.words is not None:
            check_left(self._running.config, ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        sent = getattr(node, "workeroutput", {}).get(NAME)
        if sent:
            self._running.take_facts(json.loads(sent))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        mode = config.getoption("dist")
        if mode not in SCHEDULERS:
            return None
        scheduling: Any = getattr(import_module("xdist.scheduler"), SCHEDULERS[mode])

        class OneWorker(scheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                if belongs(nodeid):
                    return NAME
                scope: str = super()._split_scope(nodeid)
                return nodeid if mode in {"load", "worksteal"} else scope

        return OneWorker(config, log)
