"""The tree of a conversation: the path shown, its siblings, and switching between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.app.files.attachments import with_attachments
from magistral_mlx.app.store.records import StoredMessage
from magistral_mlx.app.store.store import Store
from magistral_mlx.errors import UserError
from magistral_mlx.text.conversation import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the path shown, and its siblings in order, including itself at `index`."""

    message: StoredMessage
    siblings: tuple[StoredMessage, ...]
    index: int

    @property
    def chains(self) -> tuple[StoredMessage, ...]:
        """All answers of the same run of several chains, including this one; else none."""
        group = self.message.group
        return tuple(s for s in self.siblings if group is not None and s.group == group)


def shown_path(store: Store, conversation: str) -> list[Turn]:
    """The turns from the first message to the active leaf.

    Raises UserError if the conversation is gone.
    """
    leaf = store.conversation(conversation).leaf
    return path_to(store.messages(conversation), leaf)


def path_to(messages: Sequence[StoredMessage], leaf: str | None) -> list[Turn]:
    """The turns from the root to `leaf` in a tree of messages."""
    by_id = {message.id: message for message in messages}
    children = _children(messages)
    path: list[Turn] = []
    while leaf is not None and leaf in by_id:
        message = by_id.pop(leaf)  # popped, so that a damaged tree with a cycle ends too
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


def edit(store: Store, message: str, content: str) -> StoredMessage:
    """Add a sibling of a user's message, with its attachments, and show it.

    Raises UserError if the message is gone or not a user's, or the new text is empty.
    """
    old = store.message(message)
    if old.role != "user":
        raise UserError("Only your own messages can be edited: ask for a new answer instead.")
    if not content.strip() and not old.attachments:
        raise UserError("The message is empty: write something, or cancel the edit.")
    return store.add_message(
        StoredMessage(
            conversation=old.conversation,
            parent=old.parent,
            role="user",
            content=content,
            attachments=old.attachments,
        )
    )


def question_of(store: Store, answer: str) -> StoredMessage:
    """The user's message that an answer belongs to: regenerating starts a run from it.

    Raises UserError if the message is not an answer.
    """
    message = store.message(answer)
    if message.role != "assistant" or message.parent is None:
        raise UserError(
            "Only an answer can be generated again: choose one of the model's messages."
        )
    return store.message(message.parent)


def to_messages(path: Sequence[StoredMessage], *, system: str = "") -> list[Message]:
    """The path as the model gets it: system text first, attachments inside the questions.

    A question whose answer has no text is left out together with that answer; otherwise the
    model would answer it along with the next one.
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
