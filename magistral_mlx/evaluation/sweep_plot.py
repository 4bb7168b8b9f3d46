"""The plot of a sweep, readable on a light and on a dark page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from magistral_mlx.bench.plot import COLOURS, INK, MARKERS
from magistral_mlx.evaluation.statistics import Estimate

AXIS_NAMES = {"bits": "Bits a weight", "kv": "KV cache", "budget": "Thinking budget, tokens"}


@dataclass(frozen=True, slots=True)
class PlotPoint:
    """One combination: its label on each axis, and its pass@1."""

    labels: dict[str, str]
    estimate: Estimate | None


def draw_sweep(
    points: Sequence[PlotPoint], varied: Sequence[str], folder: Path, *, title: str
) -> None:
    """Write sweep.png and sweep.svg.

    The first axis that varies is horizontal, the second has a colour and a marker for each value,
    and the third a panel. Bars are 95 % intervals.
    """
    across, lines, panels = [*varied, "bits", "kv", "budget"][:3]
    panel_names = _names(points, panels) if len(varied) > 2 else [None]
    figure = Figure(figsize=(2.2 + 4.2 * len(panel_names), 4.2), dpi=160, layout="constrained")
    all_axes = figure.subplots(1, len(panel_names), sharey=True, squeeze=False)[0]
    for axes, name in zip(all_axes, panel_names, strict=True):
        shown = [each for each in points if name is None or each.labels[panels] == name]
        _draw_panel(axes, shown, across, lines if len(varied) > 1 else None)
        axes.set_title(f"{AXIS_NAMES[panels]}: {name}" if name else "", color=INK, fontsize=10)
    all_axes[0].set_ylabel("pass@1, %, with 95 % interval", color=INK)
    figure.suptitle(title, color=INK, fontsize=11)
    if len(varied) > 1:
        legend = all_axes[-1].legend(
            title=AXIS_NAMES[lines], frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
        for text in (*legend.get_texts(), legend.get_title()):
            text.set_color(INK)
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"sweep.{ending}", transparent=True)


def _draw_panel(axes: Axes, points: Sequence[PlotPoint], across: str, lines: str | None) -> None:
    places = _names(points, across)
    series = _names(points, lines) if lines else [None]
    for number, name in enumerate(series):
        found = [p for p in points if lines is None or p.labels[lines] == name]
        drawn = [(p, p.estimate) for p in found if p.estimate is not None]
        # Side by side: bars of the same height would hide each other.
        shift = 0.12 * (number - (len(series) - 1) / 2)
        values = [100 * estimate.value for _, estimate in drawn]
        axes.errorbar(
            [places.index(point.labels[across]) + shift for point, _ in drawn],
            values,
            yerr=[
                [100 * (estimate.value - estimate.low) for _, estimate in drawn],
                [100 * (estimate.high - estimate.value) for _, estimate in drawn],
            ],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.5,
            elinewidth=1.2,
            capsize=3,
            label=name,
        )
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_xlabel(AXIS_NAMES[across], color=INK)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=INK, alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))


def _names(points: Sequence[PlotPoint], axis: str) -> list[str]:
    return list(dict.fromkeys(point.labels[axis] for point in points))
