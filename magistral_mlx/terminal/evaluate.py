"""The command line of evaluations."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from magistral_mlx.errors import UserError
from magistral_mlx.opening import Opening
from magistral_mlx.options import GenerationOptions
from magistral_mlx.spec import TEMPERATURE, TOP_P
from magistral_mlx.terminal import command_options as opt
from magistral_mlx.terminal.console import INTERRUPTED, consoles, exit_codes

Questions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUESTIONS",
        help="demo, aime24, aime25, gpqa-diamond, languages, or a JSONL file; after --sweep its "
        "further axes.",
        show_default="demo",
    ),
]
EvaluatedModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="demo, the folder of a converted model, or the Hub id of one that was converted.",
        show_default="demo for the demo's questions, otherwise the model used last",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option("-k", "--samples", help="Samples of each question.", show_default="the set's"),
]
Count = Annotated[
    int | None,
    typer.Option("--questions", min=1, help="Only the first so many.", show_default="all"),
]
Output = Annotated[
    Path | None,
    typer.Option(help="The run's folder.", show_default="one named from model and settings"),
]
Sweep = Annotated[
    str | None,
    typer.Option(
        metavar="AXIS=VALUES",
        help="Every combination of bits=3,4,8 (of the weights), kv=16,8,4 and budget=256,none.",
        show_default=False,
    ),
]
DrawTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="0 always takes the most likely token.",
        show_default=f"{TEMPERATURE}; 0 for one sample of the demo's questions",
    ),
]
BaseSeed = Annotated[int, typer.Option(help="Each sample's own seed is made of this one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]


def eval_command(
    questions: Questions = None,
    model: EvaluatedModel = None,
    samples: Samples = None,
    count: Count = None,
    output: Output = None,
    sweep: Sweep = None,
    as_json: AsJson = False,
    reasoning: opt.ReasoningMode = "auto",
    think: opt.Think = None,
    max_tokens: opt.MaxTokens = None,
    temperature: DrawTemperature = None,
    top_p: opt.TopP = TOP_P,
    top_k: opt.TopK = 0,
    min_p: opt.MinP = 0.0,
    seed: BaseSeed = 0,
    window: opt.Window = None,
    dtype: opt.ComputeDtype = None,
    kv_bits: opt.KVBits = None,
    kv_start: opt.KVStart = 0,
) -> None:
    """Measure how often answers are right. The same command goes on with an interrupted run."""
    console, errors = consoles()
    with exit_codes(errors):
        # Matplotlib and the others are an extra, and take a second to import.
        from magistral_mlx.evaluation.extra import check_extra

        check_extra()
        from magistral_mlx.evaluation.command import EvalCommand, Sampling, run_eval_command

        name, axes = _questions_and_axes(questions or [], sweep)
        command = EvalCommand(
            words=["magistral-mlx", *sys.argv[1:]],
            questions=name,
            model=model,
            samples=samples,
            count=count,
            output=output,
            axes=axes,
            sampling=Sampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p),
            options=GenerationOptions(reasoning=reasoning, max_tokens=max_tokens),
            think=think,
            seed=seed,
            kv_bits=kv_bits,
            opening=Opening(window=window, dtype=dtype, kv_bits=kv_bits, kv_start=kv_start),
        )
        if not run_eval_command(command, as_json=as_json, console=console, errors=errors):
            raise typer.Exit(INTERRUPTED)


def _questions_and_axes(words: Sequence[str], sweep: str | None) -> tuple[str, list[str] | None]:
    """A shell hands on `--sweep bits=3,4 kv=16,8` as an option and a further argument."""
    names = [word for word in words if sweep is None or "=" not in word]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} are several sets: evaluate one at a time.")
    axes = None if sweep is None else [sweep, *(word for word in words if "=" in word)]
    return (names or ["demo"])[0], axes
