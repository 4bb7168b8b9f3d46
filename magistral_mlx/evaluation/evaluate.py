"""An evaluation from start to end: the run, its report, and the tables to show."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType

from magistral_mlx.evaluation.language_share import LanguageDetector, language_shares
from magistral_mlx.evaluation.report import MARKDOWN_FILE, EvaluationReport
from magistral_mlx.evaluation.request import EvaluationRequest
from magistral_mlx.evaluation.results import compute_results, wanted_samples
from magistral_mlx.evaluation.results_view import LiveTable, languages_view, results_view
from magistral_mlx.evaluation.run_folder import RunFolder
from magistral_mlx.folders import state_folder
from magistral_mlx.magistral import Magistral


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A run's report and folder. interrupted: Ctrl-C ended it before the last sample."""

    report: EvaluationReport
    folder: Path
    interrupted: bool

    @property
    def page(self) -> Path:
        """The report's Markdown file."""
        return self.folder / MARKDOWN_FILE

    def fields(self) -> dict[str, object]:
        """The report for JSON."""
        return self.report.fields()

    def view(self) -> RenderableType:
        """The tables of the report."""
        report = self.report
        results = results_view(report.questions, report.results, model=report.settings.model)
        return Group(results, "", languages_view(report.languages)) if report.languages else results


def evaluate(
    request: EvaluationRequest, model: Magistral, folder: Path | None, *, errors: Console
) -> Evaluated:
    """Draw the missing samples, show a table on errors meanwhile, and write the report.

    folder: None: one named from model, questions and settings. Ctrl-C ends the drawing; the report
    is then of the samples so far.

    Raises UserError for impossible options, and what `EvaluationRun.carry_out` raises.
    """
    run = request.run(model)
    settings = run.settings
    default = evaluations_folder() / settings.model / f"{settings.questions}-{settings.digest}"
    folder = folder or default
    interrupted = False
    with LiveTable(run.questions, k=run.k, model=model.name, console=errors) as table:
        try:
            run.carry_out(model, folder, on_samples=table.show)
        except KeyboardInterrupt:
            interrupted = True
    # Read the folder: Ctrl-C may have come while a sample was being stored.
    with RunFolder(folder, settings) as stored:
        kept = wanted_samples(run.questions.questions, stored.samples, k=run.k)
    report = EvaluationReport(
        command=shlex.join(request.command),
        questions=run.questions,
        settings=settings,
        results=compute_results(run.questions.questions, kept, k=run.k),
        languages=language_shares(run.questions.questions, kept, LanguageDetector()),
    )
    report.write(folder)
    return Evaluated(report, folder, interrupted)


def evaluations_folder() -> Path:
    """Where runs are stored unless the user names a folder."""
    return state_folder() / "evaluations"
