"""The bench command, once its options are parsed."""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.console import Console

from magistral_mlx.api import open_model
from magistral_mlx.bench.bandwidth import Bandwidth, Chip, measure_bandwidth
from magistral_mlx.bench.bench_model import BenchModel, converted_model, synthetic_model
from magistral_mlx.bench.bench_report import BenchReport
from magistral_mlx.bench.case_results import Outcome, run_cases
from magistral_mlx.bench.cases import Axes
from magistral_mlx.bench.compared import MLX_LM, Compared
from magistral_mlx.bench.report_parts import this_machine
from magistral_mlx.convert import DEMO
from magistral_mlx.errors import CheckpointError, RequestError, check_extra
from magistral_mlx.folders import state_folder
from magistral_mlx.machine import machine_limit
from magistral_mlx.opening import choose_model
from magistral_mlx.ranks.division import Split
from magistral_mlx.ranks.launch import find_launch, is_follower


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchCommand:
    """The options of the command line. words: the whole line, for the report.

    model: None for the one used last. synthetic: a shape with made-up weights instead of a model.
    split: how several ranks divide the model.
    results: the file that figures are added to; plot: the picture to draw; None: neither.
    """

    words: list[str]
    model: str | None
    synthetic: str | None
    split: Split
    axes: Axes
    rounds: int
    compared: Compared
    chips: Sequence[Chip]
    results: Path | None
    plot: Path | None


def run_bench_command(command: BenchCommand, *, console: Console, errors: Console) -> bool:
    """Measure and print; returns False when Ctrl-C ended it before the last case.

    With several ranks, rank 0 measures; the others follow it, and end with SystemExit.

    Raises UserError for options that are not possible, and EngineError when the engine fails.
    """
    _check_ranks(command)
    plotting = ["matplotlib"] if command.plot else []
    check_extra("This benchmark", [*command.compared.modules, *plotting], extra="bench")
    if is_follower(os.environ):
        choice = _choice(command.model, errors=Console(quiet=True))
        open_model(choice, split=command.split)  # returns when rank 0 has ended
    with errors.status("Measuring memory bandwidth"):
        bandwidth = measure_bandwidth(limit=machine_limit().bytes)
    machine = this_machine()
    with _opened(command, errors=errors) as model:
        outcome = _measure(command, model, bandwidth, errors=errors)
        report = BenchReport(
            command=shlex.join(command.words),
            model=model,
            machine=machine,
            bandwidth=bandwidth,
            rounds=command.rounds,
            outcome=outcome,
            # Messages between ranks do not get faster with a chip's bandwidth.
            chips=command.chips if model.plan.ranks == 1 else [],
            made=date.today(),
        )
    _show(report, console=console, errors=errors)
    _save(command, report, errors=errors)
    console.file.write(report.line())
    return outcome.complete


def _check_ranks(command: BenchCommand) -> None:
    several = find_launch(os.environ) is not None
    if command.synthetic is not None and (several or command.split == "layers"):
        raise RequestError(
            "--synthetic makes weights up in one process: give several ranks a model instead."
        )
    if MLX_LM in command.compared.names and several:
        raise RequestError(
            "--compare mlx-lm runs in one process, and there are several ranks: leave it out."
        )


@contextmanager
def _opened(command: BenchCommand, *, errors: Console) -> Iterator[BenchModel]:
    if command.synthetic is not None:
        opening, name = synthetic_model(command.synthetic), f"Making weights: {command.synthetic}"
    else:
        choice = _choice(command.model, errors=errors)
        opening = converted_model(choice, split=command.split)
        name = f"Opening {Path(choice).name}"
    with ExitStack() as stack:
        with errors.status(name):
            model = stack.enter_context(opening)
        yield model


def _choice(name: str | None, *, errors: Console) -> str:
    """The model as `ask` chooses it, but the demo if no model has been used yet."""
    try:
        return choose_model(name, state=state_folder())
    except CheckpointError:
        if name is not None:
            raise
    errors.print("No model has been used yet: this measures the demo.", style="dim")
    return DEMO


def _measure(
    command: BenchCommand, model: BenchModel, bandwidth: Bandwidth, *, errors: Console
) -> Outcome:
    cases = command.axes.cases()
    fitting = [c for c in cases if c.misfit(window=model.plan.window, kv=model.kv) is None]
    with errors.status("Opening the contenders"):
        contenders = command.compared.open(model, fitting)
    rate, rounds = bandwidth.fastest, command.rounds
    return run_cases(model, cases, contenders, bandwidth=rate, rounds=rounds, errors=errors)


def _show(report: BenchReport, *, console: Console, errors: Console) -> None:
    for number, table in enumerate(report.tables()):
        if number:
            console.print()
        console.print(table)
    outcome = report.outcome
    for case, reason in (*outcome.skipped.items(), *outcome.refused.items()):
        errors.print(f"Left out: {case}: {reason}.", style="dim", markup=False)
    if not outcome.complete:
        errors.print("Interrupted: these are the results so far.")


def _save(command: BenchCommand, report: BenchReport, *, errors: Console) -> None:
    if command.results is not None:
        report.append_to(command.results)
        errors.print(f"Added to {command.results}", markup=False, highlight=False)
    if command.plot is not None and report.outcome.results:
        # Matplotlib takes a second to import.
        from magistral_mlx.bench.plot import draw_results

        title = f"{report.model.name} on {report.machine.chip}, {report.made.isoformat()}"
        for path in draw_results(report.outcome.results, command.plot, title=title):
            errors.print(f"Drew {path}", markup=False, highlight=False)
