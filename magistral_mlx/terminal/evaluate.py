"""The eval command: its options, and printing what an evaluation returns."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from magistral_mlx.convert import DEMO
from magistral_mlx.errors import UserError, check_extra
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import choose_model
from magistral_mlx.option_groups import takes_groups
from magistral_mlx.spec import TEMPERATURE
from magistral_mlx.terminal.command_options import ModelOptions, SamplingOptions
from magistral_mlx.terminal.console import (
    INTERRUPTED,
    consoles,
    exit_codes,
    print_json,
)

if TYPE_CHECKING:
    from magistral_mlx.evaluation.request import EvaluationRequest

EXTRA_MODULES = ("math_verify", "py3langid", "duckdb", "matplotlib")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions:
    """What to evaluate, and how."""

    model: Annotated[
        str | None,
        typer.Option(
            help="demo, the folder of a converted model, or the Hub id it was converted from.",
            show_default="demo for its own questions, otherwise the last model",
        ),
    ] = None
    samples: Annotated[
        int | None,
        typer.Option(
            "-k", "--samples", help="Number of samples of each question.", show_default="the set's"
        ),
    ] = None
    count: Annotated[
        int | None,
        typer.Option(
            "--questions", min=1, help="Number of questions, the first ones.", show_default="all"
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; the same folder resumes it.",
            show_default="named from model and settings",
        ),
    ] = None
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS=VALUES",
            help="Evaluate every combination, for example bits=3,4,8 (of the weights) kv=16,8,4 "
            "budget=256,none.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSampling(SamplingOptions):
    """As for a reply, with other defaults."""

    temperature: Annotated[
        float | None,
        typer.Option(
            help="Sampling temperature; 0 always takes the most likely token.",
            show_default=f"{TEMPERATURE}; 0 for one sample of the demo's questions",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Base seed; each sample's seed derives from it.")] = 0


@takes_groups
def eval_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUESTIONS",
            help="demo, aime24, aime25, gpqa-diamond, languages, or a JSONL file. After --sweep "
            "also its further axes.",
            show_default="demo",
        ),
    ] = None,
    *,
    options: EvalOptions,
    sampling: EvalSampling,
    opening: ModelOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object.")
    ] = False,
) -> None:
    """Measure how often answers are right. The same command resumes an interrupted run."""
    console, errors = consoles()
    with exit_codes(errors):
        check_extra("eval", EXTRA_MODULES, extra="eval")
        # Matplotlib and the others are an extra, and take a second to import.
        from magistral_mlx.evaluation.evaluate import Evaluated, evaluate
        from magistral_mlx.evaluation.sweep import EvaluatedSweep, evaluate_sweep
        from magistral_mlx.evaluation.sweep_axes import parse_axes

        name, axes = _questions_and_axes(words or [], options.sweep)
        swept = None if axes is None else parse_axes(axes)
        request = _request(name, options, sampling, opening)
        result: Evaluated | EvaluatedSweep
        if swept is not None:
            result = evaluate_sweep(request, swept, options.output, errors=errors)
        else:
            with request.open_model(errors=errors) as model:
                result = evaluate(request, model, options.output, errors=errors)
        if as_json:
            print_json(result.fields(), console)
        else:
            console.print(result.view())
            console.print(f"\n{result.page}", highlight=False, soft_wrap=True, markup=False)
        if result.interrupted:
            (errors if as_json else console).print(
                "\nInterrupted: finished samples are stored, and the same command resumes."
            )
            raise typer.Exit(INTERRUPTED)


def _questions_and_axes(words: Sequence[str], sweep: str | None) -> tuple[str, list[str] | None]:
    """A shell passes `--sweep bits=3,4 kv=16,8` as an option and a further argument."""
    names = [word for word in words if sweep is None or "=" not in word]
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} are several sets: evaluate one at a time.")
    axes = None if sweep is None else [sweep, *(word for word in words if "=" in word)]
    return (names or [DEMO])[0], axes


def _request(
    name: str, options: EvalOptions, sampling: EvalSampling, opening: ModelOptions
) -> "EvaluationRequest":
    """The request. Raises UserError for whatever is impossible with any model."""
    from magistral_mlx.evaluation.question_sets import open_question_set
    from magistral_mlx.evaluation.request import EvaluationRequest

    model = options.model or (DEMO if name == DEMO else None)
    choice = choose_model(model, state=state_folder())
    questions = open_question_set(name, count=options.count)
    k = questions.samples if options.samples is None else options.samples
    if sampling.temperature is None and k == 1:
        sampling = replace(sampling, temperature=questions.temperature)
    return EvaluationRequest(
        command=["magistral-mlx", *sys.argv[1:]],
        questions=questions,
        k=k,
        choice=choice,
        opening=opening.opening(),
        options=sampling.generation(),
        seed=sampling.seed,
    )
