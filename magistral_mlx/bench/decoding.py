"""Several streams at once: tokens a second together and bytes of KV, beside `BatchGenerator`."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from side_by_side.measurement import Plan, Result, spread_note
from side_by_side.ours import our_engine

from magistral_mlx.bench.mlx_lm import BatchOutputs, load_mlx_lm, run_batch
from magistral_mlx.bench.output import Output, joint_decode_rate, whole_rate
from magistral_mlx.bench.pairs import Ratio, Turns, in_turn, ratio_of
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.bench.recording import run_ours
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.device import dtype_of
from magistral_mlx.kv.cache import BLOCK
from magistral_mlx.memory.byte_counts import kv_bytes_per_token


@dataclass(frozen=True, slots=True)
class _Case:
    """A prompt of each length; the length of an output."""

    name: str
    lengths: Sequence[int]
    tokens: int


def measure(plan: Plan) -> Result:
    """4 and 8 streams on the nano, of equal and of mixed lengths.

    Raises ValueError when our KV takes more than the streams' lengths and a block each.
    """
    rounds = 1 if plan.quick else 2
    table = Table("streams, prompts", "", "magistral-mlx", "mlx-lm", "ratio, higher is better")
    table.title = "Several streams on the nano: tokens a second of all, megabytes of their KV"
    table.caption = spread_note(rounds)
    figures: list[dict[str, object]] = []
    folder = plan.models.nano
    mlx_lm, per_token = load_mlx_lm(folder), _bytes_per_token(plan)
    run_batch(mlx_lm, [random_ids(16)], 4)
    with our_engine(folder) as engine:
        run_ours(engine, [random_ids(16)], 4)
        for case in _cases(quick=plan.quick):
            prompts = [random_ids(length, seed=i) for i, length in enumerate(case.lengths)]

            def ours(prompts: list[list[int]] = prompts, case: _Case = case) -> list[Output]:
                return run_ours(engine, prompts, case.tokens)

            def theirs(prompts: list[list[int]] = prompts, case: _Case = case) -> BatchOutputs:
                return run_batch(mlx_lm, prompts, case.tokens)

            turns = in_turn(ours, theirs, rounds=rounds, done=plan.tick, warm_up=False)
            _add(table, figures, case, turns, per_token)
    return Result(table, figures)


def _cases(*, quick: bool) -> list[_Case]:
    if quick:
        return [_Case("4, mixed", [16, 32, 64, 320], 48)]
    four, eight = [32, 64, 128, 512], [16, 32, 64, 96, 128, 160, 192, 320]
    return [
        _Case("4, equal", [128] * 4, 64),
        _Case("4, mixed", four, 64),
        _Case("8, equal", [128] * 8, 64),
        _Case("8, mixed", eight, 64),
    ]


def _bytes_per_token(plan: Plan) -> int:
    config = open_checkpoint(plan.models.nano).config
    return kv_bytes_per_token(config, config.dtype, bits=8 * dtype_of(config.dtype).size)


def _add(
    table: Table,
    figures: list[dict[str, object]],
    case: _Case,
    turns: Turns[list[Output], BatchOutputs],
    per_token: int,
) -> None:
    """A row and a set of figures."""
    theirs = [batch.outputs for batch in turns.theirs]
    decode = ratio_of(
        [joint_decode_rate(outputs) for outputs in turns.ours],
        [joint_decode_rate(outputs) for outputs in theirs],
    )
    whole = ratio_of([whole_rate(o) for o in turns.ours], [whole_rate(o) for o in theirs])
    kv = _kv(turns, per_token)
    table.add_row(case.name, "decoding", *decode.cells())
    table.add_row("", "prompts too", *whole.cells())
    table.add_row("", "KV", f"{kv.ours / 1e6:.1f}", f"{kv.theirs / 1e6:.1f}", f"{kv.ratio:.2f}")
    figures.append(
        {"streams": len(case.lengths), "prompts": list(case.lengths), "tokens": case.tokens}
        | {
            "decode": decode.json(theirs="mlx_lm"),
            "with_prompts": whole.json(theirs="mlx_lm"),
            "kv_bytes": kv.json(theirs="mlx_lm"),
        }
        | {"same_tokens": _same_share(turns)}
    )


def _kv(turns: Turns[list[Output], BatchOutputs], per_token: int) -> Ratio:
    """Bytes at the end; ours are held against the lengths that they are for."""
    for output in (output for outputs in turns.ours for output in outputs):
        if not 0 < output.kv_bytes <= (output.kv_tokens + BLOCK) * per_token:
            raise ValueError(
                f"A stream of {output.kv_tokens:,} tokens has {output.kv_bytes:,} bytes of KV: "
                f"more than {per_token:,} a token and a block of {BLOCK} beside."
            )
    totals = [float(sum(output.kv_bytes for output in outputs)) for outputs in turns.ours]
    return ratio_of(totals, [float(batch.kv_bytes) for batch in turns.theirs], inverse=True)


def _same_share(turns: Turns[list[Output], BatchOutputs]) -> float:
    """How many of the streams have the same tokens on both sides."""
    pairs = [
        pair
        for ours, batch in zip(turns.ours, turns.theirs, strict=True)
        for pair in zip(ours, batch.outputs, strict=True)
    ]
    return sum(ours.tokens == theirs.tokens for ours, theirs in pairs) / len(pairs)
