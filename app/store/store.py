"""Conversations on disk: an SQLite file of this user, shared by threads and processes."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from threading import RLock
from uuid import uuid4

from magistral_mlx.app.store.database import SearchIndex, open_database
from magistral_mlx.app.store.records import (
    CONVERSATION_COLUMNS,
    MESSAGE_COLUMNS,
    Conversation,
    Ending,
    Figures,
    Row,
    StoredMessage,
    conversation_of,
    figures_text,
    message_of,
    row_of,
    storable,
)
from magistral_mlx.errors import UserError


class Store:
    """Conversations, their trees of messages, and settings. Any thread may call any method.

    Every method raises UserError if the disk fails.
    """

    def __init__(self, folder: Path | None) -> None:
        """Open or create the database in a folder; None keeps everything in memory (no history).

        Raises UserError if the folder cannot be used, or a newer version wrote the database.
        """
        self._lock = RLock()
        self._database = open_database(folder)
        self._index = SearchIndex(self._database)

    def close(self) -> None:
        """Close the database; without a folder, its content is lost."""
        with self._lock:
            self._database.close()

    def create_conversation(self, title: str = "", *, pinned: bool = False) -> Conversation:
        """Add an empty conversation."""
        now = time.time()
        made = Conversation(uuid4().hex, title.strip(), now, now, pinned, leaf=None)
        self.add_conversation(made, ())
        return made

    def add_conversation(
        self, conversation: Conversation, messages: Sequence[StoredMessage]
    ) -> None:
        """Add a conversation with its messages: all of it or, on an error, nothing."""
        values = astuple(replace(conversation, title=storable(conversation.title)))
        with self._writing() as database:
            number = database.execute(
                f"INSERT INTO conversations ({CONVERSATION_COLUMNS}) VALUES ({_marks(values)})",
                values,
            ).lastrowid
            self._index.put_title(number or 0, conversation.title)
            for message in messages:
                self._insert(message)

    def conversation(self, conversation: str) -> Conversation:
        """The conversation with this id. Raises UserError if it is gone."""
        return conversation_of(self._row(CONVERSATION_COLUMNS, "conversations", conversation))

    def conversations(self, search: str = "", *, limit: int = 500) -> list[Conversation]:
        """Pinned ones first, then the latest; only those with `search` in a title or a message.

        The search ignores case and the width of characters.
        """
        condition, *values = self._index.matching(search) if search.strip() else ("true",)
        rows = self._read(
            f"SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE {condition} "
            "ORDER BY pinned DESC, updated DESC LIMIT ?",
            *values,
            limit,
        )
        return [conversation_of(row) for row in rows]

    def rename(self, conversation: str, title: str) -> None:
        """Change the title. Raises UserError if the new one is empty."""
        title = storable(title).strip()
        if not title:
            raise UserError("A conversation's title cannot be empty: write a word or two.")
        with self._writing() as database:
            renamed = database.execute(
                "UPDATE conversations SET title = ? WHERE id = ? RETURNING number",
                (title, conversation),
            ).fetchall()
            for (number,) in renamed:
                self._index.put_title(number, title)

    def pin(self, conversation: str, *, pinned: bool) -> None:
        """Keep the conversation at the top of the list, or stop doing so."""
        with self._writing() as database:
            database.execute(
                "UPDATE conversations SET pinned = ? WHERE id = ?", (pinned, conversation)
            )

    def delete(self, conversation: str) -> None:
        """Delete a conversation and its messages; does nothing if it is gone already."""
        with self._writing() as database:
            self._index.remove(conversation)
            database.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def activate(self, conversation: str, leaf: str | None) -> None:
        """Make the path that ends with this message the one shown."""
        with self._writing() as database:
            database.execute("UPDATE conversations SET leaf = ? WHERE id = ?", (leaf, conversation))

    def messages(self, conversation: str) -> list[StoredMessage]:
        """The messages of all branches, in the order in which they were added."""
        rows = self._read(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE conversation = ? ORDER BY number",
            conversation,
        )
        return [message_of(row) for row in rows]

    def message(self, message: str) -> StoredMessage:
        """The message with this id. Raises UserError if it is gone."""
        return message_of(self._row(MESSAGE_COLUMNS, "messages", message))

    def add_message(self, message: StoredMessage, *, activate: bool = True) -> StoredMessage:
        """Add a message below its parent; `activate` shows the path to it.

        Raises UserError if the conversation is gone.
        """
        with self._writing() as database:
            self._insert(message)
            database.execute(
                "UPDATE conversations SET updated = ?, leaf = iif(?, ?, leaf) WHERE id = ?",
                (message.created, activate, message.id, message.conversation),
            )
        return message

    def write_answer(
        self,
        message: str,
        *,
        content: str,
        reasoning: str | None,
        ending: Ending | None,
        figures: Figures | None,
    ) -> bool:
        """Save an answer so far; `ending` is None until it is complete. False: it was deleted."""
        with self._writing() as database:
            changed = database.execute(
                "UPDATE messages SET content = ?, reasoning = ?, ending = ?, figures = ? "
                "WHERE id = ? RETURNING number",
                (storable(content), reasoning, ending, figures_text(figures), message),
            ).fetchall()
            # Indexing a long text costs more than saving it, so it is done once, at the end.
            if changed and ending is not None:
                self._index.put_message(changed[0][0], content)
        return bool(changed)

    def value(self, name: str) -> str | None:
        """The text kept under a name, such as the settings, or None."""
        rows = self._read("SELECT text FROM kept_values WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    def keep_value(self, name: str, text: str | None) -> None:
        """Keep a text under a name; None removes it."""
        with self._writing() as database:
            if text is None:
                database.execute("DELETE FROM kept_values WHERE name = ?", (name,))
            else:
                database.execute(
                    "INSERT OR REPLACE INTO kept_values VALUES (?, ?)", (name, storable(text))
                )

    def _insert(self, message: StoredMessage) -> None:
        values = row_of(message)
        number = self._database.execute(
            f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({_marks(values)})", values
        ).lastrowid
        if message.ending is not None:
            names = [attachment.name for attachment in message.attachments]
            self._index.put_message(number or 0, "\n".join([message.content, *names]))

    def _row(self, columns: str, table: str, key: str) -> Row:
        rows = self._read(f"SELECT {columns} FROM {table} WHERE id = ?", key)
        if not rows:
            raise _gone()
        return rows[0]

    def _read(self, statement: str, *values: str | int) -> list[Row]:
        with self._lock, _failing_clearly():
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _failing_clearly():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


@contextmanager
def _failing_clearly() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise _gone() from error
    except sqlite3.Error as error:
        raise UserError(
            f"The conversations cannot be read or saved ({error}): make room on the disk, or "
            "start with --no-history."
        ) from error


def _gone() -> UserError:
    return UserError("This conversation is no longer there: choose another or start a new one.")


def _marks(values: Row) -> str:
    return ", ".join("?" * len(values))
