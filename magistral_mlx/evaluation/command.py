"""The eval command, once its options are read: one run, or a sweep."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from magistral_mlx.convert.sources.locations import DEMO
from magistral_mlx.evaluation.evaluate import evaluate, show_evaluated
from magistral_mlx.evaluation.question import QuestionSet
from magistral_mlx.evaluation.question_sets import DEMO as DEMO_SET
from magistral_mlx.evaluation.question_sets import open_question_set
from magistral_mlx.evaluation.request import RunRequest
from magistral_mlx.evaluation.sweep import (
    SweptPoint,
    run_sweep,
    sweep_fields,
    sweep_table,
    write_sweep,
)
from magistral_mlx.evaluation.sweep_axes import SweepAxes, parse_axes
from magistral_mlx.folders import state_folder
from magistral_mlx.opening import Opening, choose_model
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import TEMPERATURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """As SamplingParams. temperature None: as the set's stated figure, or else the card's."""

    temperature: float | None
    top_p: float
    top_k: int
    min_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalCommand:
    """What the command line says. axes: the words of a sweep; words: all of them, for the report.

    samples, count, output, model, think, kv_bits: None for what eval chooses.
    """

    words: list[str]
    questions: str
    model: str | None
    samples: int | None
    count: int | None
    output: Path | None
    axes: list[str] | None
    sampling: Sampling
    options: GenerationOptions
    think: int | None
    seed: int
    kv_bits: int | None
    opening: Opening


def run_eval_command(
    command: EvalCommand, *, as_json: bool, console: Console, errors: Console
) -> bool:
    """Evaluate and print; returns False when Ctrl-C ended it.

    Raises UserError for what is refused, and EngineError when the engine fails.
    """
    axes = None if command.axes is None else parse_axes(command.axes)
    request = _request(command)
    if axes is not None:
        return _sweep(
            request, axes, command.output, as_json=as_json, console=console, errors=errors
        )
    with errors.status(f"Opening {request.model_name}"):
        model = request.opening.open(request.choice)
    with model:
        run = request.run(model)
        name = f"{request.questions.name}-{run.settings.digest}"
        folder = command.output or evaluations_folder() / model.name / name
        evaluated = evaluate(model, run, folder, command=request.command, errors=errors)
    if as_json:
        print_json(evaluated.report.fields(), console)
    else:
        show_evaluated(evaluated, folder, console=console)
    return not evaluated.interrupted


def evaluations_folder() -> Path:
    """Where runs are kept when the user names no folder."""
    return state_folder() / "evaluations"


def _request(command: EvalCommand) -> RunRequest:
    """Everything that can be refused without a model is, here."""
    name = command.model or (DEMO if command.questions == DEMO_SET else None)
    choice = choose_model(name, state=state_folder())
    questions = open_question_set(command.questions, count=command.count)
    k = questions.samples if command.samples is None else command.samples
    sampling = _sampling(command.sampling, questions, k)
    return RunRequest(
        command=command.words,
        questions=questions,
        k=k,
        choice=choice,
        opening=command.opening,
        options=replace(command.options, sampling=sampling),
        seed=command.seed,
        kv_bits=command.kv_bits,
        budget=command.think,
    )


def _sampling(chosen: Sampling, questions: QuestionSet, k: int) -> SamplingParams:
    temperature = chosen.temperature
    if temperature is None and k == 1:
        temperature = questions.temperature
    return SamplingParams(
        temperature=TEMPERATURE if temperature is None else temperature,
        top_p=chosen.top_p,
        top_k=chosen.top_k,
        min_p=chosen.min_p,
    )


def _sweep(
    request: RunRequest,
    axes: SweepAxes,
    output: Path | None,
    *,
    as_json: bool,
    console: Console,
    errors: Console,
) -> bool:
    name = f"{request.questions.name}-{request.digest(repr(axes))}"
    folder = output or evaluations_folder() / "sweeps" / name
    swept, interrupted = run_sweep(request, axes, folder, errors=errors)
    if swept:
        _show_sweep(request, swept, axes, folder, as_json=as_json, console=console)
    if interrupted:
        errors.print("Interrupted: what is done is kept, and the same command goes on.")
    return not interrupted


def _show_sweep(
    request: RunRequest,
    swept: list[SweptPoint],
    axes: SweepAxes,
    folder: Path,
    *,
    as_json: bool,
    console: Console,
) -> None:
    title = f"{request.questions.title}, {request.model_name}"
    command = shlex.join(request.command)
    page = write_sweep(swept, axes, folder, command=command, title=title)
    if as_json:
        print_json(sweep_fields(swept, command=command), console)
    else:
        console.print(sweep_table(swept, title=title))
        console.print(f"\n{page}", highlight=False, soft_wrap=True, markup=False)


def print_json(value: object, console: Console) -> None:
    """One JSON object, readable, with every script as it is."""
    console.file.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
