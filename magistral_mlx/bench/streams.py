"""Streams of equal and of mixed lengths, decoded together, beside mlx-lm's BatchGenerator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Literal

from rich.table import Table

from magistral_mlx.bench.bench_model import SideBySide, unlimited_engine
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.mlx_lm_contender import BatchOutputs, load_mlx_lm, run_batch
from magistral_mlx.bench.recording import TimedOutput, joint_decode_rate, run_ours
from magistral_mlx.bench.report_parts import figures_table
from magistral_mlx.bench.spread import Ratio, in_turn
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.device import dtype_of
from magistral_mlx.engine.engine import Engine
from magistral_mlx.kv.cache import BLOCK
from magistral_mlx.memory.byte_counts import kv_bytes_per_token

Figures = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Streams:
    """The length of each prompt, and of an output."""

    name: str
    lengths: Sequence[int]
    tokens: int = 64
    model: Literal["demo", "wide"] = "demo"

    @property
    def prompts(self) -> list[list[int]]:
        """One for each stream."""
        return [random_ids(length, seed=i) for i, length in enumerate(self.lengths)]


QUICK = (Streams("1", (16,), 48), Streams("4, mixed", (16, 32, 64, 320), 48))
FULL = (
    Streams("1", (128,), 96),
    Streams("1, wide model", (16,), 24, model="wide"),
    Streams("4, equal", (128,) * 4),
    Streams("4, mixed", (32, 64, 128, 512)),
    Streams("8, equal", (128,) * 8),
    Streams("8, mixed", (16, 32, 64, 96, 128, 160, 192, 320)),
)


def measure_streams(models: SideBySide) -> tuple[Table, Figures]:
    """Decode rates with and without prefill, bytes of KV, and whether the tokens are the same.

    Raises ValueError if our KV takes more than the streams' lengths and a block each.
    """
    rounds, rows, figures = 1 if models.quick else 3, list[tuple[str, ...]](), Figures()
    for case in QUICK if models.quick else FULL:
        ours, theirs = _run_both(models, case, rounds)
        decode = [[_decode_rate(batch.outputs) for batch in side] for side in (ours, theirs)]
        whole = [[_whole_rate(batch.outputs) for batch in side] for side in (ours, theirs)]
        kv = [[batch.kv_bytes / 1e6 for batch in side] for side in (ours, theirs)]
        ratios = {
            "decode": Ratio.of(*decode),
            "with_prompts": Ratio.of(*whole),
            "kv_megabytes": Ratio.of(*kv, inverse=True),
        }
        rows += [(case.name, name, *ratio.cells(",.1f")) for name, ratio in ratios.items()]
        figures.append(
            {"model": case.model, "prompts": case.lengths, "tokens": case.tokens}
            | json_figures(ratios)
            | {"same_tokens": _same_share(ours, theirs)}
        )
    title = "Streams: tokens per second of all, megabytes of KV"
    columns = ("streams", "", "magistral-mlx", "mlx-lm", "ratio, more is better")
    return figures_table(title, columns, rows, left=columns[:2]), figures


def json_figures(ratios: Mapping[str, Ratio]) -> dict[str, object]:
    """Ratios to mlx-lm, for the line of JSON."""
    return {name: ratio.json(theirs="mlx_lm") for name, ratio in ratios.items()}


def _run_both(models: SideBySide, case: Streams, rounds: int) -> list[list[BatchOutputs]]:
    folder = models.wide if case.model == "wide" else models.demo
    mlx_lm, config = load_mlx_lm(folder), open_checkpoint(folder).config
    bits = 8 * dtype_of(config.dtype).size
    per_token = kv_bytes_per_token(config, config.dtype, bits=bits)
    with unlimited_engine(folder) as engine:
        sides = (
            partial(_run_ours, engine, case, per_token),
            partial(run_batch, mlx_lm, case.prompts, case.tokens),
        )
        return in_turn(sides, rounds=rounds, done=models.done)


def _run_ours(engine: Engine, case: Streams, per_token: int) -> BatchOutputs:
    outputs = run_ours(engine, case.prompts, case.tokens)
    for output in outputs:
        if not 0 < output.kv_bytes <= (output.kv_tokens + BLOCK) * per_token:
            raise ValueError(
                f"A stream of {output.kv_tokens:,} tokens has {output.kv_bytes:,} bytes of KV: "
                f"more than {per_token:,} per token and a block of {BLOCK} more."
            )
    return BatchOutputs(outputs, sum(output.kv_bytes for output in outputs))


def _decode_rate(outputs: Sequence[TimedOutput]) -> float:
    rate = joint_decode_rate(outputs)
    if rate is None:
        raise ValueError("The streams hardly decoded together: give them more tokens.")
    return rate


def _whole_rate(outputs: Sequence[TimedOutput]) -> float:
    """Tokens per second from the first submission to the last token, prefill included."""
    start = min(output.submitted for output in outputs)
    stop = max(output.last for output in outputs)
    return sum(len(output.tokens) for output in outputs) / (stop - start)


def _same_share(ours: Sequence[BatchOutputs], theirs: Sequence[BatchOutputs]) -> float:
    """The fraction of streams with the same tokens on both sides."""
    sides = ([output.tokens for run in side for output in run.outputs] for side in (ours, theirs))
    return fmean(mine == other for mine, other in zip(*sides, strict=True))
