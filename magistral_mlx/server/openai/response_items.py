"""The input of POST /v1/responses: text, or items as earlier responses had them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from magistral_mlx.server.fields.chat_messages import PARAGRAPH, joined
from magistral_mlx.server.fields.strict_model import Empty, Items, No, StrictModel
from magistral_mlx.text.conversation import Message, ToolCall

Status = Literal["in_progress", "completed", "incomplete"] | None


class InputPart(StrictModel):
    """Text of the user or the system. Magistral Small reads text only."""

    type: Literal["input_text"]
    text: str


class OutputPart(StrictModel):
    """Text of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Empty | None = None
    logprobs: Items[dict[str, object]] | None = None


class ReasoningPart(StrictModel):
    """Earlier reasoning."""

    type: Literal["reasoning_text"]
    text: str


Part = Annotated[InputPart | OutputPart, Field(discriminator="type")]


class MessageItem(StrictModel):
    """A message in any role."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Items[Part]
    id: str | None = None
    status: Status = None
    phase: Literal["commentary", "final_answer"] | None = None


class ReasoningItem(StrictModel):
    """The reasoning before an answer."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Empty | None = None
    content: Items[ReasoningPart] | None = None
    encrypted_content: None = None
    status: Status = None


class CallItem(StrictModel):
    """A call by the assistant."""

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
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Items[InputPart]
    id: str | None = None
    status: Status = None


Item = MessageItem | ReasoningItem | CallItem | CallOutputItem


def _kind(item: object) -> str | None:
    """The type of an item; a message may come without one."""
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
    """Messages for the engine: the reasoning, text and calls of one answer become one message."""
    if isinstance(items, str):
        return [Message("user", items)]
    turns: list[list[Message]] = []
    for item in items:
        message = _message(item)
        # Reasoning begins another answer.
        follows = message.role == "assistant" and not isinstance(item, ReasoningItem)
        if follows and turns and turns[-1][0].role == "assistant":
            turns[-1].append(message)
        else:
            turns.append([message])
    return [_joined(turn) for turn in turns]


def _message(item: Item) -> Message:
    match item:
        case MessageItem():
            role = "system" if item.role == "developer" else item.role
            return Message(role, joined(item.content))
        case ReasoningItem():
            return Message("assistant", "", joined(item.content or ()))
        case CallItem():
            call = ToolCall(item.call_id, item.name, item.arguments)
            return Message("assistant", "", tool_calls=(call,))
        case CallOutputItem():
            return Message("tool", joined(item.output), tool_call_id=item.call_id)


def _joined(turn: Sequence[Message]) -> Message:
    first = turn[0]
    if len(turn) == 1:
        return first
    text = PARAGRAPH.join(message.content for message in turn if message.content)
    calls = tuple(call for message in turn for call in message.tool_calls)
    return Message("assistant", text, first.reasoning, calls)
