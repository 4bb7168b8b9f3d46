"""Messages as Anthropic's clients send them: blocks of text, thinking, tool use and results."""

import json
from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.server.fields.chat_messages import PARAGRAPH, joined
from magistral_mlx.server.fields.strict_model import Empty, Items, StrictModel
from magistral_mlx.text.conversation import Message, ToolCall


class CacheControl(StrictModel):
    """Where a client wants the prompt cached. Here every prompt is cached anyway."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class CacheableBlock(StrictModel):
    """A block that a client may mark for caching."""

    cache_control: CacheControl | None = None


class TextBlock(CacheableBlock):
    """Text."""

    type: Literal["text"]
    text: str
    citations: Empty | None = None


class ThinkingBlock(StrictModel):
    """Earlier reasoning. Anthropic verifies the signature; here any is accepted."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class ToolUseBlock(CacheableBlock):
    """A call by the assistant."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, object]
    caller: None = None
    toolset_name: None = None


class ToolResultBlock(CacheableBlock):
    """The result of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Items[TextBlock] | None = None
    is_error: bool | None = None


UserBlock = Annotated[TextBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[TextBlock | ThinkingBlock | ToolUseBlock, Field(discriminator="type")]


class UserTurn(StrictModel):
    """Text of the user, and results of tool calls."""

    role: Literal["user"]
    content: str | Items[UserBlock]

    def messages(self) -> list[Message]:
        """For the engine, results first: they belong to the calls before this turn."""
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
    """An earlier answer; the last message of a conversation is continued."""

    role: Literal["assistant"]
    content: str | Items[AssistantBlock]

    def messages(self) -> list[Message]:
        """For the engine."""
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
    content: str | Items[TextBlock]

    def messages(self) -> list[Message]:
        """For the engine."""
        return [Message("system", joined(self.content))]


Turn = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


def _result(block: ToolResultBlock) -> str:
    text = joined(block.content or "")
    return f"Error: {text}" if block.is_error else text
