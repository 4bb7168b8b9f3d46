"""How an output is to be: everything a caller may choose for one answer."""

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
"""The most urgent first. Idle prompts are prefilled while there is nothing else to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What the engine must know of one output.

    sampling: temperature, top_p and the others, penalties and biases.
    max_tokens: most tokens of output, reasoning included; None or more than the window holds means
        what it holds.
    thinking_budget: most tokens of reasoning, which is then closed by force; None: no budget.
    answer_reserve: tokens of the window kept for the answer: reasoning is closed when only they
        are left. At most half of what the window holds after the prompt.
    stop_repetition: end the reasoning, or else the output, when it only repeats itself.
    stop: strings that end the answer and are no part of it; in reasoning they mean nothing.
    min_tokens: of output, reasoning included, before the end token or a stop string ends it.
    ignore_eos: the end token is a token like any other, and gives no text.
    logprobs: have the log-probability of every drawn token, with so many alternatives (0 to 20);
        None: have none.
    guidance: a grammar that the answer follows (guidance.py); the reasoning before it stays free.
    priority: who goes first. An idle request draws nothing: its prompt's KV is stored.
    timeout: seconds from submission after which it ends, waiting included.
    kv_precision: how its keys and values are stored (kv_cache.kv_precision); None: as the model
        was opened.
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
                "ask for no more than max_tokens allows.",
                field="min_tokens",
            )
        if self.ignore_eos and self.guidance is not None:
            raise RequestError(
                "ignore_eos goes on where a grammar ends: ask for one of the two.",
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
    tools: what the model may call. Calls are held to them, and strict ones to their parameters.
    tool_choice: whether it may, must or may not call one, or which one it must call.
    parallel_tool_calls: whether it may call several in one answer.
    """

    reasoning: Reasoning = "auto"
    history: History = "drop"
    system: SystemPolicy = "compose"
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoiceEnum.auto
    parallel_tool_calls: bool = True

    @property
    def grammar(self) -> Guidance | None:
        """What the answer is held to: the guidance, the tools, or both.

        Raises RequestError for tools beside a grammar that is no JSON schema.
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
