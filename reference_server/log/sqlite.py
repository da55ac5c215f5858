"""Store events in one SQLite file, which the processes of one machine share.

1. Write-ahead log with `synchronous = NORMAL`: a commit is in the operating system's hands when it
   returns, so that no kill of a process can lose it. (A power failure can lose the last commits;
   it never breaks the file.)
2. One thread writes, one reads, and a third shortens the write-ahead log, which waits for the
   disk; none of them is the event loop's.
3. Python lets other threads in with every row that SQLite steps to, and waits its turn to come
   back. So each question has one row for an answer, and a commit inserts many rows a statement.
4. Clocks of one machine are the same clock: leases and retentions are wall-clock times.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reference_server.log.event_log import (
    LogError,
    LogFull,
    LogUnavailable,
    RunState,
    UnknownRun,
)
from reference_server.log.sqlite_schema import APPLICATION, SCHEMA, VERSION
from reference_server.log.store import OVERHEAD, Bounds, Letter, News, Step, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

PATIENCE = 5.0
"""Seconds to wait for another process's write."""
PAUSE = 0.0005
"""Seconds between two attempts to write."""
POLL = 0.005
"""Seconds between two looks for what other processes wrote, while somebody waits for it."""
IDLE_POLL = 0.02
"""The same while nobody waits, and only letters can come."""
CHUNKS = (512, 64, 8, 1)
"""Rows an INSERT has: few statements, each prepared once."""
SWEPT = 2000
"""Events freed in one transaction, so that no commit waits long for it."""
CHECKPOINT_PAGES = 16_384
"""Length at which a commit itself shortens the write-ahead log, if the third thread could not."""

_SIZE = f"SELECT sum(length(payload) + {OVERHEAD}) FROM events WHERE run_id = ? AND seq <= ?"
_STATE = """
SELECT r.owner, r.closed, r.last, r.expires, r.forgets, p.renewed, p.lease,
       (SELECT min(seq) FROM events WHERE run_id = r.id),
       (SELECT max(seq) FROM events WHERE run_id = r.id)
FROM runs r LEFT JOIN producers p ON p.number = r.producer WHERE r.run = ?"""
_READ = """
SELECT json_group_array(json_array(seq, type, payload)) FROM (
  SELECT seq, type, payload FROM events
  WHERE run_id = (SELECT id FROM runs WHERE run = ?) AND seq > ? ORDER BY seq LIMIT ?)"""
_NOT_OURS = """
SELECT json_group_array(asked.value) FROM json_each(?) asked
LEFT JOIN runs r ON r.id = asked.value
WHERE r.id IS NULL OR r.closed OR r.producer != ?"""
_ABANDONED = """
SELECT json_group_array(run) FROM (
  SELECT r.run FROM runs r LEFT JOIN producers p ON p.number = r.producer
  WHERE NOT r.closed AND (p.number IS NULL OR abs(? - p.renewed) >= p.lease) LIMIT 100)"""
_GROWN = """
SELECT json_group_array(w.key) FROM json_each(?) w LEFT JOIN runs r ON r.run = w.key
WHERE r.id IS NULL OR r.closed
   OR (SELECT max(seq) FROM events WHERE run_id = r.id) > w.value"""
_LETTERS = """
SELECT json_group_array(json_array(id, run, request, text))
FROM letters WHERE producer = ? AND id > ? AND answer IS NULL"""


