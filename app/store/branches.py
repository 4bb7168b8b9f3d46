"""The tree of a conversation: the path shown, the siblings beside it, and moves between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.app.files.attachments import Attachment, with_attachments
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError
from magistral_mlx.text.conversation import Message


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
    leaf = store.conversation(conversation).leaf
    return path_to(store.messages(conversation), leaf)


def path_to(messages: Sequence[StoredMessage], leaf: str | None) -> list[Turn]:
    """The turns from the root to `leaf` in a tree of messages."""
    by_id = {message.id: message for message in messages}
    children = _children(messages)
    path: list[Turn] = []
    while leaf is not None and leaf in by_id:
        message = by_id.pop(leaf)  # popped: a damaged tree with a circle ends too
        siblings = children[message.parent]
        path.append(Turn(message, tuple(siblings), siblings.index(message)))
        leaf = message.parent
    return path[::-1]


def switch(store: Store, message: str) -> str:
    """Show the path through this message, down to its latest leaf; returns the leaf's id."""
    chosen = store.message(message)
    children = _children(store.messages(chosen.conversation))
    while below := children.get(chosen.id):
        chosen = below[-1]
    store.activate(chosen.conversation, chosen.id)
    return chosen.id


def edit(
    store: Store, message: str, content: str, attachments: Sequence[Attachment] | None = None
) -> StoredMessage:
    """A new sibling of a user's message, and show it; None keeps the attachments.

    Raises UserError when it is gone, no user's message, or the new text is empty.
    """
    old = store.message(message)
    if old.role != "user":
        raise UserError("Only your own messages can be edited: ask for a new answer instead.")
    files = old.attachments if attachments is None else tuple(attachments)
    if not content.strip() and not files:
        raise UserError("The message is empty: write something, or keep it as it was.")
    return store.add_message(
        old.conversation, parent=old.parent, role="user", content=content, attachments=files
    )


def question_of(store: Store, answer: str) -> StoredMessage:
    """The user's message that an answer belongs to: regenerating starts a run from it.

    Raises UserError when there is none.
    """
    message = store.message(answer)
    if message.role != "assistant" or message.parent is None:
        raise UserError("Only an answer can be generated again: choose one of the model's.")
    return store.message(message.parent)


def to_messages(path: Sequence[StoredMessage], *, system: str = "") -> list[Message]:
    """The path as the model gets it: attachments set into the questions, system text first.

    A question whose answer was cut off before it had any text is left out with that answer:
    otherwise it would be answered together with the next one.
    """
    messages = [Message("system", system)] if system.strip() else []
    for index, stored in enumerate(path):
        following = path[index + 1] if index + 1 < len(path) else None
        if stored.role == "user" and (following is None or following.content.strip()):
            content = with_attachments(stored.content, stored.attachments)
            messages.append(Message("user", content))
        elif stored.role == "assistant" and stored.content.strip():
            messages.append(Message("assistant", stored.content, reasoning=stored.reasoning))
    return messages


def conversation_messages(store: Store, leaf: str, *, system: str = "") -> list[Message]:
    """`to_messages` of the path from the root to this message."""
    path = path_to(store.messages(store.message(leaf).conversation), leaf)
    return to_messages([turn.message for turn in path], system=system)


def _children(messages: Sequence[StoredMessage]) -> dict[str | None, list[StoredMessage]]:
    children: dict[str | None, list[StoredMessage]] = {}
    for message in messages:
        children.setdefault(message.parent, []).append(message)
    return children
