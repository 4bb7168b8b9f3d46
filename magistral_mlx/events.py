"""The events of a request, in order; the last one is always Finished or Failed."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "repetition", "cancelled", "timeout"]


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """Prompt tokens that have KV so far, of `total`; `cached` came from the prefix cache."""

    done: int
    total: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, the natural logarithm of its probability, and its alternatives.

    text: its bytes, perhaps a part of a character; empty for a control token.
    logprob: the model's own, before penalties, bias, grammar and temperature.
    top: the requested number of most likely tokens, in falling order; their own `top` is empty.
    """

    id: int
    text: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningText:
    """A piece of reasoning, with the log-probabilities of its tokens if requested."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the answer, with the log-probabilities of its tokens if requested."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallBegin:
    """A tool call begins; `index` counts the calls of this output, failed ones included."""

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
    """A call has ended. If not complete, it was no call: its text follows as AnswerText."""

    index: int
    complete: bool


ToolCallEvent = ToolCallBegin | ToolCallArguments | ToolCallEnd


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request; cached_tokens of the prompt came from the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, tokens per second, and bytes. None if nothing was measured."""

    seconds_to_first_token: float | None
    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None
    total_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end. stop_string: the stop string that ended the answer, if one did."""

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
