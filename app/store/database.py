"""The SQLite file behind the store: where it lies, who may read it, and its schema."""

import contextlib
import os
import sqlite3
from pathlib import Path

from magistral_mlx.errors import UserError

FILE_NAME = "conversations.sqlite"
FULL_TEXT = "fts5"
BUSY_SECONDS = 10.0
"""How long a write waits for another process's."""

_FIRST = """
CREATE TABLE conversations (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    pinned INTEGER NOT NULL,
    leaf TEXT
);
CREATE TABLE messages (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent TEXT,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    reasoning TEXT,
    attachments TEXT NOT NULL,
    ending TEXT,
    figures TEXT,
    model TEXT,
    "group" TEXT,
    created REAL NOT NULL
);
CREATE INDEX messages_of_conversation ON messages (conversation);
CREATE TABLE kept_values (name TEXT PRIMARY KEY, text TEXT NOT NULL);
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)
"""Step n leads from schema version n to n + 1. Steps that were released never change."""


def open_database(folder: Path | None) -> sqlite3.Connection:
    """Open or create the database in a folder, in memory for None, and bring it up to date.

    Raises UserError when it cannot be used.
    """
    try:
        connection = _connect(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot hold the conversations ({error.strerror}): choose another folder "
            "with --data-dir, or start with --no-history."
        ) from error
    try:
        _prepare(connection)
    except sqlite3.Error as error:
        connection.close()
        raise UserError(
            f"The conversations in {folder} cannot be opened ({error}): choose another folder "
            "with --data-dir, or start with --no-history."
        ) from error
    except UserError:
        connection.close()
        raise
    return connection


def _connect(folder: Path | None) -> sqlite3.Connection:
    if folder is None:
        return _connected(":memory:")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / FILE_NAME
    # Made before SQLite opens it: its companions (-wal, -shm) take over the mode.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    file.chmod(0o600)
    return _connected(str(file))


def _connected(name: str) -> sqlite3.Connection:
    # The store's lock lets one thread in at a time.
    return sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    # Another process may be doing the same: the one that comes second finds nothing to do.
    connection.execute("BEGIN IMMEDIATE")
    try:
        _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UserError(
            f"A newer version of magistral-mlx wrote these conversations (schema {version}, this "
            f"one knows {len(MIGRATIONS)}): update it, or choose another folder with --data-dir."
        )
    for step in MIGRATIONS[version:]:
        # Not executescript: that would commit before all steps are done.
        for statement in step.split(";\n"):
            connection.execute(statement)
    if version == 0:
        _create_index(connection)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _create_index(connection: sqlite3.Connection) -> None:
    """What is searched: a message's text under its number, a title under minus its number."""
    with contextlib.suppress(sqlite3.OperationalError):  # a Python whose SQLite has no FTS5
        connection.execute(
            f"CREATE VIRTUAL TABLE found USING {FULL_TEXT}(folded, "
            "tokenize = 'trigram case_sensitive 1')"
        )
        return
    connection.execute("CREATE TABLE found (folded TEXT)")
