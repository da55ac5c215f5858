"""What stands around the server under test for a session: the LLM double, processes, replicas."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from pytest_agentstream.commands import EXAMPLE, whole_url
from pytest_agentstream.ports import free_ports
from pytest_agentstream.process import GRACE, ManagedProcess, ProcessError
from pytest_agentstream.redaction import names_secret
from pytest_agentstream.target import PORT
from pytest_agentstream.templates import TemplateError, render
from pytest_agentstream.verdicts import NotTested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_agentstream.doubles import LlmDouble
    from pytest_agentstream.driving import Driver
    from pytest_agentstream.target import Target

FIXED_PORT = 4010
"""Where the double listens when the server is started by hand, so that it can be told before."""

ENDING = 0.5
"""Seconds beyond a declared grace before a process is killed: it may use all of that."""

MOST_DEATHS = 8
"""How often one process that ended by itself is started again."""

ABSENT: Mapping[str, tuple[str, str]] = {
    "double": ("no LLM double stands behind the server", "start one: --agentstream-double"),
    "process": (
        "the suite did not start the server, so it can't end it",
        f"have it started: --agentstream-command {EXAMPLE!r} --agentstream-url /chat",
    ),
    "replicas": ("there is no further replica", "name one: --agentstream-replica URL"),
}
"""Why a probe that asks for what is not there is not tested, and the option that provides it."""

SHORTEST_SECRET = 8
"""Characters; shorter values of variables are words, which logs are full of."""


class SurroundingsError(Exception):
    """What the settings name around the server could not be started; the text says why."""


class Surroundings:
    """Start and end what the settings name around the server under test.

    `live` runs in the background for the whole session, and keeps the double. `open` starts
    everything, after which `target` has the ports that were chosen. `close` ends the processes,
    with or without an event loop.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.double: LlmDouble | None = None
        self.processes: tuple[ManagedProcess, ...] = ()
        self._wanted = anyio.Event()
        self._settled = anyio.Event()
        self._failure: OSError | None = None
        self._deaths: Counter[ManagedProcess] = Counter()
        self._given: list[Mapping[str, str]] = []

    @property
    def process(self) -> ManagedProcess | None:
        """The process of the server under test itself, where the suite starts it."""
        return self.processes[0] if self.processes else None

    def lacks(self, name: str) -> bool:
        """Whether the settings name no such resource; known before anything is started."""
        target = self.target
        has = {
            "double": bool(target.double),
            "process": bool(target.command),
            "replicas": len(target.command) > 1 or bool(target.replicas),
        }
        return not has.get(name, True)

    def supply(self, name: str, driver: Driver) -> object:
        """The resource of that name for a probe; raises `NotTested` where there is none."""
        if self.lacks(name):
            raise NotTested(*ABSENT[name])
        match name:
            case "double":
                return self.double
            case "process":
                return self.process
        return tuple(driver.at(url) for url in self.target.replicas)

    # -- start and end --------------------------------------------------------------------------

    async def live(self) -> None:
        """Keep the double from when it is wanted: who enters it has to leave it."""
        from pytest_agentstream.doubles import LlmDouble

        await self._wanted.wait()
        double = LlmDouble(port=double_port(self.target))
        try:
            await double.__aenter__()
        except OSError as failure:
            self._failure = failure
            self._settled.set()
            return
        self.double = double
        self._settled.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await double.__aexit__(None, None, None)

    async def open(self, tell: Callable[[str], None] | None = None) -> None:
        """Start the double, then every process at once; raises `SurroundingsError`.

        Once one of them has failed the others are waited for no more.
        `tell` is called with a sentence about each process that takes long.
        """
        if self.target.double:
            self._wanted.set()
            await self._settled.wait()
            if self._failure is not None:
                raise SurroundingsError(
                    f"the LLM double can't listen on port {double_port(self.target)} of 127.0.0.1 "
                    f"({self._failure.strerror}); choose another: [tool.agentstream] double = 4011"
                )
        self._choose()
        scopes = {process: anyio.CancelScope() for process in self.processes}
        failed: dict[ManagedProcess, ProcessError] = {}

        async def start(process: ManagedProcess) -> None:
            try:
                with scopes[process]:
                    await process.start(tell)
            except ProcessError as error:
                failed[process] = error
                for other, scope in scopes.items():
                    if other.death is None:  # who has ended, too, says so at once
                        scope.cancel()

        async with anyio.create_task_group() as group:
            for process in self.processes:
                group.start_soon(start, process)
        if failed:
            known = [str(failed[process]) for process in self.processes if process in failed]
            raise SurroundingsError("\n".join(known))

    async def restore(self) -> None:
        """Have every process run again, whoever ended or froze it; raises `ProcessError`."""
        for process in self.processes:
            if process.frozen:
                process.thaw()
            if process.alive and not process.asked_to_end:
                continue
            if process.death is not None:
                self._deaths[process] += 1
            if self._deaths[process] > MOST_DEATHS:
                raise ProcessError(
                    f"{process.name} was started again {MOST_DEATHS} times, and ended by itself "
                    "each time"
                )
            await process.restart()

    def close(self, tell: Callable[[str], None] | None = None) -> None:
        """End every process, all at the same time; `tell` is called where one takes long."""
        for process in self.processes:
            process.ask_to_end()
        for process in self.processes:
            process.close(tell)

    def end_now(self) -> None:
        """Kill every process that still lives: somebody has waited long enough."""
        for process in self.processes:
            process.end_now("Ctrl-C")

    @property
    def around(self) -> list[str]:
        """What was started around the server, a sentence each."""
        lines = [f"LLM double at {self.double.origin}"] if self.double is not None else []
        for process in self.processes:
            if process.alive:
                lines.append(f"{process.name}: process {process.pid} at {process.url}")
        return lines

    @property
    def notes(self) -> list[str]:
        """What processes did not do as they were asked to."""
        return [note for process in self.processes for note in process.notes]

    def secrets(self) -> Iterator[str]:
        """What the processes find in their environment and should not show in their logs.

        A value that names a port is known once that is chosen.
        """
        if not self.target.command:
            return
        for given in self._given or [{}]:
            for name, value in (*os.environ.items(), *self._rendered(given)):
                if names_secret(name) and len(value) >= SHORTEST_SECRET:
                    yield value

    # -- inside -----------------------------------------------------------------------------------

    def _rendered(self, given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The variables of the settings as processes get them, as far as they are known."""
        for name, template in self.target.env.items():
            with suppress(TemplateError):
                value = render(template, given, os.environ)
                if value not in given.values():  # which is no secret: it is ours
                    yield name, value

    def _choose(self) -> None:
        """Choose the ports of all processes, and put them into the target and the commands."""
        target = self.target
        ports = iter(free_ports(len(target.command)))
        made: list[ManagedProcess] = []
        for number, words in enumerate(target.command):
            url = url_with(whole_url(target), next(ports), replace=bool(number))
            given = {"port": str(urlsplit(url).port), "double": self.double_origin}
            self._given.append(given)
            made.append(
                ManagedProcess(
                    render(words, given, os.environ),
                    url,
                    environment={
                        **self.double_environment,
                        **render(target.env, given, os.environ),
                    },
                    cwd=target.cwd,
                    grace=GRACE if target.grace is None else target.grace + ENDING,
                    declared=target.grace,
                    limit=target.timeouts.start,
                    name=f"replica {number + 1}" if number else "the server under test",
                )
            )
        self.processes = tuple(made)
        if made:
            further = tuple(process.url for process in made[1:])
            update = {"url": made[0].url, "replicas": (*further, *target.replicas)}
            self.target = target.model_copy(update=update)

    @property
    def double_origin(self) -> str:
        return self.double.origin if self.double is not None else ""

    @property
    def double_environment(self) -> Mapping[str, str]:
        if self.double is None:
            return {}
        return {**_unproxied(os.environ), **self.double.environment}


def _unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """What keeps a proxy of the environment from between a server and the double."""
    found = {}
    for name in ("NO_PROXY", "no_proxy"):
        known = [word for word in (environment.get(name, ""), "127.0.0.1", "localhost") if word]
        found[name] = ",".join(known)
    return found


def announcement(target: Target) -> Iterator[str]:
    """What is known of the surroundings before anything is started, a sentence each."""
    if target.command:
        commands = [shlex.join(words) for words in target.command]
        yield f"starts {' and '.join(commands)}"
    if not target.double or target.command:
        return
    from pytest_agentstream.doubles import LlmDouble

    double = LlmDouble(port=double_port(target))
    yield f"LLM double at {double.origin}; the server has to be started with"
    for name, value in double.environment.items():
        yield f"  {name}={value}"


def double_port(target: Target) -> int:
    """The port of the double: any for a server that the suite starts, else one that is known."""
    if target.double is True:
        return 0 if target.command else FIXED_PORT
    return int(target.double)


def url_with(url: str, port: int, *, replace: bool) -> str:
    """The URL with its port filled in, or with this one in place of its own."""
    parts = urlsplit(url)
    host, _, given = parts.netloc.rpartition(":")
    if given != PORT and not replace:
        return url
    return parts._replace(netloc=f"{host or given}:{port}").geturl()
