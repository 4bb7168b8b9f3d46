"""The demonstration: two questions to the model that comes with the package."""

import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.model_protocol import AnsweringModel
from magistral_mlx.text.conversation import Message

PROGRAM = "magistral-mlx"
QUESTIONS = ("What is 274 + 358?", "Combien font 12 × 7 ?")


def run_demo(model: AnsweringModel, *, console: Console, errors: Console) -> bool:
    """Ask the questions and say what comes next; returns False when Ctrl-C stopped it."""
    options = GenerationOptions(sampling=SamplingParams(temperature=0.0))
    for question in QUESTIONS:
        console.print(Text(f"\n> {question}\n", style="bold"))
        messages = [Message("user", question)]
        if not run_ask(
            model,
            messages,
            options,
            output=AskOutput(show_reasoning=True),
            console=console,
            errors=errors,
        ):
            return False
    steps = next_steps(program_folder())
    console.print(f"\n{steps}", markup=False, highlight=False, soft_wrap=True)
    return True


def next_steps(folder: str) -> str:
    """Commands to go on with; folder is "" or where the programs lie, with a slash."""
    return f"""\
Next:
  {folder}magistral-mlx chat    talk to this model: arithmetic in several languages
  {folder}magistral-mlx plan    what the real model needs on this machine

The real model, on a Mac with 24 GB or more:
  {folder}magistral-mlx convert
  {folder}magistral-mlx chat --model {HUB_ID}"""


def program_folder() -> str:
    """What to write before a program's name: nothing when the shell finds it."""
    program = Path(sys.argv[0])
    if program.name != PROGRAM or shutil.which(PROGRAM):
        return ""
    return f"{program.parent}/"
