"""The demo command: two questions to the model that comes with the package."""

import shutil
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from magistral_mlx.convert import DEMO, ConversionOptions
from magistral_mlx.convert.cli import run_conversion
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.console import INTERRUPTED, consoles, exit_codes
from magistral_mlx.terminal.model import AnsweringModel, open_chosen, print_dim
from magistral_mlx.text.conversation import Message

PROGRAM = "magistral-mlx"
QUESTIONS = ("What is 274 + 358?", "Combien font 12 × 7 ?")


def demo_command() -> None:
    """Convert the demo model, which comes with the package, and ask it two questions."""
    console, errors = consoles()
    with exit_codes(errors):
        print_dim(errors, "Converting the demo model, which comes with the package, to 4-bit MLX")
        run_conversion(DEMO, None, ConversionOptions(force=True, rtn=True))
        with open_chosen(DEMO, Opening(), errors=errors) as model:
            completed = all(_ask(model, each, console, errors) for each in QUESTIONS)
        if not completed:
            raise typer.Exit(INTERRUPTED)
        steps = _next_steps(_program_folder())
        console.print(f"\n{steps}", markup=False, highlight=False, soft_wrap=True)


def _ask(model: AnsweringModel, question: str, console: Console, errors: Console) -> bool:
    console.print(Text(f"\n> {question}\n", style="bold"))
    return run_ask(
        model,
        [Message("user", question)],
        GenerationOptions(sampling=SamplingParams(temperature=0.0)),
        output=AskOutput(show_reasoning=True),
        console=console,
        errors=errors,
    )


def _next_steps(folder: str) -> str:
    return f"""\
Next:
  {folder}magistral-mlx chat    talk to this model: arithmetic in several languages
  {folder}magistral-mlx plan    see what the real model needs on this machine

The real model, on a Mac with 24 GB or more:
  {folder}magistral-mlx convert
  {folder}magistral-mlx chat --model {HUB_ID}"""


def _program_folder() -> str:
    """The path to write before the program's name: "" when the shell finds it."""
    program = Path(sys.argv[0])
    if program.name != PROGRAM or shutil.which(PROGRAM):
        return ""
    return f"{program.parent}/"
