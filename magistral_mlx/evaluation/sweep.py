"""The same questions at every combination of bits a weight, bits of the KV cache and budget."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from magistral_mlx.api import Magistral
from magistral_mlx.evaluation.evaluate import Evaluated, evaluate
from magistral_mlx.evaluation.report import Report, machine, markdown_table, versions
from magistral_mlx.evaluation.request import RunRequest
from magistral_mlx.evaluation.results import Results
from magistral_mlx.evaluation.results_view import interval, metrics, percent
from magistral_mlx.evaluation.sweep_axes import SweepAxes, SweepPoint
from magistral_mlx.evaluation.sweep_models import model_at_bits
from magistral_mlx.evaluation.sweep_plot import PlotPoint, draw_sweep

COLUMNS = ("Weights", "KV", "Budget")


@dataclass(frozen=True, slots=True)
class SweptPoint:
    """One combination and its report. kv_bits: of the run, chosen by the plan where not swept."""

    point: SweepPoint
    report: Report

    @property
    def results(self) -> Results:
        """Its figures."""
        return self.report.results

    def labels(self) -> tuple[str, str, str]:
        """Bits of weights and KV, and the budget, as the table has them."""
        budget = self.report.settings.thinking_budget
        return (
            f"{self.point.bits} bits" if self.point.bits else self.report.settings.model,
            f"{self.report.settings.kv_bits} bits",
            "none" if budget is None else f"{budget:,}",
        )


def run_sweep(
    request: RunRequest, axes: SweepAxes, folder: Path, *, errors: Console
) -> tuple[list[SweptPoint], bool]:
    """Evaluate every combination, each in a folder of its own below this one.

    Returns what there is, and whether Ctrl-C ended it. Opens the model once for each bits.

    Raises UserError and EngineError as opening and evaluating do.
    """
    swept: list[SweptPoint] = []
    points = axes.points()
    try:
        for bits, group in groupby(points, key=lambda point: point.bits):
            with _opened(request, bits, errors=errors) as model:
                for point in group:
                    counted = f"{len(swept) + 1} of {len(points)}: {point.name}"
                    errors.print(counted, style="dim", markup=False)
                    evaluated = _evaluate(request, model, point, folder, errors=errors)
                    swept.append(SweptPoint(point, evaluated.report))
                    if evaluated.interrupted:
                        return swept, True
    except KeyboardInterrupt:  # while a model was opened
        return swept, True
    return swept, False


def sweep_table(swept: Sequence[SweptPoint], *, title: str) -> Table:
    """One row a combination."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    header, rows = _table(swept)
    for name in header:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def write_sweep(
    swept: Sequence[SweptPoint], axes: SweepAxes, folder: Path, *, command: str, title: str
) -> Path:
    """Write sweep.md, sweep.json, and sweep.png and sweep.svg; return the Markdown file."""
    table = markdown_table(*_table(swept))
    made = f"{date.today().isoformat()}, {machine()}; " + ", ".join(
        f"{name} {number}" for name, number in versions().items()
    )
    draw_sweep([_plotted(each) for each in swept], axes.varied, folder, title=title)
    page = folder / "sweep.md"
    page.write_text(
        f"# {title}\n\n    {command}\n\n{table}\n\n![pass@1 with its 95 % interval](sweep.svg)\n\n"
        f"{made}\n",
        encoding="utf-8",
    )
    text = json.dumps(sweep_fields(swept, command=command), ensure_ascii=False, indent=2)
    (folder / "sweep.json").write_text(text + "\n", encoding="utf-8")
    return page


def sweep_fields(swept: Sequence[SweptPoint], *, command: str) -> dict[str, object]:
    """Everything, as JSON has it; shares are from 0 to 1."""
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "points": [
            {
                "point": asdict(each.point),
                "settings": asdict(each.report.settings),
                "results": asdict(each.results),
            }
            for each in swept
        ],
    }


@contextmanager
def _opened(request: RunRequest, bits: int | None, *, errors: Console) -> Iterator[Magistral]:
    with errors.status(f"Opening {request.model_name} at {bits or 'its own'} bits"):
        model = request.opening.open(str(model_at_bits(request.choice, bits)))
    with model:
        yield model


def _evaluate(
    request: RunRequest, model: Magistral, point: SweepPoint, folder: Path, *, errors: Console
) -> Evaluated:
    run = _at_point(request, point).run(model)
    return evaluate(model, run, folder / point.name, command=request.command, errors=errors)


def _at_point(request: RunRequest, point: SweepPoint) -> RunRequest:
    at_kv = request if point.kv is None else replace(request, kv_bits=point.kv)
    if point.budget is None:
        return at_kv
    return replace(at_kv, budget=None if point.budget == "none" else point.budget)


def _table(swept: Sequence[SweptPoint]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a point that was interrupted early may lack some of the metrics."""
    names = dict.fromkeys(name for each in swept for name, _, _ in metrics(each.results))
    header = [*COLUMNS, *(text for name in names for text in (f"{name}, %", "95 % interval"))]
    rows = [[*each.labels(), *_figures(each.results, list(names))] for each in swept]
    return [*header, "Samples", "Tokens", "Closed by force, %"], rows


def _figures(results: Results, names: Sequence[str]) -> list[str]:
    found = {name: (percent(each.value), interval(each)) for name, each, _ in metrics(results)}
    return [
        *(text for name in names for text in found.get(name, ("–", ""))),
        f"{results.done:,} of {results.wanted:,}",
        f"{results.mean_tokens:,.0f}",
        percent(results.forced),
    ]


def _plotted(each: SweptPoint) -> PlotPoint:
    labels = dict(zip(("bits", "kv", "budget"), each.labels(), strict=True))
    return PlotPoint(labels, each.results.pass_at_1)
