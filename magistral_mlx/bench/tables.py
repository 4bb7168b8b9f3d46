"""Results as tables on the terminal."""

from collections.abc import Sequence

from rich.table import Table

from magistral_mlx.bench.case_result import CaseResult
from magistral_mlx.bench.chips import Chip, predict
from magistral_mlx.bench.pairs import Ratio
from magistral_mlx.bench.spread import Spread
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.memory.plan import gigabytes

NOTHING = "–"
SHORT_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def results_table(results: Sequence[CaseResult], *, title: str, computed: str) -> Table:
    """A row a case, within 80 columns. computed: the type of KV that is not quantised."""
    table = _table(title)
    for name in ("Prompts", "KV", "Prefill", "First", "Known", "Decode", "Bound", "Of it", "Peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        bits, reached = result.case.precision.bits, result.reached
        table.add_row(
            f"{result.case.streams} × {result.case.prompt:,}",
            SHORT_NAMES[computed] if bits is None else f"{bits} bit",
            _text(result.prefill),
            _seconds(result.cold_first),
            _seconds(result.known_first),
            _text(result.decode),
            f"{result.bound:,.0f}" if result.bound >= 100 else f"{result.bound:,.1f}",
            NOTHING if reached is None else f"{100 * reached:.1f}%",
            gigabytes(result.peak_bytes),
        )
    table.caption = (
        "Tokens a second of all streams, ± half the range; seconds to the first token, the prompt "
        "new or known; the bound is what memory bandwidth allows."
    )
    return table


def comparison_table(results: Sequence[CaseResult], *, title: str) -> Table:
    """A row for each case and other program: ours, theirs, the quotient and its range."""
    table = _table(title)
    table.add_column("Prompts", justify="right", no_wrap=True)
    table.add_column("KV", justify="right", no_wrap=True)
    table.add_column("Beside", min_width=10, overflow="fold")
    for name in ("Prefill", "Decode", "First token"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        case = result.case
        for name, found in result.comparisons.items():
            ratios = (found.prefill, found.decode, found.first_token)
            prompts = f"{case.streams} × {case.prompt:,}"
            table.add_row(prompts, str(case.kv_bits), name, *map(_ratio, ratios))
    table.caption = "Ours over theirs, above 1 is better; medians of the turns, and their range."
    return table


def prediction_table(
    results: Sequence[CaseResult], chips: Sequence[Chip], config: ModelConfig
) -> Table | None:
    """Predicted tokens a second of one stream, a row a chip; None when nothing was measured."""
    shown = [r for r in results if r.case.streams == 1 and r.reached is not None]
    shown = [r for r in shown if r.case.kv_bits == shown[0].case.kv_bits]
    if not shown or not chips:
        return None
    table = _table("Predictions, not measurements: decoding one stream, tokens a second")
    table.add_column("Chip")
    table.add_column("GB/s", justify="right")
    for result in shown:
        table.add_column(f"at {result.case.prompt:,}", justify="right")
    for chip in chips:
        rates = [predict(config, r.case, chip, reached=r.reached or 0) for r in shown]
        cells = [f"{rate:,.1f}" for rate in rates]
        table.add_row(chip.name, f"{chip.bandwidth / 1e9:,.0f}", *cells)
    table.caption = (
        "The chip's bound by its published bandwidth, times the part of the bound that was reached "
        "here. Whether the model fits its memory is another question: magistral-mlx plan --macs."
    )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )


def _text(spread: Spread | None) -> str:
    return NOTHING if spread is None else spread.text()


def _seconds(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:.3g}"


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return NOTHING
    return f"{ratio.ratio:.2f} ({ratio.least:.2f}–{ratio.most:.2f})"
