"""The same questions at every combination of weight bits, KV bits and thinking budget."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

from rich.console import Console, RenderableType

from magistral_mlx.evaluation.evaluate import evaluate, evaluations_folder
from magistral_mlx.evaluation.report import (
    EvaluationReport,
    markdown_table,
    measured_on,
    origin_fields,
    write_json,
)
from magistral_mlx.evaluation.request import EvaluationRequest
from magistral_mlx.evaluation.results import Results
from magistral_mlx.evaluation.results_view import interval, metrics, percent, plain_table
from magistral_mlx.evaluation.sweep_axes import SweepAxes, SweepPoint
from magistral_mlx.evaluation.sweep_plot import PlotPoint, draw_sweep

COLUMNS = ("Weights", "KV", "Budget")


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """A combination and its report."""

    point: SweepPoint
    report: EvaluationReport

    @property
    def results(self) -> Results:
        """The figures of the report."""
        return self.report.results

    def labels(self) -> tuple[str, str, str]:
        """Bits of weights and KV, and the thinking budget, for the table."""
        budget = self.report.settings.thinking_budget
        return (
            f"{self.point.bits} bits" if self.point.bits else self.report.settings.model,
            f"{self.report.settings.kv_bits} bits",
            "none" if budget is None else f"{budget:,}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedSweep:
    """The points so far, and where they are stored. interrupted: Ctrl-C ended the sweep."""

    title: str
    command: str
    axes: SweepAxes
    points: Sequence[SweptPoint]
    folder: Path
    interrupted: bool = False

    @property
    def page(self) -> Path:
        """The Markdown file."""
        return self.folder / "sweep.md"

    def view(self) -> RenderableType:
        """A row for each combination."""
        header, rows = self._table()
        table = plain_table(self.title)
        for name in header:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        return table

    def fields(self) -> dict[str, object]:
        """The sweep for JSON; shares are from 0 to 1."""
        points = [
            {
                "point": asdict(each.point),
                "settings": asdict(each.report.settings),
                "results": asdict(each.results),
            }
            for each in self.points
        ]
        return {**origin_fields(self.command), "points": points}

    def write(self) -> None:
        """Write sweep.md, sweep.json, sweep.png and sweep.svg."""
        plotted = [
            PlotPoint(
                dict(zip(("bits", "kv", "budget"), each.labels(), strict=True)),
                each.results.pass_at_1,
            )
            for each in self.points
        ]
        draw_sweep(plotted, self.axes.varied, self.folder, title=self.title)
        self.page.write_text(
            f"# {self.title}\n\n    {self.command}\n\n{markdown_table(*self._table())}\n\n"
            f"![pass@1 with its 95 % interval](sweep.svg)\n\n{measured_on()}\n",
            encoding="utf-8",
        )
        write_json(self.folder / "sweep.json", self.fields())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows; an interrupted point may lack some of the metrics."""
        names = dict.fromkeys(name for each in self.points for name, _, _ in metrics(each.results))
        header = [*COLUMNS, *(text for name in names for text in (f"{name}, %", "95 % interval"))]
        rows = [[*each.labels(), *_figures(each.results, list(names))] for each in self.points]
        return [*header, "Samples", "Tokens", "Closed by force, %"], rows


def evaluate_sweep(
    request: EvaluationRequest, axes: SweepAxes, folder: Path | None, *, errors: Console
) -> EvaluatedSweep:
    """Evaluate every combination, each in its own folder below this one, and write the tables.

    Opens the model once for each number of bits. Ctrl-C ends the sweep after the points so far.

    Raises UserError and EngineError as opening and evaluating do.
    """
    name = f"{request.questions.name}-{request.digest(repr(axes))}"
    folder = folder or evaluations_folder() / "sweeps" / name
    points, interrupted = _evaluate_points(request, axes, folder, errors=errors)
    swept = EvaluatedSweep(
        title=f"{request.questions.title}, {request.model_name}",
        command=shlex.join(request.command),
        axes=axes,
        points=points,
        folder=folder,
        interrupted=interrupted,
    )
    swept.write()
    return swept


def _evaluate_points(
    request: EvaluationRequest, axes: SweepAxes, folder: Path, *, errors: Console
) -> tuple[list[SweptPoint], bool]:
    swept: list[SweptPoint] = []
    points = axes.points()
    try:
        for bits, group in groupby(points, key=lambda point: point.bits):
            with request.open_model(errors=errors, bits=bits) as model:
                for point in group:
                    counted = f"{len(swept) + 1} of {len(points)}: {point.name}"
                    errors.print(counted, style="dim", markup=False)
                    at_point = _at_point(request, point)
                    evaluated = evaluate(at_point, model, folder / point.name, errors=errors)
                    swept.append(SweptPoint(point, evaluated.report))
                    if evaluated.interrupted:
                        return swept, True
    except KeyboardInterrupt:  # while a model was opened
        if not swept:
            raise
        return swept, True
    return swept, False


def _at_point(request: EvaluationRequest, point: SweepPoint) -> EvaluationRequest:
    if point.kv is not None:
        request = replace(request, kv_bits=point.kv)
    if point.budget is not None:
        budget = None if point.budget == "none" else point.budget
        request = replace(request, options=replace(request.options, thinking_budget=budget))
    return request


def _figures(results: Results, names: Sequence[str]) -> list[str]:
    found = {name: (percent(each.value), interval(each)) for name, each, _ in metrics(results)}
    return [
        *(text for name in names for text in found.get(name, ("–", ""))),
        f"{results.done:,} of {results.wanted:,}",
        f"{results.mean_tokens:,.0f}",
        percent(results.forced),
    ]
