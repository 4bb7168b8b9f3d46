"""What is said about a reply after it: figures, limits that were hit, and the JSON form."""

from dataclasses import asdict

from rich.console import Console

from magistral_mlx.events import Finished
from magistral_mlx.terminal.reply import ShownReply


def print_figures(finished: Finished, console: Console, *, window: int) -> None:
    """The dim line below a reply."""
    line = " · ".join([figures(finished), *remarks(finished, window=window)])
    console.print(f"\n{line}", style="dim", markup=False, highlight=False)


def figures(finished: Finished) -> str:
    """Tokens, speed and delay in one line: "152 tokens (96 reasoning) · 41.2 tok/s · …"."""
    usage, timings = finished.usage, finished.timings
    parts = [f"{usage.completion_tokens:,} tokens ({usage.reasoning_tokens:,} reasoning)"]
    if timings.decode_tokens_per_second is not None:
        parts.append(f"{timings.decode_tokens_per_second:.1f} tok/s")
    if timings.seconds_to_first_token is not None:
        parts.append(f"{timings.seconds_to_first_token:.2f} s to the first token")
    return " · ".join(parts)


def remarks(finished: Finished, *, window: int) -> list[str]:
    """What the reader must know about how the reply ended; empty when it ended by itself."""
    found: list[str] = []
    if finished.reasoning_closed_by_force:
        found.append("reasoning was closed by force")
    if finished.reason == "length":
        full = finished.usage.prompt_tokens + finished.usage.completion_tokens >= window
        found.append(f"cut at the window of {window:,} tokens" if full else "cut at --max-tokens")
    elif finished.reason == "repetition":
        found.append("stopped because it repeated itself")
    elif finished.reason == "cancelled":
        found.append("cancelled")
    return found


def reply_json(reply: ShownReply, finished: Finished, *, model: str) -> dict[str, object]:
    """The object that --json prints."""
    return {
        "model": model,
        "reasoning": reply.reasoning,
        "answer": reply.answer,
        "finish_reason": finished.reason,
        "reasoning_closed_by_force": finished.reasoning_closed_by_force,
        "usage": asdict(finished.usage),
        "timings": asdict(finished.timings),
    }
