"""The body of POST /v1/responses, and what it asks of the engine."""

from typing import Annotated, Literal

from mistral_common.protocol.instruct.tool_calls import ToolChoice, ToolChoiceEnum
from pydantic import Field

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.log_probabilities import MAX_LOGPROBS
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.fields.effort import Effort, budget, reasoning_mode
from magistral_mlx.server.fields.strict_model import No, StrictModel
from magistral_mlx.server.fields.tool_fields import ToolName, make_tool, named_choice
from magistral_mlx.server.openai.chat_request import PlainFormat
from magistral_mlx.server.openai.response_items import InputItem
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.text.guidance import JsonSchema

LOGPROBS = "message.output_text.logprobs"


class FlatTool(StrictModel):
    """A function that the model may call."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class FlatChoice(StrictModel):
    """The function that must be called."""

    type: Literal["function"]
    name: str


class FlatSchema(StrictModel):
    """A schema that the answer fits; it is always strict."""

    type: Literal["json_schema"]
    name: str
    schema_: dict[str, object] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFields(StrictModel):
    """What the answer is held to."""

    format: Annotated[PlainFormat | FlatSchema, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningFields(StrictModel):
    """How long to think. The reasoning itself is in the response, so there is no summary of it."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None


class ResponseRequest(StrictModel):
    """OpenAI's fields; user and safety_identifier go into the log."""

    model: str
    input: str | Annotated[list[InputItem], Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    include: list[Literal["message.output_text.logprobs"]] | None = None
    reasoning: ReasoningFields | None = None
    text: TextFields | None = None
    tools: Annotated[list[FlatTool], Field(max_length=512)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    # What these ask for is so in any case; anything else is refused.
    background: No | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: str | None = None

    def generation_options(self) -> GenerationOptions:
        """Everything but the input. Raises RequestError for values out of range."""
        effort = self.reasoning.effort if self.reasoning else None
        if self.top_logprobs is not None and LOGPROBS not in (self.include or ()):
            raise RequestError(f'top_logprobs needs "{LOGPROBS}" in include.', field="top_logprobs")
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=TEMPERATURE if self.temperature is None else self.temperature,
                top_p=TOP_P if self.top_p is None else self.top_p,
            ),
            max_tokens=self.max_output_tokens,
            thinking_budget=budget(effort),
            reasoning=reasoning_mode(effort),
            logprobs=(self.top_logprobs or 0) if self.include else None,
            guidance=self._schema(),
            tools=tuple(
                make_tool(tool.name, tool.description, tool.parameters, strict=bool(tool.strict))
                for tool in self.tools or ()
            ),
            tool_choice=self._choice(),
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )

    def _schema(self) -> JsonSchema | None:
        wanted = self.text.format if self.text else None
        if isinstance(wanted, FlatSchema):
            return JsonSchema(wanted.schema_)
        if wanted is not None and wanted.type == "json_object":
            return JsonSchema({"type": "object"})
        return None

    def _choice(self) -> ToolChoice:
        if isinstance(self.tool_choice, FlatChoice):
            return named_choice(self.tool_choice.name)
        return ToolChoiceEnum(self.tool_choice or "auto")
