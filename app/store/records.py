"""What the page keeps (conversations, messages, figures), and the database rows that hold it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.events import FinishReason

MessageRole = Literal["user", "assistant"]
Ending = Literal[FinishReason, "failed"]

# SQLite returns untyped values.
Row = Sequence[Any]

Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
"""A whole number that SQLite can hold."""

_Measure = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens and seconds of an answer; None: not measured."""

    prompt_tokens: Count = 0
    cached_tokens: Count = 0
    completion_tokens: Count = 0
    reasoning_tokens: Count = 0
    seconds_to_first_token: _Measure | None = None
    reasoning_seconds: _Measure | None = None
    total_seconds: _Measure | None = None
    tokens_per_second: _Measure | None = None
    thinking_budget: Count | None = None
    reasoning_closed_by_force: Annotated[bool, Field(strict=True)] = False
    error: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "Figures":
        """Read figures that this version or another wrote; invalid ones get their defaults."""
        return valid_fields(_figures_adapter(), data)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A node of a conversation's tree.

    content: the typed text or the answer, without the attachments' texts.
    ending: why the answer ended; None while it is being written, or after a crash. Always "stop"
        for a user's message.
    group: shared by the chains of one run; None for a single answer.
    created: seconds since 1970.
    """

    id: str
    conversation: str
    parent: str | None
    role: MessageRole
    content: str
    reasoning: str | None
    attachments: tuple[Attachment, ...]
    ending: Ending | None
    figures: Figures | None
    model: str | None
    group: str | None
    created: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its messages. `leaf` is the last message of the path shown."""

    id: str
    title: str
    created: float
    updated: float
    pinned: bool
    leaf: str | None


# One column for each field, in the same order.
CONVERSATION_COLUMNS = ", ".join(field.name for field in fields(Conversation))
MESSAGE_COLUMNS = ", ".join(f'"{field.name}"' for field in fields(StoredMessage))


def valid_fields(adapter: TypeAdapter[_T], data: Mapping[str, object]) -> _T:
    """Build a record from the valid values in `data`; the other fields get their defaults."""
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        refused = {issue["loc"][0] for issue in error.errors()}
        return adapter.validate_python({k: v for k, v in data.items() if k not in refused})


def conversation_of(row: Row) -> Conversation:
    """A row of CONVERSATION_COLUMNS."""
    return Conversation(row[0], row[1], row[2], row[3], bool(row[4]), row[5])


def message_of(row: Row) -> StoredMessage:
    """A row of MESSAGE_COLUMNS."""
    values = list(row)
    values[6] = tuple(Attachment(**attachment) for attachment in json.loads(row[6]))
    values[8] = None if row[8] is None else Figures.from_json(json.loads(row[8]))
    return StoredMessage(*values)


def row_of(message: StoredMessage) -> Row:
    """Values of MESSAGE_COLUMNS."""
    files = json.dumps([asdict(file) for file in message.attachments], ensure_ascii=False)
    return (
        message.id,
        message.conversation,
        message.parent,
        message.role,
        storable(message.content),
        None if message.reasoning is None else storable(message.reasoning),
        storable(files),
        message.ending,
        figures_text(message.figures),
        message.model,
        message.group,
        message.created,
    )


def figures_text(figures: Figures | None) -> str | None:
    """Figures as a row holds them."""
    return None if figures is None else json.dumps(asdict(figures))


def storable(text: str) -> str:
    """The text with "?" for unpaired surrogates, which browsers can send and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _figures_adapter() -> TypeAdapter[Figures]:
    return TypeAdapter(Figures)
