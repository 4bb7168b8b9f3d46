"""Conversations on disk: SQLite, for this user alone, shared by threads and processes."""

from collections.abc import Sequence
from pathlib import Path

from magistral_mlx.app.records import (
    Attachment,
    Conversation,
    Ending,
    Figures,
    MessageRole,
    StoredMessage,
)


class Store:
    """Conversations, their trees of messages, and settings. Any thread may call any method."""

    def __init__(self, folder: Path | None) -> None:
        """Open or create the database in a folder; None keeps everything in memory (no history).

        Raises UserError when the folder cannot be used, or a newer version wrote the database.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the database; what is in memory alone is gone then."""
        raise NotImplementedError

    def create_conversation(self, title: str = "", *, pinned: bool = False) -> Conversation:
        """A new, empty conversation."""
        raise NotImplementedError

    def conversation(self, conversation: str) -> Conversation:
        """The one with this id. Raises UserError when it is gone."""
        raise NotImplementedError

    def conversations(self, search: str = "", *, limit: int = 500) -> list[Conversation]:
        """Pinned ones first, then the latest; `search` must occur in a title or a message."""
        raise NotImplementedError

    def rename(self, conversation: str, title: str) -> None:
        """Give it another title. Raises UserError for an empty one."""
        raise NotImplementedError

    def pin(self, conversation: str, *, pinned: bool) -> None:
        """Keep it at the top of the list, or no longer."""
        raise NotImplementedError

    def delete(self, conversation: str) -> None:
        """Delete it with all its messages; nothing happens when it is gone already."""
        raise NotImplementedError

    def activate(self, conversation: str, leaf: str | None) -> None:
        """Show the path that ends with this message."""
        raise NotImplementedError

    def messages(self, conversation: str) -> list[StoredMessage]:
        """All messages of all branches, in the order in which they were added."""
        raise NotImplementedError

    def message(self, message: str) -> StoredMessage:
        """The one with this id. Raises UserError when it is gone."""
        raise NotImplementedError

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
        """Add a message below its parent, and show the path to it (`activate`)."""
        raise NotImplementedError

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
        raise NotImplementedError

    def value(self, name: str) -> str | None:
        """A text kept under a name (the settings), or None."""
        raise NotImplementedError

    def keep_value(self, name: str, text: str | None) -> None:
        """Keep a text under a name; None removes it."""
        raise NotImplementedError
