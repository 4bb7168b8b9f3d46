"""The bodies of POST /v1/messages and /v1/messages/count_tokens."""

from dataclasses import replace
from typing import Annotated, Literal

from mistral_common.protocol.instruct.tool_calls import Tool, ToolChoice, ToolChoiceEnum
from pydantic import Field

from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.anthropic.message_blocks import CacheControl, TextBlock, Turn
from magistral_mlx.server.fields.chat_messages import joined
from magistral_mlx.server.fields.sampling_fields import NonEmpty, budget, given
from magistral_mlx.server.fields.strict_model import Items, StrictModel
from magistral_mlx.server.fields.tool_fields import ToolName, make_tool, named_choice
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.text.conversation import Message
from magistral_mlx.text.guidance import JsonSchema

Display = Literal["summarized", "omitted"]


class ThinkingEnabled(StrictModel):
    """Think for at most budget_tokens."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=1)
    display: Display | None = None


class ThinkingAdaptive(StrictModel):
    """Think without a budget."""

    type: Literal["adaptive"]
    display: Display | None = None


class ThinkingDisabled(StrictModel):
    """Answer at once. This is the default."""

    type: Literal["disabled"]


Thinking = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled, Field(discriminator="type")
]


class ClientTool(StrictModel):
    """A tool that the client runs. Anthropic's server tools are not supported."""

    name: ToolName
    input_schema: dict[str, object]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    """No effect: inputs always stream at once."""

    def tool(self) -> Tool:
        """As mistral-common represents it."""
        return make_tool(self.name, self.description, self.input_schema, strict=bool(self.strict))


class FreeChoice(StrictModel):
    """Whether to call a tool, without naming it."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class NamedToolChoice(StrictModel):
    """The tool to call."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


Choice = Annotated[FreeChoice | NamedToolChoice, Field(discriminator="type")]


class SchemaOutput(StrictModel):
    """A schema that the answer must fit."""

    type: Literal["json_schema"]
    schema_: dict[str, object] = Field(alias="schema")


class OutputConfig(StrictModel):
    """How long to think, and the form of the answer."""

    effort: Literal["low", "medium", "high"] | None = None
    format: SchemaOutput | None = None


class Metadata(StrictModel):
    """user_id is written to the log."""

    user_id: str | None = None


class CountRequest(StrictModel):
    """The fields that the prompt depends on."""

    model: str
    messages: Items[Turn] = Field(min_length=1)
    system: str | Items[TextBlock] | None = None
    thinking: Thinking | None = None
    tools: Annotated[Items[ClientTool], Field(max_length=512)] | None = None
    tool_choice: Choice | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None

    def conversation(self) -> list[Message]:
        """The system prompt and the messages for the engine."""
        system = [] if not self.system else [Message("system", joined(self.system))]
        return [*system, *(message for turn in self.messages for message in turn.messages())]

    @property
    def display(self) -> Display:
        """Whether the reply contains the thinking."""
        if isinstance(self.thinking, ThinkingEnabled | ThinkingAdaptive):
            return self.thinking.display or "summarized"
        return "summarized"

    def prompt_options(self) -> GenerationOptions:
        """Options that the prompt depends on."""
        # As with Anthropic, the default is not to think.
        thinks = self.thinking is not None and self.thinking.type != "disabled"
        return GenerationOptions(
            reasoning="auto" if thinks else "off",
            tools=tuple(tool.tool() for tool in self.tools or ()),
            tool_choice=_tool_choice(self.tool_choice),
        )


class MessageRequest(CountRequest):
    """Anthropic's fields."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    stop_sequences: Annotated[Items[NonEmpty], Field(max_length=16)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, ge=0)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def generation_options(self) -> GenerationOptions:
        """Everything but the messages. Raises RequestError for values out of range."""
        config = self.output_config or OutputConfig()
        return replace(
            self.prompt_options(),
            sampling=SamplingParams(
                temperature=given(self.temperature, TEMPERATURE),
                top_p=given(self.top_p, TOP_P),
                top_k=self.top_k or 0,
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self.thinking.budget_tokens
            if isinstance(self.thinking, ThinkingEnabled)
            else budget(config.effort),
            stop=tuple(self.stop_sequences or ()),
            guidance=None if config.format is None else JsonSchema(config.format.schema_),
            parallel_tool_calls=not (
                self.tool_choice and self.tool_choice.disable_parallel_tool_use
            ),
        )


def _tool_choice(choice: Choice | None) -> ToolChoice:
    if isinstance(choice, NamedToolChoice):
        return named_choice(choice.name)
    kinds = {"auto": "auto", "any": "required", "none": "none"}
    return ToolChoiceEnum(kinds[choice.type] if choice else "auto")
