"""The tree of a conversation: the path shown, the siblings beside it, and moves between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.app.records import Attachment, StoredMessage
from magistral_mlx.app.store import Store
from magistral_mlx.conversation import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the path shown, and its siblings in order (itself included, at `index`)."""

    message: StoredMessage
    siblings: tuple[StoredMessage, ...]
    index: int

    @property
    def previous(self) -> StoredMessage | None:
        """The sibling before it."""
        return self.siblings[self.index - 1] if self.index else None

    @property
    def next(self) -> StoredMessage | None:
        """The sibling after it."""
        return self.siblings[self.index + 1] if self.index + 1 < len(self.siblings) else None

    @property
    def chains(self) -> tuple[StoredMessage, ...]:
        """All answers of the same run of parallel thinking, itself included; else none."""
        group = self.message.group
        return tuple(s for s in self.siblings if group is not None and s.group == group)


def shown_path(store: Store, conversation: str) -> list[Turn]:
    """The turns from the first message to the active leaf. Raises UserError when it is gone."""
    raise NotImplementedError


def path_to(messages: Sequence[StoredMessage], leaf: str | None) -> list[Turn]:
    """The turns from the root to `leaf` in a tree of messages."""
    raise NotImplementedError


def switch(store: Store, message: str) -> str:
    """Show the path through this message, down to its latest leaf; returns the leaf's id."""
    raise NotImplementedError


def edit(
    store: Store, message: str, content: str, attachments: Sequence[Attachment] | None = None
) -> StoredMessage:
    """A new sibling of a user's message, and show it; None keeps the attachments.

    Raises UserError when it is gone, no user's message, or the new text is empty.
    """
    raise NotImplementedError


def question_of(store: Store, answer: str) -> StoredMessage:
    """The user's message that an answer belongs to: regenerating starts a run from it."""
    raise NotImplementedError


def to_messages(path: Sequence[StoredMessage], *, system: str = "") -> list[Message]:
    """The path as the model gets it: attachments set into the questions, system text first.

    An answer that was cut off before it had any text is left out, with its question.
    """
    raise NotImplementedError


def conversation_messages(store: Store, leaf: str, *, system: str = "") -> list[Message]:
    """`to_messages` of the path from the root to this message."""
    raise NotImplementedError
