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
from magistral_mlx.bench.report_parts import Machine, figures_table, versions
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
        rate, ranks = self.bandwidth.fastest / 1e9, self.model.plan.ranks
        between = f" between {ranks} ranks" if ranks > 1 else ""
        return figures_table(
            f"{self.model.name}{between} on {self.machine.chip}: memory reads {rate:,.1f} GB/s",
            ("Prompts", "KV", "Prefill", "First", "Known", "Decode", "Bound", "Of it", "Peak"),
            [_result_row(result, self.model.dtype) for result in self.outcome.results],
            caption="Tokens per second of all streams, ± half the range; seconds to the first "
            "token, the prompt new or known; the bound is what memory bandwidth allows.",
        )

    def _comparison_table(self) -> Table:
        rows = [
            (_prompts(result), str(result.case.kv_bits), name, *map(_text, found.values()))
            for result in self.outcome.results
            for name, found in result.comparisons.items()
        ]
        return figures_table(
            "Beside others, in turn",
            ("Prompts", "KV", "Beside", "Prefill", "Decode", "First token"),
            rows,
            left=["Beside"],
            caption="Ours over theirs, above 1 is better; medians of the rounds, and the range.",
        )

    def _prediction_table(self) -> Table:
        """Of one stream, at the first KV precision."""
        found = [r for r in self.outcome.results if r.case.streams == 1 and r.reached is not None]
        shown = [result for result in found if result.case.kv_bits == found[0].case.kv_bits]
        rates = {
            chip: [f"{self._rate(result, chip):,.1f}" for result in shown] for chip in self.chips
        }
        return figures_table(
            "Predictions, not measurements: decoding one stream, tokens per second",
            ("Chip", "GB/s", *(f"at {result.case.prompt:,}" for result in shown)),
            [(c.name, f"{c.bandwidth / 1e9:,.0f}", *row) for c, row in rates.items() if shown],
            left=["Chip"],
            caption="The chip's bound by its published bandwidth, times the part of the bound that "
            "was reached here. For whether the model fits its memory: magistral-mlx plan --macs.",
        )


def _result_row(result: CaseResult, dtype: str) -> tuple[str, ...]:
    bits, reached, bound = result.case.precision.bits, result.reached, result.bound
    return (
        _prompts(result),
        SHORT_NAMES[dtype] if bits is None else f"{bits} bit",
        _text(result.prefill),
        _seconds(result.cold_first),
        _seconds(result.known_first),
        _text(result.decode),
        f"{bound:,.0f}" if bound >= 100 else f"{bound:,.1f}",
        NOTHING if reached is None else f"{100 * reached:.1f}%",
        gigabytes(result.peak_bytes),
    )


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


def _prompts(result: CaseResult) -> str:
    return f"{result.case.streams} × {result.case.prompt:,}"


def _text(figure: Spread | Ratio | None) -> str:
    return NOTHING if figure is None else figure.text()


def _seconds(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:.3g}"
