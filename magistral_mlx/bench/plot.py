"""Plots tokens per second against context, beside the bound, for light and dark pages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from magistral_mlx.bench.case_results import CaseResult

INK = "#7d8590"
"""A contrast of at least 4:1 to white and to near-black: the background is transparent."""
COLOURS = ("#3b82f6", "#e07b00", "#1f9d55", "#b05be0", "#d64550", "#0e9aa7", "#9a8500")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WIDE = 4
"""The axis is logarithmic if the largest figure is more than this many times the least."""

Series = dict[tuple[int, int], list[CaseResult]]


def draw_results(results: Sequence[CaseResult], file: Path, *, title: str) -> list[Path]:
    """Write file.png and file.svg, whatever the ending of `file`, and return both.

    Each number of streams and KV precision has a colour and a marker; bounds are dashed.
    """
    figure = Figure(figsize=(7.5, 4.4), dpi=160, layout="constrained")
    axes = figure.subplots()
    series = _series(results)
    for number, found in enumerate(series.values()):
        _draw(axes, found, COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
    _style(axes, [r for found in series.values() for r in found])
    _legend(axes, series)
    figure.suptitle(title, color=INK, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    written = [file.with_suffix(ending) for ending in (".png", ".svg")]
    for path in written:
        figure.savefig(path, transparent=True)
    return written


def _series(results: Sequence[CaseResult]) -> Series:
    """By streams and KV bits, each in order of context."""
    series: Series = {}
    for result in sorted(results, key=lambda r: r.case.prompt):
        if result.decode is not None:
            series.setdefault((result.case.streams, result.case.kv_bits), []).append(result)
    return dict(sorted(series.items(), key=lambda item: (item[0][0], -item[0][1])))


def _draw(axes: Axes, results: Sequence[CaseResult], colour: str, marker: str) -> None:
    contexts = [result.case.prompt for result in results]
    spreads = [result.decode for result in results if result.decode is not None]
    axes.errorbar(
        contexts,
        [spread.median for spread in spreads],
        yerr=[
            [spread.median - spread.least for spread in spreads],
            [spread.most - spread.median for spread in spreads],
        ],
        color=colour,
        marker=marker,
        linewidth=1.6,
        capsize=3,
    )
    bounds = [result.bound for result in results]
    axes.add_line(_bound_line(contexts, bounds, colour))


def _bound_line(contexts: Sequence[int], bounds: Sequence[float], colour: str) -> Line2D:
    """Dashed, with a bar at each context: a line of one point would be invisible."""
    return Line2D(
        contexts,
        bounds,
        color=colour,
        linestyle=(0, (4, 3)),
        linewidth=1.4,
        marker="_",
        markersize=14,
        markeredgewidth=1.6,
    )


def _style(axes: Axes, results: Sequence[CaseResult]) -> None:
    # Square roots keep both 128 from 1,000 and 32,000 from 40,000.
    axes.set_xscale("function", functions=(np.sqrt, np.square))
    contexts = sorted({result.case.prompt for result in results})
    axes.set_xlim(0, 1.06 * max(contexts, default=1))  # no mark is cut off
    axes.set_xticks(contexts, [_short(context) for context in contexts])
    figures = [result.bound for result in results]
    figures += [result.decode.median for result in results if result.decode is not None]
    if figures and max(figures) > WIDE * min(figures):
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("Context, tokens of the prompt", color=INK)
    axes.set_ylabel("Decoding, tokens per second of all streams", color=INK)
    axes.tick_params(colors=INK, which="both")
    axes.grid(axis="y", color=INK, alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))


def _legend(axes: Axes, series: Series) -> None:
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)])
        for i in range(len(series))
    ]
    names = [_name(streams, bits) for streams, bits in series]
    handles.append(_bound_line([], [], INK))
    legend = axes.legend(
        handles,
        [*names, "bound by memory bandwidth"],
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    for text in legend.get_texts():
        text.set_color(INK)


def _short(tokens: int) -> str:
    """In the form of --prompts."""
    return f"{tokens // 1_000}k" if tokens % 1_000 == 0 else f"{tokens:,}"


def _name(streams: int, bits: int) -> str:
    name = f"{streams} streams" if streams > 1 else "1 stream"
    return name if bits in (16, 32) else f"{name}, KV {bits} bits"
