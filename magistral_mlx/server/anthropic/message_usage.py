"""Counts, and why an answer ended, in Anthropic's words."""

from collections.abc import Mapping

from magistral_mlx.events import Finished


def message_usage(end: Finished) -> dict[str, object]:
    """Anthropic counts tokens from its cache apart from the others of the prompt."""
    usage = end.usage
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def stop_fields(end: Finished, *, called: bool, limit: int) -> Mapping[str, object]:
    """stop_reason and stop_sequence; limit: the max_tokens that were asked for."""
    return {
        "stop_reason": _reason(end, called=called, limit=limit),
        "stop_sequence": end.stop_string,
    }


def _reason(end: Finished, *, called: bool, limit: int) -> str:
    if end.reason == "length" and end.usage.completion_tokens < limit:
        return "model_context_window_exceeded"
    if end.reason in ("length", "timeout"):
        return "max_tokens"
    if end.stop_string is not None:
        return "stop_sequence"
    return "tool_use" if called else "end_turn"
