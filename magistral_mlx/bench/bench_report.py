"""The figures and what they hang on, as one line of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from magistral_mlx.bench.bandwidth import Bandwidth
from magistral_mlx.bench.bench_model import BenchModel
from magistral_mlx.bench.bound import decode_weight_bytes
from magistral_mlx.bench.case_result import CaseResult
from magistral_mlx.bench.chips import Chip, predict
from magistral_mlx.bench.machine_report import Machine, versions
from magistral_mlx.bench.rounds import Outcome
from magistral_mlx.checkpoint.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the command. made: its date."""

    command: str
    model: BenchModel
    machine: Machine
    bandwidth: Bandwidth
    rounds: int
    outcome: Outcome
    chips: Sequence[Chip]
    made: date

    def fields(self) -> dict[str, object]:
        """For a machine to read: tokens a second, seconds, bytes."""
        return {
            "benchmark": "tps",
            "command": self.command,
            "date": self.made.isoformat(),
            "machine": asdict(self.machine),
            "versions": versions(),
            "model": _model(self.model),
            "memory_bandwidth": self.bandwidth.json(),
            "rounds": self.rounds,
            "complete": self.outcome.complete,
            "cases": [
                result.json() | {"predicted": _predicted(result, self.chips, self.model.config)}
                for result in self.outcome.results
            ],
            "skipped": self.outcome.skipped,
            "not_compared": self.outcome.refused,
        }

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(self.fields(), ensure_ascii=False) + "\n"

    def append_to(self, file: Path) -> None:
        """Add the line to a results file, which is made when there is none."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(self.line())


def _model(model: BenchModel) -> Mapping[str, object]:
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


def _predicted(result: CaseResult, chips: Sequence[Chip], config: ModelConfig) -> dict[str, float]:
    """Tokens a second by chip. Predictions, not measurements."""
    if result.reached is None:
        return {}
    rates = {c.name: predict(config, result.case, c, reached=result.reached) for c in chips}
    return {name: float(f"{rate:.4g}") for name, rate in rates.items()}
