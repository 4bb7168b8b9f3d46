"""Token counts and times, in the shapes that clients know."""

from collections.abc import Sequence

from openai.types import CompletionUsage
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

from magistral_mlx.events import Finished


def completion_usage(ends: Sequence[Finished]) -> CompletionUsage:
    """The counts of a request: its prompt once, and the output of all its answers."""
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
    """One answer's times, as llama.cpp gives them."""
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


def _ms(tokens: int, per_second: float | None) -> float | None:
    return None if not per_second else 1000 * tokens / per_second
