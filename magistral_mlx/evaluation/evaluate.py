"""An evaluation from beginning to end: the run, its report, and what is shown of both."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from magistral_mlx.api import Magistral
from magistral_mlx.evaluation.language import LanguageDetector
from magistral_mlx.evaluation.language_share import language_shares
from magistral_mlx.evaluation.live_table import LiveTable
from magistral_mlx.evaluation.report import MARKDOWN_FILE, Report
from magistral_mlx.evaluation.results import compute_results, wanted_samples
from magistral_mlx.evaluation.results_view import languages_view, results_view
from magistral_mlx.evaluation.run import Run
from magistral_mlx.evaluation.run_folder import RunFolder
from magistral_mlx.evaluation.sample import Sample


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of it. interrupted: Ctrl-C ended it before the last sample."""

    report: Report
    interrupted: bool


def evaluate(
    model: Magistral, run: Run, folder: Path, *, command: list[str], errors: Console
) -> Evaluated:
    """Draw what is missing, show the table as it grows, and write the report into the folder.

    Ctrl-C ends the drawing: what is done is reported, and stays.

    Raises UserError and EngineError as `Run.carry_out` does.
    """
    interrupted = False
    with LiveTable(run.questions, k=run.k, model=model.name, console=errors) as table:
        try:
            run.carry_out(model, folder, on_samples=table.show)
        except KeyboardInterrupt:
            interrupted = True
    # What counts is what the folder holds: Ctrl-C may have come while a sample was being kept.
    with RunFolder(folder, run.settings) as kept:
        samples = kept.samples
    report = make_report(run, samples, command=command)
    report.write(folder)
    return Evaluated(report, interrupted)


def make_report(run: Run, samples: list[Sample], *, command: list[str]) -> Report:
    """The report of these samples, of which there may be more than were asked for."""
    questions = run.questions.questions
    kept = wanted_samples(questions, samples, k=run.k)
    return Report(
        command=shlex.join(command),
        questions=run.questions,
        settings=run.settings,
        results=compute_results(questions, kept, k=run.k),
        languages=language_shares(questions, kept, LanguageDetector()),
    )


def show_evaluated(evaluated: Evaluated, folder: Path, *, console: Console) -> None:
    """Print the tables, and where everything lies."""
    report = evaluated.report
    console.print(results_view(report.questions, report.results, model=report.settings.model))
    if report.languages:
        console.print()
        console.print(languages_view(report.languages))
    if evaluated.interrupted:
        console.print("\nInterrupted: what is done is kept, and the same command goes on.")
    console.print(f"\n{folder / MARKDOWN_FILE}", highlight=False, soft_wrap=True, markup=False)
