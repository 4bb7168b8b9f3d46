"""What a caller asks of the engine, in token ids."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from magistral_mlx.errors import RequestError
from magistral_mlx.guidance import Guidance
from magistral_mlx.reasoning import OutputState
from magistral_mlx.sampling import SamplingParams

ANSWER_RESERVE = 2_048
MAX_LOGPROBS = 20
"""OpenAI's limit of top_logprobs."""

Priority = Literal["interactive", "batch", "idle"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""The most urgent first. Idle prompts are prefilled while there is nothing else to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how to go on from it.

    prompt: ids; state: where the output begins, as `build_prompt` says.
    max_tokens: most tokens of output; None or more than the window holds means what it holds.
    thinking_budget: most tokens of reasoning; None means as many as the window holds.
    answer_reserve: tokens of the window kept for the answer: reasoning is closed when only they
        are left. At most half of what the window holds after the prompt.
    stop_repetition: end the reasoning, or else the output, when it only repeats itself.
    stop: strings that end the answer and are no part of it; in reasoning they mean nothing.
    min_tokens: of output, reasoning included, before the end token or a stop string ends it.
    ignore_eos: the end token is a token like any other, and gives no text.
    logprobs: have every drawn token's log-probability, with so many alternatives; None: have none.
    guidance: a grammar that the answer follows; the reasoning before it stays free.
    tool_calls: tell them apart from the answer; otherwise they are text of it.
    priority: who goes first. An idle request draws nothing: its prompt's KV is stored.
    timeout: seconds from submission after which it ends, waiting included.
    """

    prompt: tuple[int, ...]
    state: OutputState = "auto"
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
    tool_calls: bool = True
    priority: Priority = "interactive"
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise RequestError("The prompt is empty: give at least one token.")
        for name, value, least in (
            ("max_tokens", self.max_tokens, 1),
            ("thinking_budget", self.thinking_budget, 0),
            ("answer_reserve", self.answer_reserve, 0),
            ("timeout", self.timeout, 0),
            ("min_tokens", self.min_tokens, 0),
            ("logprobs", self.logprobs, 0),
        ):
            if value is not None and value < least:
                raise RequestError(f"{name} is {value}; it must be at least {least}.")
        _check_stop(self.stop)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens is {self.min_tokens} and max_tokens {self.max_tokens}: "
                "ask for no more than max_tokens allows."
            )
        if self.ignore_eos and self.guidance is not None:
            raise RequestError("ignore_eos goes on where a grammar ends: ask for one of the two.")
        if self.logprobs is not None and self.logprobs > MAX_LOGPROBS:
            raise RequestError(f"logprobs is {self.logprobs}; it must be at most {MAX_LOGPROBS}.")


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one sequence's output and reasoning end, in tokens of the whole sequence."""

    end: int
    reasoning_end: int


def limits(request: Request, *, window: int) -> Limits:
    """The limits of a request in a window.

    Raises RequestError when the prompt leaves no room for a single token.
    """
    prompt = len(request.prompt)
    room = window - prompt
    if room < 1:
        raise RequestError(
            f"The prompt has {prompt:,} tokens and the window holds {window:,}, prompt and output "
            "together: shorten the conversation or raise --max-context."
        )
    asked = room if request.max_tokens is None else min(request.max_tokens, room)
    if request.priority == "idle":
        asked = 0
    reserve = min(request.answer_reserve, room // 2)
    return Limits(end=prompt + asked, reasoning_end=window - reserve)


def _check_stop(stop: Iterable[str]) -> None:
    if isinstance(stop, str):
        raise RequestError(f"stop is {stop!r}; it must be a tuple of strings.")
    for string in stop:
        if not isinstance(string, str) or not string:
            raise RequestError(f"stop holds {string!r}; it must hold strings, none empty.")
