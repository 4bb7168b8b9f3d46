"""Conversations on disk: SQLite, for this user alone, shared by threads and processes."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from uuid import uuid4

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.app.store.database import open_database
from magistral_mlx.app.store.records import (
    Conversation,
    Ending,
    Figures,
    MessageRole,
    StoredMessage,
)
from magistral_mlx.app.store.rows import (
    CONVERSATION_COLUMNS,
    MESSAGE_COLUMNS,
    Row,
    conversation_of,
    figures_text,
    message_of,
    row_of,
    storable,
)
from magistral_mlx.app.store.search_index import SearchIndex
from magistral_mlx.errors import UserError


class Store:
    """Conversations, their trees of messages, and settings. Any thread may call any method.

    Every method raises UserError when the disk fails.
    """

    def __init__(self, folder: Path | None) -> None:
        """Open or create the database in a folder; None keeps everything in memory (no history).

        Raises UserError when the folder cannot be used, or a newer version wrote the database.
        """
        self._lock = RLock()
        self._database = open_database(folder)
        self._index = SearchIndex(self._database)

    def close(self) -> None:
        """Close the database; what is in memory alone is gone then."""
        with self._lock:
            self._database.close()

    def create_conversation(self, title: str = "", *, pinned: bool = False) -> Conversation:
        """A new, empty conversation."""
        now = time.time()
        made = Conversation(uuid4().hex, title.strip(), now, now, pinned, leaf=None)
        self.add_conversation(made, ())
        return made

    def add_conversation(
        self, conversation: Conversation, messages: Sequence[StoredMessage]
    ) -> None:
        """Add a whole conversation, as it was imported say: all of it or, on an error, nothing."""
        values = (
            conversation.id,
            storable(conversation.title),
            conversation.created,
            conversation.updated,
            conversation.pinned,
            conversation.leaf,
        )
        with self._writing() as database:
            number = database.execute(
                f"INSERT INTO conversations ({CONVERSATION_COLUMNS}) VALUES ({_marks(values)})",
                values,
            ).lastrowid
            self._index.put_title(number or 0, conversation.title)
            for message in messages:
                self._insert(message)

    def conversation(self, conversation: str) -> Conversation:
        """The one with this id. Raises UserError when it is gone."""
        rows = self._read(
            f"SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE id = ?", conversation
        )
        if not rows:
            raise _gone()
        return conversation_of(rows[0])

    def conversations(self, search: str = "", *, limit: int = 500) -> list[Conversation]:
        """Pinned ones first, then the latest; `search` must occur in a title or a message.

        Neither case nor the width of characters matters.
        """
        chosen = f"SELECT {CONVERSATION_COLUMNS} FROM conversations"
        order = "ORDER BY pinned DESC, updated DESC LIMIT ?"
        if search.strip():
            condition, wanted = self._index.matching(search)
            rows = self._read(f"{chosen} WHERE {condition} {order}", wanted, limit)
        else:
            rows = self._read(f"{chosen} {order}", limit)
        return [conversation_of(row) for row in rows]

    def rename(self, conversation: str, title: str) -> None:
        """Give it another title. Raises UserError for an empty one."""
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
        """Keep it at the top of the list, or no longer."""
        with self._writing() as database:
            database.execute(
                "UPDATE conversations SET pinned = ? WHERE id = ?", (pinned, conversation)
            )

    def delete(self, conversation: str) -> None:
        """Delete it with all its messages; nothing happens when it is gone already."""
        with self._writing() as database:
            self._index.remove(conversation)
            database.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def activate(self, conversation: str, leaf: str | None) -> None:
        """Show the path that ends with this message."""
        with self._writing() as database:
            database.execute("UPDATE conversations SET leaf = ? WHERE id = ?", (leaf, conversation))

    def messages(self, conversation: str) -> list[StoredMessage]:
        """All messages of all branches, in the order in which they were added."""
        rows = self._read(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE conversation = ? ORDER BY number",
            conversation,
        )
        return [message_of(row) for row in rows]

    def message(self, message: str) -> StoredMessage:
        """The one with this id. Raises UserError when it is gone."""
        rows = self._read(f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?", message)
        if not rows:
            raise _gone()
        return message_of(rows[0])

    def add_message(
        self,
        conversation: str,
        *,
        parent: str | None,
        role: MessageRole,
        content: str,
        reasoning: str | None = None,
        attachments: Sequence[Attachment] = (),
        ending: Ending | None = "stop",
        figures: Figures | None = None,
        model: str | None = None,
        group: str | None = None,
        activate: bool = True,
    ) -> StoredMessage:
        """Add a message below its parent, and show the path to it (`activate`).

        Raises UserError when the conversation is gone.
        """
        made = StoredMessage(
            id=uuid4().hex,
            conversation=conversation,
            parent=parent,
            role=role,
            content=content,
            reasoning=reasoning,
            attachments=tuple(attachments),
            ending=ending,
            figures=figures,
            model=model,
            group=group,
            created=time.time(),
        )
        with self._writing() as database:
            self._insert(made)
            database.execute(
                "UPDATE conversations SET updated = ?, leaf = iif(?, ?, leaf) WHERE id = ?",
                (made.created, activate, made.id, conversation),
            )
        return made

    def write_answer(
        self,
        message: str,
        *,
        content: str,
        reasoning: str | None,
        ending: Ending | None,
        figures: Figures | None,
    ) -> bool:
        """Save how far an answer is; `ending` None while it goes on. False: it was deleted."""
        with self._writing() as database:
            changed = database.execute(
                "UPDATE messages SET content = ?, reasoning = ?, ending = ?, figures = ? "
                "WHERE id = ? RETURNING number",
                (storable(content), reasoning, ending, figures_text(figures), message),
            ).fetchall()
            # Taking a long text into the index costs more than saving it: once, at the end.
            if changed and ending is not None:
                self._index.put_message(changed[0][0], content)
        return bool(changed)

    def value(self, name: str) -> str | None:
        """A text kept under a name (the settings), or None."""
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
    return UserError("This conversation is no longer there: choose another or begin a new one.")


def _marks(values: Row) -> str:
    return ", ".join("?" * len(values))
