"""What the page keeps (conversations, messages, figures), and the database rows that hold it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar
from uuid import uuid4

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A node of a conversation's tree. By default it has a new id and was created now.

    content: the typed text or the answer, without the attachments' texts.
    ending: why the answer ended; None while it is being written, or after a crash. Always "stop"
        for a user's message.
    group: shared by the chains of one run; None for a single answer.
    created: seconds since 1970.
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    conversation: str
    parent: str | None
    role: MessageRole
    content: str
    reasoning: str | None = None
    attachments: tuple[Attachment, ...] = ()
    ending: Ending | None = "stop"
    figures: Figures | None = None
    model: str | None = None
    group: str | None = None
    created: float = field(default_factory=time.time)


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
CONVERSATION_COLUMNS = ", ".join(each.name for each in fields(Conversation))
MESSAGE_FIELDS = tuple(each.name for each in fields(StoredMessage))
MESSAGE_COLUMNS = ", ".join(f'"{name}"' for name in MESSAGE_FIELDS)


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
    values = dict(zip(MESSAGE_FIELDS, row, strict=True))
    files, figures = json.loads(values["attachments"]), values["figures"]
    values["attachments"] = tuple(Attachment(**file) for file in files)
    values["figures"] = None if figures is None else Figures.from_json(json.loads(figures))
    return StoredMessage(**values)


def row_of(message: StoredMessage) -> Row:
    """Values of MESSAGE_COLUMNS."""
    values = asdict(message)
    values["attachments"] = json.dumps(values["attachments"], ensure_ascii=False)
    values["figures"] = figures_text(message.figures)
    return [storable(value) if isinstance(value, str) else value for value in values.values()]


def figures_text(figures: Figures | None) -> str | None:
    """Figures as a row holds them."""
    return None if figures is None else json.dumps(asdict(figures))


def storable(text: str) -> str:
    """The text with "?" for unpaired surrogates, which browsers can send and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _figures_adapter() -> TypeAdapter[Figures]:
    return TypeAdapter(Figures)
