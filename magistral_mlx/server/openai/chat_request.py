"""The body of POST /v1/chat/completions, and what it asks of the engine."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.log_probabilities import MAX_LOGPROBS
from magistral_mlx.server.fields.chat_messages import ChatMessageFields
from magistral_mlx.server.fields.effort import Effort, budget, reasoning_mode
from magistral_mlx.server.fields.sampling_fields import SamplingFields
from magistral_mlx.server.fields.strict_model import No, StrictModel
from magistral_mlx.server.fields.tool_fields import OptionalTools, ToolChoiceField, tool_choice
from magistral_mlx.text.conversation import History, Message, SystemPolicy
from magistral_mlx.text.guidance import JsonSchema


class StreamOptions(StrictModel):
    """include_usage: a last chunk with the token counts. OpenAI's obfuscation is not done."""

    include_usage: bool | None = None
    include_obfuscation: No | None = None


class SchemaFields(StrictModel):
    """A schema that the answer fits; it is always strict."""

    name: str
    description: str | None = None
    schema_: dict[str, object] | bool | None = Field(None, alias="schema")
    strict: bool | None = None


class SchemaFormat(StrictModel):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaFields


class PlainFormat(StrictModel):
    """Text, or any JSON object."""

    type: Literal["text", "json_object"]


ResponseFormat = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class ChatRequest(SamplingFields):
    """OpenAI's fields, those of vLLM and llama.cpp that mean the same, and five of our own.

    thinking_budget: most tokens of reasoning; reasoning_effort says it in words.
    reasoning_format: "raw" leaves the reasoning in the content, between "<think>" tags.
    reasoning_history: whether earlier answers keep their reasoning in the prompt.
    system_prompt: whether system messages go into the model card's prompt, or replace it.
    user, safety_identifier: go into the log.
    """

    model: str
    messages: list[ChatMessageFields] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
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
    # What these ask for is so in any case; anything else is refused.
    store: No | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None
    verbosity: Literal["medium"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None

    def conversation(self) -> list[Message]:
        """The messages as the engine takes them."""
        return [fields.message() for fields in self.messages]

    def generation_options(self) -> GenerationOptions:
        """Everything else. Raises RequestError for what does not go together."""
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
                "thinking_budget and reasoning_effort both say how long to think: give one.",
                field="thinking_budget",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError(
                f"top_logprobs is {self.top_logprobs} without logprobs: set logprobs to true.",
                field="top_logprobs",
            )
        if self.stream_options is not None and not self.stream:
            raise RequestError(
                "stream_options is for streams: set stream to true.", field="stream_options"
            )


def answer_schema(response_format: ResponseFormat | None) -> JsonSchema | None:
    """What the answer is held to."""
    if isinstance(response_format, SchemaFormat):
        schema = response_format.json_schema.schema_
        return JsonSchema({"type": "object"} if schema is None else schema)
    if response_format is not None and response_format.type == "json_object":
        return JsonSchema({"type": "object"})
    return None
