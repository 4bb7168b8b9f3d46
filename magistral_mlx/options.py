"""The options of one answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from mistral_common.protocol.instruct.tool_calls import Tool, ToolChoice, ToolChoiceEnum

from magistral_mlx.errors import RequestError
from magistral_mlx.kv.cache import KVPrecision
from magistral_mlx.sampling.log_probabilities import MAX_LOGPROBS
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.conversation import History, Reasoning, SystemPolicy
from magistral_mlx.text.guidance import Guidance, JsonSchema, ToolCalls

ANSWER_RESERVE = 2_048

Priority = Literal["interactive", "batch", "idle"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""The most urgent first. Idle prompts are prefilled while no request is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """The options that the engine needs.

    sampling: temperature, top_p, penalties, biases and the like.
    max_tokens: most tokens of output, reasoning included; limited to what the window holds, which
        is also the default.
    thinking_budget: most tokens of reasoning, which is then closed by force; None: no budget.
    answer_reserve: tokens of the window kept for the answer: reasoning is closed when only they
        are left. At most half of what the window holds after the prompt.
    stop_repetition: close the reasoning, or end the answer, if it only repeats itself.
    stop: strings that end the answer and are not part of it; they do not count in reasoning.
    min_tokens: tokens of output, reasoning included, before the end token or a stop string ends it.
    ignore_eos: treat the end token like any other token; it has no text.
    logprobs: number of alternatives (0 to 20) to give with the log-probability of every drawn
        token; None: no log-probabilities.
    guidance: what the answer must follow (text.guidance); the reasoning before it stays free.
    priority: who goes first. An idle request draws nothing; only its KV is computed and kept.
    timeout: seconds from submission after which the output ends, waiting included.
    kv_precision: how its KV is stored (kv.cache.kv_precision); None: as the model was opened.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    thinking_budget: int | None = None
    answer_reserve: int = ANSWER_RESERVE
    stop_repetition: bool = True
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    guidance: Guidance | None = None
    priority: Priority = "interactive"
    timeout: float | None = None
    kv_precision: KVPrecision | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("max_tokens", self.max_tokens, 1),
            ("thinking_budget", self.thinking_budget, 0),
            ("answer_reserve", self.answer_reserve, 0),
            ("timeout", self.timeout, 0),
            ("min_tokens", self.min_tokens, 0),
            ("logprobs", self.logprobs, 0),
        ):
            if value is not None and value < least:
                raise RequestError(f"{name} is {value}; it must be at least {least}.", field=name)
        _check_stop(self.stop)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}: "
                "lower min_tokens or raise max_tokens.",
                field="min_tokens",
            )
        if self.ignore_eos and self.guidance is not None:
            raise RequestError(
                "ignore_eos continues where a grammar ends: choose one of the two.",
                field="ignore_eos",
            )
        if self.logprobs is not None and self.logprobs > MAX_LOGPROBS:
            raise RequestError(
                f"logprobs is {self.logprobs}; it must be at most {MAX_LOGPROBS}.",
                field="logprobs",
            )
        if self.priority not in PRIORITIES:
            raise RequestError(
                f"priority is {self.priority!r}; it must be one of {', '.join(PRIORITIES)}.",
                field="priority",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions(OutputOptions):
    """Options of one answer; the defaults are the model card's.

    reasoning, history, system: see `magistral_mlx.text.conversation.build_prompt`.
    tools: tools that the model may call. Every call is of one of them, and calls of strict tools
        fit their parameters.
    tool_choice: whether the model may, must or must not call a tool, or which tool it must call.
    parallel_tool_calls: whether it may call several tools in one answer.
    """

    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: SystemPolicy = "compose"
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoiceEnum.auto
    parallel_tool_calls: bool = True

    @property
    def grammar(self) -> Guidance | None:
        """What the answer must follow: the guidance, the tools, or both.

        Raises RequestError for tools together with a grammar that is not a JSON schema.
        """
        if not self.tools:
            if self.tool_choice not in (ToolChoiceEnum.auto, ToolChoiceEnum.none):
                raise RequestError(
                    "tool_choice asks for a call, but there are no tools: give some.",
                    field="tool_choice",
                )
            return self.guidance
        if self.guidance is None or isinstance(self.guidance, JsonSchema):
            return ToolCalls(
                self.tools, self.tool_choice, self.parallel_tool_calls, answer=self.guidance
            )
        raise RequestError("Tools and a grammar for the answer cannot be combined: give one.")


def _check_stop(stop: Iterable[str]) -> None:
    if isinstance(stop, str):
        raise RequestError(f"stop is {stop!r}; it must be a tuple of strings.", field="stop")
    for string in stop:
        if not isinstance(string, str) or not string:
            raise RequestError(
                f"stop holds {string!r}; it must hold strings, none empty.", field="stop"
            )
