"""One question and its reply."""

import json
from dataclasses import dataclass

from rich.console import Console

from magistral_mlx.options import GenerationOptions
from magistral_mlx.terminal.model_protocol import AnsweringModel
from magistral_mlx.terminal.reply import ReplyView, show_reply
from magistral_mlx.terminal.reply_summary import print_figures, remarks, reply_json
from magistral_mlx.terminal.reply_views import NoView, PlainView, TerminalView
from magistral_mlx.text.conversation import Message


@dataclass(frozen=True, slots=True)
class AskOutput:
    """How a reply is printed. show_reasoning None: on a terminal yes, in a pipe no."""

    as_json: bool = False
    show_reasoning: bool | None = None


def run_ask(
    model: AnsweringModel,
    messages: list[Message],
    options: GenerationOptions,
    *,
    output: AskOutput,
    console: Console,
    errors: Console,
) -> bool:
    """Ask, and show the reply; returns False when Ctrl-C stopped it.

    On a terminal: dimmed reasoning, the answer as Markdown, a dim line of figures. In a pipe: the
    answer as it is on standard output, all else on standard error. With as_json: one object.

    Raises RequestError for a request that cannot be served, EngineError when it breaks.
    """
    reply = show_reply(model.stream(messages, options), _view(output, console, errors))
    finished = reply.finished
    if finished is None:
        return False
    if output.as_json:
        print_json(reply_json(reply, finished, model=model.name), console)
    elif console.is_terminal:
        print_figures(finished, console, window=model.window)
    else:
        for remark in remarks(finished, window=model.window):
            errors.print(remark, style="dim")
    return True


def print_json(value: object, console: Console) -> None:
    """One JSON object, readable, with every script as it is."""
    console.file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _view(output: AskOutput, console: Console, errors: Console) -> ReplyView:
    if output.as_json:
        return NoView()
    if console.is_terminal:
        return TerminalView(console, show_reasoning=output.show_reasoning is not False)
    return PlainView(console.file, reasoning_out=errors.file if output.show_reasoning else None)