class SqliteStore:
    """A store in a SQLite file."""

    limit = 1000

    def __init__(self, path: str, bounds: Bounds) -> None:
        self.name = f"sqlite:{path}"
        self._path = path
        self._bounds = bounds
        self._writing = ThreadPoolExecutor(1, "sqlite-writer")
        self._reading = ThreadPoolExecutor(1, "sqlite-reader")
        self._shortening = ThreadPoolExecutor(1, "sqlite-checkpoints")
        self._connections: list[sqlite3.Connection] = []
        self._ids: dict[str, int] = {}
        self._letter = 0
        self._version = 0
        self._asked: Mapping[str, int] = {}

    async def open(self) -> bytes:
        try:
            return await self._run(self._writing, self._open)
        except LogError:
            await self.stop()
            raise

    async def stop(self) -> None:
        for executor in (self._reading, self._writing, self._shortening):
            executor.shutdown()  # waits: a connection is not closed while a thread is in it
        for connection in self._connections:
            connection.close()

    async def register(self, lease: float) -> int:
        def write(db: sqlite3.Connection) -> int:
            added = db.execute(
                "INSERT INTO producers (renewed, lease) VALUES (?, ?)", (time.time(), lease)
            )
            return int(added.lastrowid or 0)

        return await self._write(write)

    async def renew(self, producer: int, lease: float) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            renewed = db.execute(
                "UPDATE producers SET renewed = ?, lease = ? WHERE number = ?",
                (time.time(), lease, producer),
            )
            return renewed.rowcount == 1

        return await self._write(write)

    async def release(self, producer: int) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE producers SET renewed = 0 WHERE number = ?", (producer,))

        await self._write(write)

    async def create(self, run: str, owner: str, key: str | None, producer: int) -> str:
        def write(db: sqlite3.Connection) -> str:
            if key is not None:
                holder = db.execute(
                    "SELECT run, forgets FROM runs WHERE owner = ? AND key = ?", (owner, key)
                ).fetchone()
                if holder is not None and (holder[1] is None or time.time() < holder[1]):
                    return str(holder[0])
                db.execute("UPDATE runs SET key = NULL WHERE owner = ? AND key = ?", (owner, key))
            self._make_room(db)
            added = db.execute(
                "INSERT INTO runs (run, owner, key, producer) VALUES (?, ?, ?, ?)",
                (run, owner, key, producer),
            )
            db.execute("UPDATE totals SET runs = runs + 1")
            self._ids[run] = int(added.lastrowid or 0)
            return run

        return await self._write(write)

    async def commit(self, producer: int, steps: Sequence[Step]) -> set[str]:
        return await self._write(lambda db: self._commit(db, producer, steps))

    async def end(self, run: str, said: Sequence[tuple[str, str]], *, if_abandoned: bool) -> bool:
        def write(db: sqlite3.Connection) -> bool:
            row = db.execute(
                "SELECT r.id, r.closed, r.producer, p.renewed, p.lease FROM runs r "
                "LEFT JOIN producers p ON p.number = r.producer WHERE r.run = ?",
                (run,),
            ).fetchone()
            if row is None:
                raise UnknownRun(run)
            number, closed, producer, renewed, lease = row
            if closed or (if_abandoned and _is_alive(renewed, lease)):
                return False
            (last,) = db.execute(
                "SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ?", (number,)
            ).fetchone()
            step = Step(run, last + 1, said, 0, retention=self._bounds.retention)
            size = sum(OVERHEAD + len(text) for _, text in said)
            self._insert(db, [(number, step)])
            self._close(db, number, step)
            db.execute("UPDATE runs SET producer = 0 WHERE id = ?", (number,))
            db.execute("UPDATE totals SET bytes = bytes + ?", (size,))
            self._write_letter(db, producer, run, None, "")
            return True

        return await self._write(write)

    async def state(self, run: str) -> Stored:
        row = await self._read(_STATE, (run,))
        now = time.time()
        if row is None or (row[4] is not None and now >= row[4]):
            raise UnknownRun(run)
        owner, closed, last, expires, _, renewed, lease, oldest, newest = row
        last = last if closed else newest or 0
        expired = bool(closed and now >= expires)
        first = last + 1 if expired or oldest is None else oldest
        state = RunState(owner, first, last, bool(closed), expired)
        return Stored(state, not closed and not _is_alive(renewed, lease))

    async def read(self, run: str, after: int, limit: int) -> list[tuple[int, str, str]]:
        (rows,) = await self._read(_READ, (run, after, limit))
        return [(seq, kind, payload) for seq, kind, payload in json.loads(rows)]

    async def abandoned(self) -> Sequence[str]:
        (runs,) = await self._read(_ABANDONED, (time.time(),))
        return list(json.loads(runs))

    async def sweep(self) -> None:
        more = True
        while more:
            more = await self._write(self._sweep)
        await self._run(self._shortening, self._checkpoint)

    async def news(self, producer: int | None, waiting: Mapping[str, int]) -> News:
        await asyncio.sleep(POLL if waiting else IDLE_POLL)
        return await self._run(self._reading, self._look, producer, waiting)

    async def post(self, run: str, request_id: str, text: str) -> str | None:
        def write(db: sqlite3.Connection) -> str | None:
            row = db.execute(
                "SELECT producer FROM runs WHERE run = ? AND NOT closed", (run,)
            ).fetchone()
            return None if row is None else self._write_letter(db, row[0], run, request_id, text)

        return await self._write(write)

    async def reply(self, letter: Letter, answer: bool) -> None:
        def write(db: sqlite3.Connection) -> None:
            db.execute("UPDATE letters SET answer = ? WHERE id = ?", (answer, int(letter.number)))

        await self._write(write)

    async def replied(self, letter: str) -> bool | None:
        row = await self._read("SELECT answer FROM letters WHERE id = ?", (int(letter),))
        return None if row is None or row[0] is None else bool(row[0])

    # in the writer's thread

    def _open(self) -> bytes:
        path = Path(self._path)
        if not path.parent.is_dir():
            raise LogError(f"{self.name}: there is no folder {path.parent}")
        if path.is_dir():
            raise LogError(f"{self.name}: this is a folder; a file was expected")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds what users said
            self._check()
            self._writer = self._connect()
            with _transaction(self._writer) as db:
                self._make_tables(db)
                db.execute(
                    "INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (secrets.token_bytes(32),)
                )
                (secret,) = db.execute("SELECT value FROM facts WHERE name = 'secret'").fetchone()
            self._reader = self._connect()
            self._sweeper = self._connect()
        except OSError as failure:
            raise LogError(f"{self.name}: it cannot be opened: {failure.strerror}") from None
        except sqlite3.DatabaseError as failure:
            if "not a database" in str(failure):
                raise LogError(f"{self.name}: this file is not a SQLite database") from None
            raise LogError(f"{self.name}: it cannot be opened: {failure}") from None
        return bytes(secret)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        self._connections.append(connection)
        # nobody may have the file meanwhile, and for that SQLite itself does not wait
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute("PRAGMA cache_size = -16384")
        return connection

    def _check(self) -> None:
        """Refuse another one's database before anything in it is changed."""
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as db:
            db.execute("BEGIN")  # another process may be making the tables
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise LogError(f"{self.name}: this database is something else's; name another file")
        if tables and version != VERSION:
            raise LogError(
                f"{self.name}: this log is of revision {version}, not {VERSION}; name another file"
            )

    def _make_tables(self, db: sqlite3.Connection) -> None:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            return
        for statement in SCHEMA:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")

    def _make_room(self, db: sqlite3.Connection) -> None:
        """Raise LogFull where nothing more can be kept."""
        while True:
            runs, size = db.execute("SELECT runs, bytes FROM totals").fetchone()
            if runs < self._bounds.max_runs and size < self._bounds.max_bytes:
                return
            if not self._sweep(db):
                raise LogFull

    def _commit(self, db: sqlite3.Connection, producer: int, steps: Sequence[Step]) -> set[str]:
        runs = {self._ids[step.run]: step.run for step in steps if step.run in self._ids}
        (text,) = db.execute(_NOT_OURS, (json.dumps(list(runs)), producer)).fetchone()
        lost = {step.run for step in steps} - set(runs.values())
        lost |= {runs[number] for number in json.loads(text)}
        for run in lost:
            self._ids.pop(run, None)
        ours = [(self._ids[step.run], step) for step in steps if step.run not in lost]
        self._insert(db, ours)
        for number, step in ours:
            if step.trim:
                db.execute("DELETE FROM events WHERE run_id = ? AND seq <= ?", (number, step.trim))
            if step.retention is not None:
                self._close(db, number, step)
                del self._ids[step.run]
        db.execute("UPDATE totals SET bytes = bytes + ?", (sum(step.size for _, step in ours),))
        return lost

    def _insert(self, db: sqlite3.Connection, steps: Sequence[tuple[int, Step]]) -> None:
        rows: list[Any] = []
        for number, step in steps:
            for seq, (kind, payload) in enumerate(step.said, step.first):
                rows += (number, seq, kind, payload)
        place = 0
        for count in CHUNKS:
            while len(rows) - place >= 4 * count:
                db.execute(_INSERTS[count], rows[place : place + 4 * count])
                place += 4 * count

    def _close(self, db: sqlite3.Connection, number: int, step: Step) -> None:
        assert step.retention is not None, "only a last step closes"
        expires = time.time() + step.retention
        db.execute(
            "UPDATE runs SET closed = 1, last = ?, expires = ?, forgets = ? WHERE id = ?",
            (step.last, expires, expires + self._bounds.remember, number),
        )

    def _write_letter(
        self, db: sqlite3.Connection, producer: int, run: str, request: str | None, text: str
    ) -> str:
        written = db.execute(
            "INSERT INTO letters (producer, run, request, text, sent) VALUES (?, ?, ?, ?, ?)",
            (producer, run, request, text, time.time()),
        )
        return str(written.lastrowid)

    def _sweep(self, db: sqlite3.Connection) -> bool:
        """Free a little of what has expired; return whether there may be more."""
        now = time.time()
        row = db.execute(
            "SELECT id FROM runs WHERE closed AND NOT swept AND expires <= ? LIMIT 1", (now,)
        ).fetchone()
        if row is not None:
            self._free(db, row[0])
            return True
        db.execute("DELETE FROM runs WHERE swept AND forgets <= ?", (now,))
        db.execute("DELETE FROM letters WHERE sent < ?", (now - 60.0,))
        db.execute(
            "DELETE FROM producers WHERE abs(? - renewed) > 10 * lease AND NOT EXISTS "
            "(SELECT 1 FROM runs WHERE producer = number AND NOT closed)",
            (now,),
        )
        return False

    def _free(self, db: sqlite3.Connection, number: int) -> None:
        """Free some events of an expired run, and count it out when none is left."""
        (oldest,) = db.execute("SELECT min(seq) FROM events WHERE run_id = ?", (number,)).fetchone()
        if oldest is None:
            db.execute("UPDATE runs SET swept = 1 WHERE id = ?", (number,))
            db.execute("UPDATE totals SET runs = runs - 1")
            return
        chunk = (number, oldest + SWEPT)
        (size,) = db.execute(_SIZE, chunk).fetchone()
        db.execute("DELETE FROM events WHERE run_id = ? AND seq <= ?", chunk)
        db.execute("UPDATE totals SET bytes = bytes - ?", (size,))

    # in other threads

    def _checkpoint(self) -> None:
        self._sweeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _look(self, producer: int | None, waiting: Mapping[str, int]) -> News:
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        if version == self._version and waiting == self._asked:
            return News()
        self._version, self._asked = version, waiting
        grown: list[str] = []
        if waiting:
            (text,) = self._reader.execute(_GROWN, (json.dumps(waiting),)).fetchone()
            grown = json.loads(text)
        (text,) = self._reader.execute(_LETTERS, (producer, self._letter)).fetchone()
        letters = json.loads(text)
        self._letter = max([self._letter, *(number for number, *_ in letters)])
        return News(grown, [Letter(str(number), *rest) for number, *rest in letters])

    async def _read(self, statement: str, values: Sequence[Any]) -> Any:
        return await self._run(
            self._reading, lambda: self._reader.execute(statement, values).fetchone()
        )

    async def _write(self, write: Callable[[sqlite3.Connection], T]) -> T:
        def work() -> T:
            with _transaction(self._writer) as db:
                return write(db)

        return await self._run(self._writing, work)

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[..., T], *values: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work, *values)
        except sqlite3.Error as failure:
            raise LogUnavailable(f"the log {self.name} failed: {failure}") from failure


_ROW = "(?, ?, ?, ?)"
_INSERTS = {
    count: "INSERT INTO events (run_id, seq, type, payload) VALUES " + ", ".join([_ROW] * count)
    for count in CHUNKS
}


def _is_alive(renewed: float | None, lease: float | None) -> bool:
    if renewed is None or lease is None:
        return False
    return abs(time.time() - renewed) < lease


def _patiently(take: Callable[[], object]) -> None:
    """Take a lock, again and again while another process has it, for PATIENCE seconds."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            take()
        except sqlite3.OperationalError as busy:
            if busy.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(PAUSE)
        else:
            return


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hold the file's one write lock; SQLite's own waiting would sleep up to 0.1 s at a time."""
    _patiently(lambda: db.execute("BEGIN IMMEDIATE"))
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls some failures back
            db.execute("ROLLBACK")
        raise
