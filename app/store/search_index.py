"""What a search of the conversations looks through: their titles and finished messages."""

import sqlite3
from unicodedata import normalize

from magistral_mlx.app.store.rows import storable

TRIGRAM = 3
"""Characters that FTS5's index needs; shorter texts are looked for one by one."""


class SearchIndex:
    """The table `found`: a message's text under its number, a title under minus its number.

    It is FTS5's where SQLite has that, and an ordinary one elsewhere.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        """Use the table that database.py has made. The caller holds the lock."""
        self._database = database
        row = database.execute("SELECT sql FROM sqlite_master WHERE name = 'found'").fetchone()
        self._has_trigrams = "VIRTUAL" in row[0]

    def put_title(self, number: int, title: str) -> None:
        """Find the conversation with this number by its title."""
        self._put(-number, title)

    def put_message(self, number: int, text: str) -> None:
        """Find a message's conversation by this text."""
        self._put(number, text)

    def remove(self, conversation: str) -> None:
        """Forget a conversation that is about to be deleted."""
        self._database.execute(
            "DELETE FROM found WHERE rowid IN (SELECT number FROM messages WHERE "
            "conversation = ?1 UNION SELECT -number FROM conversations WHERE id = ?1)",
            (conversation,),
        )

    def matching(self, search: str) -> tuple[str, str]:
        """A condition on the table of conversations, and the value of the one mark in it."""
        wanted = _folded(search.strip())
        if self._has_trigrams and len(wanted) >= TRIGRAM:
            hits = "SELECT rowid FROM found WHERE folded MATCH ?"
            wanted = '"' + wanted.replace('"', '""') + '"'
        else:
            hits = "SELECT rowid FROM found WHERE instr(folded, ?)"
        # A title leads to its conversation, and so does the number of a message.
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
    """Text as it is searched: without case, and with one form of each character."""
    # NUL would end the text for some of SQLite's functions.
    return normalize("NFKC", storable(text)).casefold().replace("\0", " ")
