"""How cases become pytest items: packaged ones without any path, users' own where they stand.

Packaged cases are not found by walking folders. They are nodes of ours, appended to what the
session collected: so no `conftest.py`, `python_files`, import mode, in-tree environment or folder
of the user has a part in it. An item is no pytest function: it has no fixtures, so that neither
autouse fixtures nor fixtures of the same name reach it; its parameters are probes.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentstream.catalogue import Family, families

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_agentstream.cases import Case
    from pytest_agentstream.running import Running

NAME = "agentstream"
RUNNING = "agentstream-running"


class CaseItem(pytest.Item):
    """One case; the session's judge decides what it says, and `Running` what pytest makes of it."""

    def __init__(self, *, case: Case, line: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.case = case
        self._line = line
        self.add_marker(pytest.mark.agentstream)
        if hasattr(self.config.option, "timeout"):
            self.add_marker(pytest.mark.timeout(0))  # probes have bounds of their own
        self.user_properties += [
            ("agentstream.requirement", case.slug),
            ("agentstream.level", str(case.requirement.level)),
            ("agentstream.tier", str(case.requirement.tier)),
        ]

    @property
    def _running(self) -> Running:
        running: Running = self.config.pluginmanager.getplugin(RUNNING)
        return running

    def setup(self) -> None:
        self._running.begin(self)

    def runtest(self) -> None:
        self._running.report(self)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from pytest_agentstream.running import Red

        if isinstance(excinfo.value, Red):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line, f"{NAME}: {self.case.slug}"


class CaseFile(pytest.Collector):
    """One family of packaged cases."""

    def __init__(self, *, family: Family, only: frozenset[str] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._family = family
        self._only = only

    def collect(self) -> Iterator[CaseItem]:
        for name, case in self._family.cases.items():
            if self._only is None or name in self._only:
                yield item_for(self, name, case)


class CaseDirectory(pytest.Collector):
    """The packaged suite."""

    def __init__(self, *, selection: Selection, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._selection = selection

    def collect(self) -> Iterator[CaseFile]:
        for family in families():
            chosen = self._selection.of(family)
            if chosen is None or chosen:
                file_name = f"{family.name}.py"
                yield CaseFile.from_parent(
                    self,
                    name=file_name,
                    path=family.path,
                    nodeid=f"{NAME}/{file_name}",
                    family=family,
                    only=chosen,
                )


class Selection:
    """Which packaged cases the words on the command line mean.

    A word is `agentstream`, `agentstream/FILE.py` or `agentstream/FILE.py::CASE`. Raises
    pytest.UsageError for a word that means none, with the nearest that does.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._whole = not words
        self._chosen: dict[str, set[str] | None] = {}
        for word in words:
            self._take(word)

    def of(self, family: Family) -> frozenset[str] | None:
        """The chosen case names of a family; None means all of them."""
        if self._whole:
            return None
        chosen = self._chosen.get(family.name, set())
        return None if chosen is None else frozenset(chosen)

    def _take(self, word: str) -> None:
        path, _, name = word.partition("::")
        rest = path.removeprefix(NAME).strip("/")
        if not rest:
            self._whole = True
            return
        by_name = {f"{family.name}.py": family for family in families()}
        family = by_name.get(rest) or by_name.get(f"{rest}.py")
        if family is None:
            raise pytest.UsageError(_unknown(word, [f"{NAME}/{file}" for file in by_name]))
        if not name:
            self._chosen[family.name] = None
        elif name not in family.cases:
            known = [f"{NAME}/{family.name}.py::{case}" for case in family.cases]
            raise pytest.UsageError(_unknown(word, known))
        else:
            before = self._chosen.setdefault(family.name, set())
            if before is not None:
                before.add(name)


def _unknown(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1) or known[:1]
    return f"agentstream: no packaged case is called {word}; did you mean {near[0]}?"


def item_for(parent: pytest.Collector, name: str, case: Case) -> CaseItem:
    line = case.check.__code__.co_firstlineno - 1
    return CaseItem.from_parent(parent, name=name, case=case, line=line)


def belongs(nodeid: str) -> bool:
    """Whether a node id is that of a case, packaged or a user's own."""
    return nodeid.startswith(f"{NAME}/") or nodeid.endswith(f"[{NAME}]")


class Collection:
    """Add the packaged cases that `words` mean to what pytest collects; None means none of them.

    Raises pytest.UsageError for a word that means none, with the nearest that does.
    """

    def __init__(self, words: Sequence[str] | None) -> None:
        self._selection = None if words is None else Selection(words)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Session) and self._selection and report.passed:
            report.result.append(
                CaseDirectory.from_parent(
                    collector,
                    name=NAME,
                    path=families()[0].path.parent,
                    nodeid=NAME,
                    selection=self._selection,
                )
            )
        return report

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        elsewhere = hasattr(session.config, "workerinput")  # its controller will
        if self._selection is not None and not elsewhere and not session.testsfailed:
            check_left(session.config, (item.nodeid for item in session.items))


def check_left(config: pytest.Config, nodeids: Iterable[str]) -> None:
    """Raise pytest.UsageError where no packaged case is among what was collected."""
    if not any(nodeid.startswith(f"{NAME}/") for nodeid in nodeids):
        raise pytest.UsageError(
            "agentstream: a server under test was given, and not one packaged case is left to "
            f"judge it: everything was deselected. {_selectors(config)}"
        )


def _selectors(config: pytest.Config) -> str:
    given = [
        f"{option} {value!r}"
        for option, value in (
            ("-m", config.getoption("markexpr", "")),
            ("-k", config.getoption("keyword", "")),
            ("--deselect", config.getoption("deselect", None)),
        )
        if value
    ]
    said = f"In force: {', '.join(given)}. " if given else ""
    return f"{said}`agentstream run URL` is free of what a project's configuration adds."
