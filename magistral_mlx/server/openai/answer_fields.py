"""Parts of answers that OpenAI's routes share: why they ended, counts, times, log-probabilities."""

import time
from collections.abc import Sequence
from secrets import token_hex

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionTokenLogprob
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

from magistral_mlx.api import Magistral
from magistral_mlx.events import Finished, TokenLogprob
from magistral_mlx.reply import Reply
from magistral_mlx.server.answering.model_slot import model_names
from magistral_mlx.server.answering.sending import Fields


def head_fields(model: Magistral, *, prefix: str) -> dict[str, object]:
    """The fields that all bodies of one request begin with. prefix: of the id."""
    return {
        "id": f"{prefix}-{token_hex(12)}",
        "created": int(time.time()),
        "model": model_names(model)[0],
    }


def whole_fields(choices: Sequence[Fields], replies: Sequence[Reply]) -> Fields:
    """The fields of a body with whole answers, after its head."""
    ends = [reply.end for reply in replies]
    return {"choices": choices, "usage": completion_usage(ends), "timings": timings(ends[0])}


def finish_fields(end: Finished, *, called: bool) -> dict[str, object]:
    """finish_reason, and fields of our own where OpenAI has no word.

    An answer stopped for repeating itself is a "stop"; one that ran out of time is a "length".
    finish_detail: "repetition" or "timeout"; stop_reason: the stop string, as vLLM names it.
    """
    reason = "tool_calls" if called else "stop"
    cut_off = end.reason in ("length", "timeout")
    fields: dict[str, object] = {"finish_reason": "length" if cut_off else reason}
    if end.reason in ("repetition", "timeout"):
        fields["finish_detail"] = end.reason
    if end.stop_string is not None:
        fields["stop_reason"] = end.stop_string
    if end.reasoning_closed_by_force:
        fields["reasoning_closed_by_force"] = True
    return fields


def completion_usage(ends: Sequence[Finished]) -> CompletionUsage:
    """The tokens of a request: its prompt once, and the output of all its answers."""
    prompt = ends[0].usage.prompt_tokens
    completion = sum(end.usage.completion_tokens for end in ends)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=ends[0].usage.cached_tokens),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=sum(end.usage.reasoning_tokens for end in ends)
        ),
    )


def timings(end: Finished) -> dict[str, float | None]:
    """The times of one answer, as llama.cpp reports them."""
    prefilled = end.usage.prompt_tokens - end.usage.cached_tokens
    predicted = end.usage.completion_tokens
    prefill = end.timings.prefill_tokens_per_second
    decode = end.timings.decode_tokens_per_second
    return {
        "cache_n": end.usage.cached_tokens,
        "prompt_n": prefilled,
        "prompt_ms": _ms(prefilled, prefill),
        "prompt_per_token_ms": _ms(1, prefill),
        "prompt_per_second": prefill,
        "predicted_n": predicted,
        "predicted_ms": _ms(predicted, decode),
        "predicted_per_token_ms": _ms(1, decode),
        "predicted_per_second": decode,
    }


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> list[ChatCompletionTokenLogprob]:
    """Log-probabilities of a piece of content. A token's bytes may be part of a character."""
    return [
        ChatCompletionTokenLogprob(
            token=token_text(one),
            bytes=list(one.text),
            logprob=one.logprob,
            top_logprobs=[
                TopLogprob(token=token_text(top), bytes=list(top.text), logprob=top.logprob)
                for top in one.top
            ],
        )
        for one in logprobs
    ]


def token_text(logprob: TokenLogprob) -> str:
    """A token as text; part of a character in hexadecimal, as OpenAI writes it."""
    try:
        return logprob.text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in logprob.text)


def _ms(tokens: int, per_second: float | None) -> float | None:
    return None if not per_second else 1000 * tokens / per_second
