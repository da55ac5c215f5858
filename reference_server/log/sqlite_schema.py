"""The tables of a log in a SQLite file."""

from __future__ import annotations

APPLICATION = 0x41475354
"""Marks the file as a log of ours (`PRAGMA application_id`)."""
VERSION = 1

SCHEMA = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    # what is kept by all runs together, so that a start need not count
    "CREATE TABLE totals (runs INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    "INSERT INTO totals VALUES (0, 0)",
    # a lease: alive for `lease` seconds from `renewed` on; its number is never given again
    """CREATE TABLE producers (
        number INTEGER PRIMARY KEY AUTOINCREMENT, renewed REAL NOT NULL, lease REAL NOT NULL)""",
    # `last`, `expires` and `forgets` are set by the close; `swept`: the events are gone
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, key TEXT,
        producer INTEGER NOT NULL, closed INTEGER NOT NULL DEFAULT 0, last INTEGER,
        expires REAL, forgets REAL, swept INTEGER NOT NULL DEFAULT 0)""",
    "CREATE UNIQUE INDEX runs_by_key ON runs (owner, key) WHERE key IS NOT NULL",
    "CREATE INDEX runs_open ON runs (producer) WHERE NOT closed",
    "CREATE INDEX runs_to_sweep ON runs (expires) WHERE closed AND NOT swept",
    "CREATE INDEX runs_to_forget ON runs (forgets) WHERE swept",
    """CREATE TABLE events (
        run_id INTEGER NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, payload TEXT NOT NULL,
        PRIMARY KEY (run_id, seq)) WITHOUT ROWID""",
    # from one process to another about a run; `request` null: the run was ended
    """CREATE TABLE letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT, producer INTEGER NOT NULL, run TEXT NOT NULL,
        request TEXT, text TEXT NOT NULL, answer INTEGER, sent REAL NOT NULL)""",
    "CREATE INDEX letters_by_producer ON letters (producer, id)",
)
