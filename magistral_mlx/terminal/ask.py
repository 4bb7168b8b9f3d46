"""The ask command: one question and its reply."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from magistral_mlx.errors import RequestError
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.options import GenerationOptions
from magistral_mlx.terminal.command_options import Model, OpeningOptions, ReplyOptions
from magistral_mlx.terminal.console import INTERRUPTED, consoles, exit_codes, print_json
from magistral_mlx.terminal.model import AnsweringModel, open_chosen
from magistral_mlx.terminal.reply import print_figures, remarks, reply_json, show_reply
from magistral_mlx.terminal.reply_views import PlainView, TerminalView
from magistral_mlx.text.conversation import Message


@dataclass(frozen=True, slots=True)
class AskOutput:
    """How a reply is printed. show_reasoning None: on a terminal yes, in a pipe no."""

    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object when the reply is complete.")
    ] = False
    show_reasoning: Annotated[
        bool | None,
        typer.Option(
            "--show-reasoning/--hide-reasoning",
            help="Show the reasoning. By default only on a terminal; in a pipe it goes to standard "
            "error.",
            show_default=False,
        ),
    ] = None


@takes_groups
def ask_command(
    question: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="The question; - reads it from standard input."),
    ],
    *,
    model: Model = None,
    output: AskOutput,
    reply: ReplyOptions,
    opening: OpeningOptions,
) -> None:
    """Ask one question. In a pipe, only the answer goes to standard output."""
    console, errors = consoles()
    with exit_codes(errors):
        options = reply.generation()
        messages = [Message("system", reply.system)] if reply.system else []
        messages.append(Message("user", _question(question)))
        with open_chosen(model, opening.opening(), errors=errors) as opened:
            completed = run_ask(
                opened, messages, options, output=output, console=console, errors=errors
            )
        if not completed:
            raise typer.Exit(INTERRUPTED)


def run_ask(
    model: AnsweringModel,
    messages: list[Message],
    options: GenerationOptions,
    *,
    output: AskOutput,
    console: Console,
    errors: Console,
) -> bool:
    """Ask and show the reply; returns False when Ctrl-C stopped it.

    On a terminal: dimmed reasoning, the answer as Markdown, a dim line of figures. In a pipe: the
    answer as written on standard output, the rest on standard error. With as_json: one object.

    Raises RequestError for a request that cannot be served, EngineError when the engine fails.
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


def _view(output: AskOutput, console: Console, errors: Console) -> TerminalView | PlainView:
    if output.as_json:
        return PlainView(None, reasoning_out=None)
    if console.is_terminal:
        return TerminalView(console, show_reasoning=output.show_reasoning is not False)
    return PlainView(console.file, reasoning_out=errors.file if output.show_reasoning else None)


def _question(argument: str) -> str:
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise RequestError("The question is empty: write it after ask, or pipe it in with -.")
    return text
