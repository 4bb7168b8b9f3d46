"""Messages as Anthropic's clients send them: blocks of text, thinking, tool use and results."""

import json
from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.server.fields.chat_messages import PARAGRAPH
from magistral_mlx.server.fields.strict_model import StrictModel
from magistral_mlx.text.conversation import Message, ToolCall


class CacheControl(StrictModel):
    """Where a client would have prompts cached; here all of them are, by themselves."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Block(StrictModel):
    """What every block may have."""

    cache_control: CacheControl | None = None


class TextBlock(Block):
    """A piece of text."""

    type: Literal["text"]
    text: str
    citations: Annotated[list[None], Field(max_length=0)] | None = None


class ThinkingBlock(StrictModel):
    """Earlier reasoning. The signature is Anthropic's way to know its own; any is taken."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class ToolUseBlock(Block):
    """A call that the assistant has made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, object]
    caller: None = None
    toolset_name: None = None


class ToolResultBlock(Block):
    """What a tool has returned."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None


UserBlock = Annotated[TextBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[TextBlock | ThinkingBlock | ToolUseBlock, Field(discriminator="type")]


class UserTurn(StrictModel):
    """What the user says, and what the tools have returned."""

    role: Literal["user"]
    content: str | list[UserBlock]

    def messages(self) -> list[Message]:
        """The results first: they belong to the calls before them."""
        if isinstance(self.content, str):
            return [Message("user", self.content)]
        results = [
            Message("tool", _result(block), tool_call_id=block.tool_use_id)
            for block in self.content
            if isinstance(block, ToolResultBlock)
        ]
        texts = [block.text for block in self.content if isinstance(block, TextBlock)]
        return [*results, *([Message("user", PARAGRAPH.join(texts))] if texts else [])]


class AssistantTurn(StrictModel):
    """An earlier answer; as the last message it is a beginning that is continued."""

    role: Literal["assistant"]
    content: str | list[AssistantBlock]

    def messages(self) -> list[Message]:
        """As the engine takes it."""
        if isinstance(self.content, str):
            return [Message("assistant", self.content)]
        thoughts = [b.thinking for b in self.content if isinstance(b, ThinkingBlock)]
        texts = [block.text for block in self.content if isinstance(block, TextBlock)]
        calls = [
            ToolCall(block.id, block.name, json.dumps(block.input, ensure_ascii=False))
            for block in self.content
            if isinstance(block, ToolUseBlock)
        ]
        reasoning = PARAGRAPH.join(thoughts) or None
        return [Message("assistant", PARAGRAPH.join(texts), reasoning, tuple(calls))]


class SystemTurn(StrictModel):
    """Instructions in the middle of a conversation."""

    role: Literal["system"]
    content: str | list[TextBlock]

    def messages(self) -> list[Message]:
        """As the engine takes it."""
        return [Message("system", text_of(self.content))]


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


def text_of(content: str | list[TextBlock]) -> str:
    """Text blocks are paragraphs of one text."""
    if isinstance(content, str):
        return content
    return PARAGRAPH.join(block.text for block in content)


def _result(block: ToolResultBlock) -> str:
    text = text_of(block.content or "")
    return f"Error: {text}" if block.is_error else text
