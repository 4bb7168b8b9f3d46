"""A reply in the terminal: its events shown as they arrive, and a summary after the last one."""

from contextlib import closing
from dataclasses import asdict, dataclass

from rich.console import Console

from magistral_mlx.errors import EngineError
from magistral_mlx.events import AnswerText, Failed, Finished, PrefillProgress, ReasoningText
from magistral_mlx.terminal.model import Events
from magistral_mlx.terminal.reply_views import PlainView, TerminalView


@dataclass(frozen=True, slots=True)
class ShownReply:
    """The text that arrived. finished is None when Ctrl-C stopped the reply."""

    reasoning: str
    answer: str
    finished: Finished | None


def show_reply(events: Events, view: TerminalView | PlainView) -> ShownReply:
    """Show events until the last one. Ctrl-C cancels the request and keeps the text so far.

    Raises EngineError when the request fails.
    """
    reasoning: list[str] = []
    answer: list[str] = []
    finished: Finished | None = None
    try:
        with closing(events), view:
            for event in events:
                match event:
                    case PrefillProgress():
                        view.prefill(event)
                    case ReasoningText(text):
                        reasoning.append(text)
                        view.reasoning(text)
                    case AnswerText(text):
                        answer.append(text)
                        view.answer(text)
                    case Finished():
                        finished = event
                    case Failed(message):
                        raise EngineError(message)
    except KeyboardInterrupt:
        finished = None
    return ShownReply("".join(reasoning), "".join(answer), finished)


def print_figures(finished: Finished, console: Console, *, window: int) -> None:
    """Print the dim line below a reply: "152 tokens (96 reasoning) · 41.2 tok/s · …"."""
    usage, timings = finished.usage, finished.timings
    parts = [f"{usage.completion_tokens:,} tokens ({usage.reasoning_tokens:,} reasoning)"]
    if timings.decode_tokens_per_second is not None:
        parts.append(f"{timings.decode_tokens_per_second:.1f} tok/s")
    if timings.seconds_to_first_token is not None:
        parts.append(f"{timings.seconds_to_first_token:.2f} s to the first token")
    line = " · ".join([*parts, *remarks(finished, window=window)])
    console.print(f"\n{line}", style="dim", markup=False, highlight=False)


def remarks(finished: Finished, *, window: int) -> list[str]:
    """Why the reply ended early; empty when the model ended it."""
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
