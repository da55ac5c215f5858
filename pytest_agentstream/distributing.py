"""pytest-xdist: one worker gets every case, so that `-n 4` sends what `-n 0` sends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.collection import NAME, belongs

if TYPE_CHECKING:
    from pytest_agentstream.running import Running

DISTRIBUTED = frozenset({"load", "worksteal", "loadscope", "loadfile", "loadgroup"})


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
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        sent = getattr(node, "workeroutput", {}).get(NAME)
        if sent:
            self._running.take_facts(json.loads(sent))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        mode = config.getvalue("dist")
        if mode == "no" or self._running.words is None:
            return None
        if mode not in DISTRIBUTED:
            raise pytest.UsageError(
                f"agentstream: --dist {mode} would run every probe in every worker; "
                f"use one of {', '.join(sorted(DISTRIBUTED))}"
            )
        from xdist.scheduler import LoadScopeScheduling

        class OneWorker(LoadScopeScheduling):  # type: ignore[misc]
            def _split_scope(self, nodeid: str) -> str:
                return NAME if belongs(nodeid) else nodeid

        return OneWorker(config, log)
