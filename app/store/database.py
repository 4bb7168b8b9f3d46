"""The SQLite file behind the store: its folder and file mode, its schema, and its search index."""

import contextlib
import os
import sqlite3
from pathlib import Path
from unicodedata import normalize

from magistral_mlx.app.store.records import storable
from magistral_mlx.errors import UserError

FILE_NAME = "conversations.sqlite"
FULL_TEXT = "fts5"
BUSY_SECONDS = 10.0
"""How long a write waits for another process."""
TRIGRAM = 3
"""The shortest text that FTS5's index can find."""

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
"""Step n leads from schema version n to n + 1. Released steps never change."""


def open_database(folder: Path | None) -> sqlite3.Connection:
    """Open or create the database in a folder (None: in memory), and update its schema.

    Raises UserError if it cannot be used.
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


class SearchIndex:
    """The table `found`: a message's text under its number, a title under minus its number.

    A full-text table if SQLite has FTS5, else an ordinary one.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        """Use the table of an open database. The caller holds the lock."""
        self._database = database
        row = database.execute("SELECT sql FROM sqlite_master WHERE name = 'found'").fetchone()
        self._has_trigrams = "VIRTUAL" in row[0]

    def put_title(self, number: int, title: str) -> None:
        """Index the title of the conversation with this number."""
        self._put(-number, title)

    def put_message(self, number: int, text: str) -> None:
        """Index the text of the message with this number."""
        self._put(number, text)

    def remove(self, conversation: str) -> None:
        """Remove a conversation (its id) that is about to be deleted."""
        self._database.execute(
            "DELETE FROM found WHERE rowid IN (SELECT number FROM messages WHERE "
            "conversation = ?1 UNION SELECT -number FROM conversations WHERE id = ?1)",
            (conversation,),
        )

    def matching(self, search: str) -> tuple[str, str]:
        """A condition on the table of conversations, and the value of its one parameter."""
        wanted = _folded(search.strip())
        if self._has_trigrams and len(wanted) >= TRIGRAM:
            hits = "SELECT rowid FROM found WHERE folded MATCH ?"
            wanted = '"' + wanted.replace('"', '""') + '"'
        else:
            hits = "SELECT rowid FROM found WHERE instr(folded, ?)"
        owners = (
            "SELECT coalesce(messages.conversation, titled.id) FROM "
            f"({hits}) AS hit LEFT JOIN messages ON messages.number = hit.rowid "
            "LEFT JOIN conversations AS titled ON titled.number = -hit.rowid"
        )
        return f"id IN ({owners})", wanted

    def _put(self, number: int, text: str) -> None:
        self._database.execute("DELETE FROM found WHERE rowid = ?", (number,))
        self._database.execute(
            "INSERT INTO found (rowid, folded) VALUES (?, ?)", (number, _folded(text))
        )


def _folded(text: str) -> str:
    """Text as it is searched: case-folded, with one form of each character."""
    # NUL would end the text for some of SQLite's functions.
    return normalize("NFKC", storable(text)).casefold().replace("\0", " ")


def _connect(folder: Path | None) -> sqlite3.Connection:
    name = ":memory:"
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / FILE_NAME
        # Created before SQLite opens it, because its -wal and -shm files copy the mode.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        file.chmod(0o600)
        name = str(file)
    # The store's lock lets one thread in at a time.
    return sqlite3.connect(
        name, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    # If another process does the same, the second one finds nothing left to do.
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
        # Not executescript, which would commit before all steps are done.
        for statement in step.split(";\n"):
            connection.execute(statement)
    if version == 0:
        _create_index(connection)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _create_index(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.OperationalError):  # SQLite was built without FTS5
        connection.execute(
            f"CREATE VIRTUAL TABLE found USING {FULL_TEXT}(folded, "
            "tokenize = 'trigram case_sensitive 1')"
        )
        return
    connection.execute("CREATE TABLE found (folded TEXT)")
