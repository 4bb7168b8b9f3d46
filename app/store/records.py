"""What the page keeps: conversations, their messages, and the figures shown beside them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal, TypeGuard

from magistral_mlx.app.files.attachments import Attachment
from magistral_mlx.events import FinishReason

MessageRole = Literal["user", "assistant"]
Ending = FinishReason | Literal["failed"]


@dataclass(frozen=True, slots=True)
class Figures:
    """How an answer went: tokens, and seconds. None where nothing was measured."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    seconds_to_first_token: float | None = None
    reasoning_seconds: float | None = None
    total_seconds: float | None = None
    tokens_per_second: float | None = None
    thinking_budget: int | None = None
    reasoning_closed_by_force: bool = False
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Plain values for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "Figures":
        """Read what `to_json` wrote, by this version or another; wrong values are left out."""
        names = [field.name for field in fields(cls) if field.name in data]
        read: dict[str, Any] = {name: data[name] for name in names if _fits(name, data[name])}
        return cls(**read)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A node of a conversation's tree.

    content: what the user typed, or the answer; the attachments' texts are not in it.
    group: the same for all chains of one run of parallel thinking; else None.
    ending: why the answer ended; None while it is written, or when that was interrupted by a
        crash. Always "stop" for a user's message.
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


def _fits(name: str, value: object) -> bool:
    """Whether a figure may have this value: no file from elsewhere is to upset the page."""
    if name == "error":
        return value is None or isinstance(value, str)
    if name == "reasoning_closed_by_force":
        return isinstance(value, bool)
    if value is None:
        return getattr(Figures(), name) is None
    if name.endswith(("seconds", "token", "second")):
        return is_real(value) and value >= 0
    return is_whole(value) and value >= 0


def is_real(value: object) -> TypeGuard[float]:
    """A finite number, and not True or False."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number that SQLite can hold, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
