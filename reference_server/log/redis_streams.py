"""Store events in Redis Streams, which the processes of several machines share.

1. Every write is one script, so that the check of the lease and the append are one step.
2. A script whose answer got lost is sent again: what is stored already is not stored twice.
3. However many readers wait, one connection waits for them, on one stream of changes.
4. What is kept ends by Redis's own expiry. Redis must not evict (`maxmemory-policy noeviction`),
   and survives its own crash only with `appendonly yes`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError

from reference_server.log import redis_scripts
from reference_server.log.event_log import LogError, LogFull, LogUnavailable, RunState, UnknownRun
from reference_server.log.store import Bounds, Letter, News, Step, Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from urllib.parse import SplitResult

PREFIX = "agentstream:"
SCRIPTS = (
    *("register", "renew", "create", "commit", "end"),
    *("state", "read", "abandoned", "sweep", "post"),
)
OLDEST = (6, 2)
"""The first version with exclusive ranges and trimming by id."""
CONNECTIONS = 8
"""Connections that all readers of a process share."""
TIMEOUT = 2.0
"""Seconds that Redis may take for anything."""
BLOCK = 0.5
"""Seconds for which one question for changes waits."""
PAUSE = 0.002
"""Seconds in which changes gather before readers are woken."""
IDLE_PAUSE = 0.02
"""The same while nobody waits, and only letters can come."""


class RedisStore:
    """A store in a Redis database."""

    limit = 250

    def __init__(self, url: SplitResult, bounds: Bounds) -> None:
        number = url.path.strip("/") or "0"
        self.name = f"redis://{url.hostname}:{url.port or 6379}/{number}"
        self._bounds = bounds
        self._client = _client(url, number, CONNECTIONS)
        self._listener = _client(url, number, 1)
        self._changes = self._letters = "0-0"
        self._producer: int | None = None
        self._scripts = {
            name: self._client.register_script(getattr(redis_scripts, name.upper()))
            for name in SCRIPTS
        }

    async def open(self) -> bytes:
        try:
            version = (await self._client.info("server"))["redis_version"]
            if tuple(map(int, version.split(".")[:2])) < OLDEST:
                raise LogError(f"{self.name}: this is Redis {version}; 6.2 or newer is needed")
            await self._client.set(f"{PREFIX}secret", secrets.token_hex(32), nx=True)
            secret = await self._client.get(f"{PREFIX}secret")
            newest = await self._client.xrevrange(f"{PREFIX}changes", count=1)
        except LogError:
            await self.stop()
            raise
        except (RedisError, OSError) as failure:
            await self.stop()
            said = " ".join(str(failure).split()) or "it does not answer"
            raise LogError(f"{self.name}: Redis cannot be used: {said}") from None
        self._changes = newest[0][0] if newest else "0-0"
        return bytes.fromhex(secret)

    async def stop(self) -> None:
        await self._client.aclose(close_connection_pool=True)
        await self._listener.aclose(close_connection_pool=True)

    async def register(self, lease: float) -> int:
        return int(await self._run("register", _ms(lease)))

    async def renew(self, producer: int, lease: float) -> bool:
        return bool(await self._run("renew", producer, _ms(lease)))

    async def release(self, producer: int) -> None:
        await self._run("renew", producer, 0)

    async def create(self, run: str, owner: str, key: str | None, producer: int) -> str:
        name = f"{PREFIX}key:{len(owner)}:{owner}:{key}" if key is not None else ""
        holder = await self._run(
            "create", run, owner, name, producer, self._bounds.max_runs, self._bounds.max_bytes
        )
        if holder is None:
            raise LogFull
        return str(holder)

    async def commit(self, producer: int, steps: Sequence[Step]) -> set[str]:
        values: list[str | int] = [producer, _ms(self._bounds.remember)]
        for step in steps:
            kept = -1 if step.retention is None else _ms(step.retention)
            values += (step.run, step.first, len(step.said), step.size, step.trim, kept)
            for said in step.said:
                values += said
        return set(await self._run("commit", *values))

    async def end(self, run: str, said: Sequence[tuple[str, str]], *, if_abandoned: bool) -> bool:
        bounds = (_ms(self._bounds.retention), _ms(self._bounds.remember))
        texts = [text for each in said for text in each]
        ended = await self._run("end", run, int(if_abandoned), *bounds, *texts)
        if ended < 0:
            raise UnknownRun(run)
        return bool(ended)

    async def state(self, run: str) -> Stored:
        row = await self._run("state", run)
        if row is None:
            raise UnknownRun(run)
        owner, closed, last, oldest, expired, abandoned = row
        first = int(last) + 1 if expired or not oldest else int(oldest.partition("-")[0])
        state = RunState(owner, first, int(last), closed == "1", bool(expired))
        return Stored(state, bool(abandoned))

    async def read(self, run: str, after: int, limit: int) -> list[tuple[int, str, str]]:
        rows = json.loads(await self._run("read", run, after, limit))
        return [(int(seq.partition("-")[0]), kind, payload) for seq, kind, payload in rows]

    async def abandoned(self) -> Sequence[str]:
        return list(await self._run("abandoned"))

    async def sweep(self) -> None:
        await self._run("sweep")

    async def news(self, producer: int | None, waiting: Mapping[str, int]) -> News:
        await asyncio.sleep(PAUSE if waiting else IDLE_PAUSE)
        if producer != self._producer:
            self._producer, self._letters = producer, "0-0"
        changes, letters = f"{PREFIX}changes", f"{PREFIX}letters:{producer}"
        heard = await self._asked(
            self._listener.xread({changes: self._changes, letters: self._letters}, block=_ms(BLOCK))
        )
        grown: set[str] = set()
        received: list[Letter] = []
        for stream, rows in heard:
            if stream == changes:
                self._changes = rows[-1][0]
                grown.update(run for _, row in rows for run in row["r"].split(" "))
            else:
                self._letters = rows[-1][0]
                received += [
                    Letter(f"{producer}:{at}", row["run"], row.get("request"), row.get("text", ""))
                    for at, row in rows
                ]
        return News(sorted(grown), received)

    async def post(self, run: str, request_id: str, text: str) -> str | None:
        letter = await self._run("post", run, request_id, text)
        return None if letter is None else str(letter)

    async def reply(self, letter: Letter, answer: bool) -> None:
        await self._asked(
            self._client.set(f"{PREFIX}reply:{letter.number}", int(answer), px=60_000)
        )

    async def replied(self, letter: str) -> bool | None:
        answer = await self._asked(self._client.get(f"{PREFIX}reply:{letter}"))
        return None if answer is None else answer == "1"

    async def _run(self, script: str, *values: str | int) -> Any:
        return await self._asked(self._scripts[script](args=values))

    async def _asked(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except (RedisError, OSError) as failure:
            said = " ".join(str(failure).split()) or "no answer"
            raise LogUnavailable(f"the log {self.name} failed: {said}") from failure


def _client(url: SplitResult, number: str, connections: int) -> Any:
    pool = BlockingConnectionPool(
        host=url.hostname,
        port=url.port or 6379,
        db=int(number),
        username=url.username,
        password=url.password,
        max_connections=connections,
        timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        protocol=2,
        decode_responses=True,
        # a restart of Redis takes some tenths of a second; no answer at all is not waited for twice
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 6, (Disconnected,)),
    )
    return Redis(connection_pool=pool)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
