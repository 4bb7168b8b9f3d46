"""What a running request tells its caller, in order; the last one is always Finished or Failed."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "repetition", "cancelled", "timeout"]


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """Prompt tokens whose KV exists so far, of all prompt tokens; `cached` were there before."""

    done: int
    total: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, the natural logarithm of its probability, and the most likely ones in its place.

    text: its bytes, perhaps a part of a character; none for a control token.
    logprob: by the model itself: before penalties, bias, grammar and temperature.
    top: the most likely tokens, falling, as many as were asked for; theirs is empty.
    """

    id: int
    text: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """A piece of reasoning; `logprobs` of the tokens it comes of, where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the answer; `logprobs` of the tokens it comes of, where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallBegin:
    """The model calls a tool; `index` counts the calls of this output, also those that fail."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """A piece of a call's arguments, which are JSON text."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """A call has ended. If it is not complete it was none: AnswerText with all of it follows."""

    index: int
    complete: bool


ToolCallEvent = ToolCallBegin | ToolCallArguments | ToolCallEnd


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request; cached_tokens are those of the prompt not prefilled again."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, tokens a second, and bytes. None where nothing was measured."""

    seconds_to_first_token: float | None
    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None
    total_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end. stop_string: the one that ended the answer, where one did ("stop")."""

    reason: FinishReason
    usage: Usage
    timings: Timings
    reasoning_closed_by_force: bool
    stop_string: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ended with an error; no more events follow."""

    message: str


Event = PrefillProgress | ReasoningText | AnswerText | ToolCallEvent | Finished | Failed
