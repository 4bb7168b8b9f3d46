"""Messages of a chat as OpenAI's clients send them."""

from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.server.fields.strict_model import StrictModel
from magistral_mlx.text.conversation import Message, ToolCall

PARAGRAPH = "\n\n"
"""Between the text parts of one message."""


class TextPart(StrictModel):
    """A part of a message. Magistral Small reads text only."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class SystemFields(StrictModel):
    """Instructions; "developer" is OpenAI's newer name for them."""

    role: Literal["system", "developer"]
    content: Content

    def message(self) -> Message:
        """As the engine takes it."""
        return Message("system", joined(self.content))


class UserFields(StrictModel):
    """What the user says."""

    role: Literal["user"]
    content: Content

    def message(self) -> Message:
        """As the engine takes it."""
        return Message("user", joined(self.content))


class CalledFunction(StrictModel):
    """A call's name and arguments, which are JSON text."""

    name: str
    arguments: str


class CalledTool(StrictModel):
    """A call that the assistant has made; `index` is left over by clients that join streams."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class AssistantFields(StrictModel):
    """An earlier answer. Fields that OpenAI's client sends back empty may be empty only.

    Its reasoning comes back under either name, or as a "<think>" block in the content.
    """

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CalledTool] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[None], Field(max_length=0)] | None = None

    def message(self) -> Message:
        """As the engine takes it."""
        calls = [
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in self.tool_calls or ()
        ]
        reasoning = self.reasoning if self.reasoning_content is None else self.reasoning_content
        return Message("assistant", joined(self.content or ""), reasoning, tuple(calls))


class ToolResultFields(StrictModel):
    """What a tool has returned; its name is known from the call."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None

    def message(self) -> Message:
        """As the engine takes it."""
        return Message("tool", joined(self.content), tool_call_id=self.tool_call_id)


ChatMessageFields = Annotated[
    SystemFields | UserFields | AssistantFields | ToolResultFields, Field(discriminator="role")
]


def joined(content: Content) -> str:
    """Text parts are paragraphs of one text."""
    if isinstance(content, str):
        return content
    return PARAGRAPH.join(part.text for part in content)
