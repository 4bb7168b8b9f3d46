"""Messages of a chat, as OpenAI's clients send them."""

from collections.abc import Iterable
from typing import Annotated, Literal, Protocol

from pydantic import Field

from magistral_mlx.server.fields.strict_model import Empty, Items, StrictModel
from magistral_mlx.text.conversation import Message, ToolCall

PARAGRAPH = "\n\n"
"""Between the text parts of one message."""


class TextPart(StrictModel):
    """Part of a message. Magistral Small reads text only."""

    type: Literal["text"]
    text: str


Content = str | Items[TextPart]


class PlainFields(StrictModel):
    """A message of the user, or instructions; "developer" is OpenAI's newer name for them."""

    role: Literal["system", "developer", "user"]
    content: Content

    def message(self) -> Message:
        return Message("user" if self.role == "user" else "system", joined(self.content))


class CalledFunction(StrictModel):
    """The name and the arguments of a call; the arguments are JSON text."""

    name: str
    arguments: str


class CalledTool(StrictModel):
    """A call by the assistant. Clients that join a stream leave `index` in it."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class AssistantFields(StrictModel):
    """An earlier answer, with the empty fields that OpenAI's client sends back.

    The reasoning is under either of two names, or a "<think>" block in the content.
    """

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Items[CalledTool] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Empty | None = None

    def message(self) -> Message:
        calls = [
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in self.tool_calls or ()
        ]
        reasoning = self.reasoning if self.reasoning_content is None else self.reasoning_content
        return Message("assistant", joined(self.content or ""), reasoning, tuple(calls))


class ToolResultFields(StrictModel):
    """The result of a tool call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None

    def message(self) -> Message:
        return Message("tool", joined(self.content), tool_call_id=self.tool_call_id)


ChatMessageFields = Annotated[
    PlainFields | AssistantFields | ToolResultFields, Field(discriminator="role")
]


class HasText(Protocol):
    """Part of a message, in any API."""

    @property
    def text(self) -> str: ...


def joined(content: str | Iterable[HasText]) -> str:
    """The text of a message; its parts become paragraphs."""
    return content if isinstance(content, str) else PARAGRAPH.join(part.text for part in content)
