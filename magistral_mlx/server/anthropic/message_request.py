"""The bodies of POST /v1/messages and /v1/messages/count_tokens."""

from typing import Annotated, Literal

from mistral_common.protocol.instruct.tool_calls import Tool, ToolChoice, ToolChoiceEnum
from pydantic import Field

from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.anthropic.message_blocks import CacheControl, TextBlock, Turn, text_of
from magistral_mlx.server.fields.effort import Effort, budget
from magistral_mlx.server.fields.sampling_fields import NonEmpty
from magistral_mlx.server.fields.strict_model import StrictModel
from magistral_mlx.server.fields.tool_fields import ToolName, make_tool, named_choice
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.text.conversation import Message, Reasoning
from magistral_mlx.text.guidance import JsonSchema

Display = Literal["summarized", "omitted"]


class ThinkingEnabled(StrictModel):
    """Think, at most so many tokens."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=1)
    display: Display | None = None


class ThinkingAdaptive(StrictModel):
    """Think as long as it takes."""

    type: Literal["adaptive"]
    display: Display | None = None


class ThinkingDisabled(StrictModel):
    """Answer at once, as when nothing is said."""

    type: Literal["disabled"]


Thinking = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled, Field(discriminator="type")
]


class ClientTool(StrictModel):
    """A tool that the client runs; Anthropic's own, which it runs itself, are not there."""

    name: ToolName
    input_schema: dict[str, object]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    """Inputs always stream as they come."""

    def tool(self) -> Tool:
        """As mistral-common takes it."""
        return make_tool(self.name, self.description, self.input_schema, strict=bool(self.strict))


class FreeChoice(StrictModel):
    """Whether to call a tool."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class NamedToolChoice(StrictModel):
    """The tool to call."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = None


Choice = Annotated[FreeChoice | NamedToolChoice, Field(discriminator="type")]


class SchemaOutput(StrictModel):
    """A schema that the answer fits."""

    type: Literal["json_schema"]
    schema_: dict[str, object] = Field(alias="schema")


class OutputConfig(StrictModel):
    """How long to think, and what the answer is held to."""

    effort: Literal["low", "medium", "high"] | None = None
    format: SchemaOutput | None = None


class Metadata(StrictModel):
    """user_id goes into the log."""

    user_id: str | None = None


class CountRequest(StrictModel):
    """What makes the prompt."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    system: str | list[TextBlock] | None = None
    thinking: Thinking | None = None
    tools: Annotated[list[ClientTool], Field(max_length=512)] | None = None
    tool_choice: Choice | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None

    def conversation(self) -> list[Message]:
        """The system prompt and the messages as the engine takes them."""
        system = [] if not self.system else [Message("system", text_of(self.system))]
        return [*system, *(message for turn in self.messages for message in turn.messages())]

    @property
    def thinks(self) -> bool:
        """As with Anthropic, there is no thinking unless it is asked for."""
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def display(self) -> Display:
        """Whether the thinking is shown."""
        if isinstance(self.thinking, ThinkingEnabled | ThinkingAdaptive):
            return self.thinking.display or "summarized"
        return "summarized"

    def prompt_options(self) -> GenerationOptions:
        """Options that shape the prompt."""
        reasoning: Reasoning = "auto" if self.thinks else "off"
        return GenerationOptions(
            reasoning=reasoning,
            tools=tuple(tool.tool() for tool in self.tools or ()),
            tool_choice=_tool_choice(self.tool_choice),
        )


class MessageRequest(CountRequest):
    """Anthropic's fields; the log gets metadata.user_id."""

    max_tokens: int = Field(ge=1)
    stream: bool = False
    stop_sequences: Annotated[list[NonEmpty], Field(max_length=16)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, ge=0)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None

    def generation_options(self) -> GenerationOptions:
        """Everything but the messages. Raises RequestError for values out of range."""
        prompt = self.prompt_options()
        config = self.output_config or OutputConfig()
        schema = None if config.format is None else JsonSchema(config.format.schema_)
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=TEMPERATURE if self.temperature is None else self.temperature,
                top_p=TOP_P if self.top_p is None else self.top_p,
                top_k=self.top_k or 0,
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self._budget(config.effort),
            stop=tuple(self.stop_sequences or ()),
            reasoning=prompt.reasoning,
            guidance=schema,
            tools=prompt.tools,
            tool_choice=prompt.tool_choice,
            parallel_tool_calls=not (
                self.tool_choice and self.tool_choice.disable_parallel_tool_use
            ),
        )

    def _budget(self, effort: Effort | None) -> int | None:
        if isinstance(self.thinking, ThinkingEnabled):
            return self.thinking.budget_tokens
        return budget(effort)


def _tool_choice(choice: Choice | None) -> ToolChoice:
    if isinstance(choice, NamedToolChoice):
        return named_choice(choice.name)
    kinds = {"auto": "auto", "any": "required", "none": "none"}
    return ToolChoiceEnum(kinds[choice.type] if choice else "auto")
