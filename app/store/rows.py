"""Records as rows of the database, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.app.store.records import Conversation, Figures, StoredMessage

CONVERSATION_COLUMNS = "id, title, created, updated, pinned, leaf"
MESSAGE_COLUMNS = (
    "id, conversation, parent, role, content, reasoning, attachments, ending, figures, model, "
    '"group", created'
)

# SQLite's values come untyped.
Row = Sequence[Any]


def conversation_of(row: Row) -> Conversation:
    """A row of CONVERSATION_COLUMNS."""
    return Conversation(row[0], row[1], row[2], row[3], bool(row[4]), row[5])


def message_of(row: Row) -> StoredMessage:
    """A row of MESSAGE_COLUMNS."""
    return StoredMessage(
        id=row[0],
        conversation=row[1],
        parent=row[2],
        role=row[3],
        content=row[4],
        reasoning=row[5],
        attachments=tuple(Attachment(**attachment) for attachment in json.loads(row[6])),
        ending=row[7],
        figures=_figures(row[8]),
        model=row[9],
        group=row[10],
        created=row[11],
    )


def row_of(message: StoredMessage) -> Row:
    """Values of MESSAGE_COLUMNS."""
    return (
        message.id,
        message.conversation,
        message.parent,
        message.role,
        storable(message.content),
        None if message.reasoning is None else storable(message.reasoning),
        storable(json.dumps([asdict(a) for a in message.attachments], ensure_ascii=False)),
        message.ending,
        figures_text(message.figures),
        message.model,
        message.group,
        message.created,
    )


def figures_text(figures: Figures | None) -> str | None:
    """Figures as they stand in a row."""
    return None if figures is None else json.dumps(figures.to_json())


def storable(text: str) -> str:
    """The text without halves of characters, which browsers can send and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _figures(text: str | None) -> Figures | None:
    if text is None:
        return None
    data: Mapping[str, object] = json.loads(text)
    return Figures.from_json(data)
