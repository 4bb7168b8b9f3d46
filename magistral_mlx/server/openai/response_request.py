"""The body of POST /v1/responses, and the engine's options that it means."""

from typing import Annotated, Literal

from pydantic import Field

from magistral_mlx.errors import RequestError
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.log_probabilities import MAX_LOGPROBS
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.server.fields.sampling_fields import Effort, budget, given, reasoning_mode
from magistral_mlx.server.fields.strict_model import Entries, Items, No, StrictModel
from magistral_mlx.server.fields.tool_fields import FlatChoice, FunctionFields, tool_choice
from magistral_mlx.server.openai.chat_request import FlatSchema, PlainFormat, answer_schema
from magistral_mlx.server.openai.response_items import InputItem
from magistral_mlx.spec import TEMPERATURE, TOP_P

LOGPROBS = "message.output_text.logprobs"


class FlatTool(FunctionFields):
    """A function that the model may call."""

    type: Literal["function"]


class TextFields(StrictModel):
    """The form of the answer."""

    format: Annotated[PlainFormat | FlatSchema, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningFields(StrictModel):
    """How long to think. There is no summary: the response has the reasoning itself."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None


class ResponseRequest(StrictModel):
    """OpenAI's fields; user and safety_identifier are written to the log."""

    model: str
    input: str | Annotated[Items[InputItem], Field(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    include: Items[Literal["message.output_text.logprobs"]] | None = None
    reasoning: ReasoningFields | None = None
    text: TextFields | None = None
    tools: Annotated[Items[FlatTool], Field(max_length=512)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    metadata: Annotated[Entries[str], Field(max_length=16)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    # Only the values that change nothing are accepted.
    background: No | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: str | None = None

    def generation_options(self) -> GenerationOptions:
        """All fields but the input. Raises RequestError for values out of range."""
        effort = self.reasoning.effort if self.reasoning else None
        if self.top_logprobs is not None and LOGPROBS not in (self.include or ()):
            raise RequestError(f'top_logprobs needs "{LOGPROBS}" in include.', field="top_logprobs")
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=given(self.temperature, TEMPERATURE),
                top_p=given(self.top_p, TOP_P),
            ),
            max_tokens=self.max_output_tokens,
            thinking_budget=budget(effort),
            reasoning=reasoning_mode(effort),
            logprobs=(self.top_logprobs or 0) if self.include else None,
            guidance=answer_schema(self.text.format) if self.text else None,
            tools=tuple(tool.tool() for tool in self.tools or ()),
            tool_choice=tool_choice(self.tool_choice),
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )
