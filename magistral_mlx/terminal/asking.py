"""The commands that ask the model: ask and chat."""

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from magistral_mlx.errors import RequestError
from magistral_mlx.folders import state_folder
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.chat import prompt_line, run_chat
from magistral_mlx.terminal.chat_session import ChatSession
from magistral_mlx.terminal.exit_codes import INTERRUPTED, consoles, exit_codes
from magistral_mlx.terminal.opening import OpeningOptions, open_chosen
from magistral_mlx.text.conversation import Message

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object when the reply is complete.")
]
ShowReasoning = Annotated[
    bool | None,
    typer.Option(
        "--show-reasoning/--hide-reasoning",
        help="By default shown on a terminal only. In a pipe it goes to standard error.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """How the command line wants to be answered."""

    system: opt.System = None
    system_mode: opt.SystemMode = "compose"
    reasoning: opt.ReasoningMode = "auto"
    think: opt.Think = None
    max_tokens: opt.MaxTokens = None
    temperature: opt.Temperature = opt.DEFAULT_TEMPERATURE
    top_p: opt.TopP = opt.DEFAULT_TOP_P
    top_k: opt.TopK = 0
    min_p: opt.MinP = 0.0
    seed: opt.Seed = None

    def options(self) -> GenerationOptions:
        """The same for the model. Raises RequestError for values that are not possible."""
        return GenerationOptions(
            sampling=SamplingParams(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                seed=self.seed,
            ),
            max_tokens=self.max_tokens,
            thinking_budget=self.think,
            reasoning=self.reasoning,
            system=self.system_mode,
        )


@takes_groups
def ask_command(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="What to ask; - reads it from standard input.")
    ],
    *,
    model: opt.Model = None,
    as_json: AsJson = False,
    show_reasoning: ShowReasoning = None,
    answering: Answering,
    opening: OpeningOptions,
) -> None:
    """Ask one question. In a pipe, standard output gets the answer alone."""
    console, errors = consoles()
    with exit_codes(errors):
        options = answering.options()
        messages = [Message("system", answering.system)] if answering.system else []
        messages.append(Message("user", _question(question)))
        with open_chosen(model, opening.opening(), errors=errors) as opened:
            completed = run_ask(
                opened,
                messages,
                options,
                output=AskOutput(as_json=as_json, show_reasoning=show_reasoning),
                console=console,
                errors=errors,
            )
        if not completed:
            raise typer.Exit(INTERRUPTED)


@takes_groups
def chat_command(*, model: opt.Model = None, answering: Answering, opening: OpeningOptions) -> None:
    """Talk to the model. /help inside lists the commands; Ctrl-C stops an answer."""
    console, errors = consoles()
    with exit_codes(errors):
        if not (console.is_terminal and sys.stdin.isatty()):
            raise RequestError("chat needs a terminal: in a pipe, use magistral-mlx ask.")
        session = ChatSession(answering.options(), system=answering.system)
        with open_chosen(model, opening.opening(), errors=errors) as opened:
            run_chat(
                opened,
                session,
                console=console,
                read_line=prompt_line(state_folder() / "chat_history"),
            )


def _question(argument: str) -> str:
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise RequestError("The question is empty: write it after ask, or pipe it in with -.")
    return text
