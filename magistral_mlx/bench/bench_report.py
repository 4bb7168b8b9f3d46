"""What one run of the bench command shows: tables, and a line of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from rich.table import Table

from magistral_mlx.bench.bandwidth import Bandwidth, Chip, decode_weight_bytes, predict
from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.case_results import CaseResult, Outcome
from magistral_mlx.bench.report_parts import Machine, versions
from magistral_mlx.bench.spread import Ratio, Spread, four_digits
from magistral_mlx.memory.plan import gigabytes

NOTHING = "–"
SHORT_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One run of the command, and the date on which it was made."""

    command: str
    model: BenchModel
    machine: Machine
    bandwidth: Bandwidth
    rounds: int
    outcome: Outcome
    chips: Sequence[Chip]
    made: date

    def line(self) -> str:
        """All figures as one line of JSON: tokens per second, seconds, bytes."""
        return json.dumps(self._fields(), ensure_ascii=False) + "\n"

    def append_to(self, file: Path) -> None:
        """Add the line to a results file, which is created if it does not exist."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(self.line())

    def _fields(self) -> dict[str, object]:
        return {
            "benchmark": "tps",
            "command": self.command,
            "date": self.made.isoformat(),
            "machine": asdict(self.machine),
            "versions": versions(),
            "model": _model_fields(self.model),
            "memory_bandwidth": self.bandwidth.json(),
            "rounds": self.rounds,
            "complete": self.outcome.complete,
            "cases": [
                result.json() | {"predicted": self._predicted(result)}
                for result in self.outcome.results
            ],
            "skipped": self.outcome.skipped,
            "not_compared": self.outcome.refused,
        }

    def _predicted(self, result: CaseResult) -> dict[str, float]:
        """Tokens per second by chip. Predictions, not measurements."""
        if result.reached is None:
            return {}
        return {chip.name: four_digits(self._rate(result, chip)) for chip in self.chips}

    def _rate(self, result: CaseResult, chip: Chip) -> float:
        return predict(self.model.config, result.case, chip, reached=result.reached or 0)

    def tables(self) -> list[Table]:
        """Those that have a row: results, comparisons, predictions; within 80 columns."""
        tables = (self._results_table(), self._comparison_table(), self._prediction_table())
        return [table for table in tables if table.row_count]

    def _results_table(self) -> Table:
        """A row per case."""
        rate, ranks = self.bandwidth.fastest / 1e9, self.model.plan.ranks
        between = f" between {ranks} ranks" if ranks > 1 else ""
        table = _table(
            f"{self.model.name}{between} on {self.machine.chip}: memory reads {rate:,.1f} GB/s"
        )
        columns = ("Prompts", "KV", "Prefill", "First", "Known", "Decode", "Bound", "Of it", "Peak")
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
        for result in self.outcome.results:
            bits, reached = result.case.precision.bits, result.reached
            table.add_row(
                _prompts(result),
                SHORT_NAMES[self.model.dtype] if bits is None else f"{bits} bit",
                _text(result.prefill),
                _seconds(result.cold_first),
                _seconds(result.known_first),
                _text(result.decode),
                f"{result.bound:,.0f}" if result.bound >= 100 else f"{result.bound:,.1f}",
                NOTHING if reached is None else f"{100 * reached:.1f}%",
                gigabytes(result.peak_bytes),
            )
        table.caption = (
            "Tokens per second of all streams, ± half the range; seconds to the first token, the "
            "prompt new or known; the bound is what memory bandwidth allows."
        )
        return table

    def _comparison_table(self) -> Table:
        """A row for each case and contender: the ratios and their ranges."""
        table = _table("Beside others, in turn")
        table.add_column("Prompts", justify="right", no_wrap=True)
        table.add_column("KV", justify="right", no_wrap=True)
        table.add_column("Beside", min_width=10, overflow="fold")
        for name in ("Prefill", "Decode", "First token"):
            table.add_column(name, justify="right", no_wrap=True)
        for result in self.outcome.results:
            for name, found in result.comparisons.items():
                ratios = (found.prefill, found.decode, found.first_token)
                bits = str(result.case.kv_bits)
                table.add_row(_prompts(result), bits, name, *map(_text, ratios))
        table.caption = "Ours over theirs, above 1 is better; medians of the rounds, and the range."
        return table

    def _prediction_table(self) -> Table:
        """Predicted tokens per second of one stream, a row per chip."""
        table = _table("Predictions, not measurements: decoding one stream, tokens per second")
        table.add_column("Chip")
        table.add_column("GB/s", justify="right")
        found = [r for r in self.outcome.results if r.case.streams == 1 and r.reached is not None]
        shown = [result for result in found if result.case.kv_bits == found[0].case.kv_bits]
        for result in shown:
            table.add_column(f"at {result.case.prompt:,}", justify="right")
        for chip in self.chips if shown else ():
            cells = [f"{self._rate(result, chip):,.1f}" for result in shown]
            table.add_row(chip.name, f"{chip.bandwidth / 1e9:,.0f}", *cells)
        table.caption = (
            "The chip's bound by its published bandwidth, times the part of the bound that was "
            "reached here. For whether the model fits its memory: magistral-mlx plan --macs."
        )
        return table


def _model_fields(model: BenchModel) -> Mapping[str, object]:
    quantization = model.config.quantization
    return {
        "name": model.name,
        "fingerprint": model.checkpoint.fingerprint[:16],
        "bits": None if quantization is None else quantization.bits,
        "dtype": model.dtype,
        "ranks": model.plan.ranks,
        "layers": list(model.plan.layers),
        "weight_bytes": model.plan.weights,
        "weight_bytes_read_a_step": decode_weight_bytes(model.read, model.dtype),
        "window": model.plan.window,
    }


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )


def _prompts(result: CaseResult) -> str:
    return f"{result.case.streams} × {result.case.prompt:,}"


def _text(figure: Spread | Ratio | None) -> str:
    return NOTHING if figure is None else figure.text()


def _seconds(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:.3g}"
