"""The input of POST /v1/responses: text, or items as they came in earlier responses."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from magistral_mlx.server.fields.chat_messages import PARAGRAPH
from magistral_mlx.server.fields.strict_model import No, StrictModel
from magistral_mlx.text.conversation import Message, ToolCall

Status = Literal["in_progress", "completed", "incomplete"] | None


class InputText(StrictModel):
    """A piece of text of the user's or the system's; Magistral Small reads text only."""

    type: Literal["input_text"]
    text: str


class OutputText(StrictModel):
    """A piece of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[None], Field(max_length=0)] | None = None
    logprobs: list[dict[str, object]] | None = None


class ReasoningText(StrictModel):
    """A piece of earlier reasoning."""

    type: Literal["reasoning_text"]
    text: str


Part = Annotated[InputText | OutputText, Field(discriminator="type")]


class MessageItem(StrictModel):
    """A message of anybody's."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    id: str | None = None
    status: Status = None
    phase: Literal["commentary", "final_answer"] | None = None


class ReasoningItem(StrictModel):
    """Earlier reasoning."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Annotated[list[None], Field(max_length=0)] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    status: Status = None


class CallItem(StrictModel):
    """A call that was made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status = None
    caller: None = None
    namespace: None = None
    async_: No | None = Field(None, alias="async")


class CallOutputItem(StrictModel):
    """What it has returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText]
    id: str | None = None
    status: Status = None


Item = MessageItem | ReasoningItem | CallItem | CallOutputItem


def _kind(item: object) -> str | None:
    """Messages may come without a type."""
    named = item.get("type", "message") if isinstance(item, Mapping) else None
    kind = getattr(item, "type", named)
    return kind if isinstance(kind, str) else None


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")],
    Discriminator(_kind),
]


def messages_of(items: str | Sequence[Item]) -> list[Message]:
    """As the engine takes them: reasoning, text and calls of one answer are one message."""
    if isinstance(items, str):
        return [Message("user", items)]
    messages: list[Message] = []
    for item in items:
        message = _message(item)
        before = messages[-1] if messages else None
        if before is not None and before.role == message.role == "assistant" and _joins(item):
            messages[-1] = _joined(before, message)
        else:
            messages.append(message)
    return messages


def _message(item: Item) -> Message:
    match item:
        case MessageItem():
            role = "system" if item.role == "developer" else item.role
            return Message(role, _text(item.content))
        case ReasoningItem():
            return Message(
                "assistant", "", PARAGRAPH.join(part.text for part in item.content or ())
            )
        case CallItem():
            call = ToolCall(item.call_id, item.name, item.arguments)
            return Message("assistant", "", tool_calls=(call,))
        case CallOutputItem():
            return Message("tool", _text(item.output), tool_call_id=item.call_id)


def _joins(item: Item) -> bool:
    """Whether an item belongs to the assistant's message before it; reasoning begins another."""
    return not isinstance(item, ReasoningItem)


def _joined(one: Message, other: Message) -> Message:
    text = PARAGRAPH.join(text for text in (one.content, other.content) if text)
    return Message("assistant", text, one.reasoning, (*one.tool_calls, *other.tool_calls))


def _text(content: str | Sequence[InputText | OutputText]) -> str:
    if isinstance(content, str):
        return content
    return PARAGRAPH.join(part.text for part in content)
