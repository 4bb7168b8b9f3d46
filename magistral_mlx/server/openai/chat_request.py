"""The body of POST /v1/chat/completions, and the engine's options that it means."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.log_probabilities import MAX_LOGPROBS
from magistral_mlx.server.fields.chat_messages import ChatMessageFields
from magistral_mlx.server.fields.sampling_fields import (
    Effort,
    SamplingFields,
    budget,
    reasoning_mode,
)
from magistral_mlx.server.fields.strict_model import Items, No, StrictModel
from magistral_mlx.server.fields.tool_fields import OptionalTools, ToolChoiceField, tool_choice
from magistral_mlx.text.conversation import History, Message, SystemPolicy
from magistral_mlx.text.guidance import JsonSchema


class StreamOptions(StrictModel):
    """include_usage: a last chunk with the token counts. Obfuscation is not supported."""

    include_usage: bool | None = None
    include_obfuscation: No | None = None


class StreamingFields(SamplingFields):
    """Fields of routes that answer whole or as a stream."""

    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def streams_usage(self) -> bool:
        """Whether the stream ends with the token counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def options(self) -> GenerationOptions:
        """Options as these fields say. Raises RequestError for values out of range."""
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options is for streams: set stream to true.", field="stream_options"
            )
        return super().options()


class SchemaFields(StrictModel):
    """A schema for the answer; it is always strict."""

    name: str
    description: str | None = None
    schema_: dict[str, object] | bool | None = Field(None, alias="schema")
    strict: bool | None = None


class SchemaFormat(StrictModel):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaFields


class FlatSchema(SchemaFields):
    """The same without nesting, as in /v1/responses."""

    type: Literal["json_schema"]
    schema_: dict[str, object] = Field(alias="schema")


class PlainFormat(StrictModel):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]


ResponseFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(StreamingFields):
    """OpenAI's fields, their equivalents in vLLM and llama.cpp, and four of our own.

    thinking_budget: maximum number of reasoning tokens; reasoning_effort sets it by a word.
    reasoning_format: "raw" leaves the reasoning in the content, between "<think>" tags.
    reasoning_history: whether earlier answers keep their reasoning in the prompt.
    system_prompt: whether system messages are added to the model card's prompt or replace it.
    user, safety_identifier: written to the log.
    """

    model: str
    messages: Items[ChatMessageFields] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    tools: OptionalTools = None
    tool_choice: ToolChoiceField | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    thinking_budget: int | None = Field(None, ge=0)
    reasoning_format: Literal["split", "raw"] = "split"
    reasoning_history: History = "drop"
    system_prompt: SystemPolicy = "compose"
    user: str | None = None
    safety_identifier: str | None = None
    # Only the values that change nothing are accepted.
    store: No | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: Items[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None

    @property
    def is_raw(self) -> bool:
        """Whether the reasoning is part of the content, between tags."""
        return self.reasoning_format == "raw"

    def conversation(self) -> list[Message]:
        """The messages for the engine."""
        return [fields.message() for fields in self.messages]

    def generation_options(self) -> GenerationOptions:
        """All other fields. Raises RequestError for values that exclude each other."""
        self._check()
        return replace(
            self.options(),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            thinking_budget=budget(self.reasoning_effort)
            if self.thinking_budget is None
            else self.thinking_budget,
            reasoning=reasoning_mode(self.reasoning_effort),
            history=self.reasoning_history,
            system=self.system_prompt,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            guidance=answer_schema(self.response_format),
            tools=tuple(tool.function.tool() for tool in self.tools or ()),
            tool_choice=tool_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )

    def _check(self) -> None:
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            raise RequestError(
                f"max_tokens is {both[0]} and max_completion_tokens {both[1]}: give one of them.",
                field="max_tokens",
            )
        if self.thinking_budget is not None and self.reasoning_effort is not None:
            raise RequestError(
                "thinking_budget and reasoning_effort both limit the reasoning: give one.",
                field="thinking_budget",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError(
                f"top_logprobs is {self.top_logprobs} without logprobs: set logprobs to true.",
                field="top_logprobs",
            )


def answer_schema(
    response_format: PlainFormat | SchemaFormat | FlatSchema | None,
) -> JsonSchema | None:
    """The schema that the answer must fit."""
    match response_format:
        case SchemaFormat(json_schema=SchemaFields(schema_=schema)):
            return JsonSchema({"type": "object"} if schema is None else schema)
        case FlatSchema(schema_=schema):
            return JsonSchema(schema)
        case PlainFormat(type="json_object"):
            return JsonSchema({"type": "object"})
    return None
