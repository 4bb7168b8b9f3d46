"""The demonstration: convert the model that comes with the package, and ask it two questions."""

from rich.console import Console
from rich.text import Text

from magistral_mlx import GenerationOptions
from magistral_mlx.conversation import Message
from magistral_mlx.sampling import SamplingParams
from magistral_mlx.spec import HUB_ID
from magistral_mlx.terminal.ask import AskOutput, run_ask
from magistral_mlx.terminal.model_protocol import AnsweringModel

QUESTIONS = ("What is 274 + 358?", "Combien font 12 × 7 ?")

NEXT_STEPS = f"""\
Next:
  magistral-mlx chat     talk to this model: sums, differences, products, in several languages
  magistral-mlx plan     what the real model needs on this machine

The real model, on a Mac with 24 GB or more:
  hf download {HUB_ID} --local-dir Magistral-Small-2506
  magistral-mlx convert Magistral-Small-2506
  magistral-mlx chat --model Magistral-Small-2506-4bit"""


def run_demo(model: AnsweringModel, *, console: Console, errors: Console) -> bool:
    """Ask the questions and say what comes next; returns False when Ctrl-C stopped it."""
    options = GenerationOptions(sampling=SamplingParams(temperature=0.0))
    for question in QUESTIONS:
        console.print(Text(f"\n> {question}\n", style="bold"))
        messages = [Message("user", question)]
        if not run_ask(
            model, messages, options, output=AskOutput(), console=console, errors=errors
        ):
            return False
    console.print(f"\n{NEXT_STEPS}", markup=False, highlight=False, soft_wrap=True)
    return True
