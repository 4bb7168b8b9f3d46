"""One stream: tokens a second of decoding, beside mlx-lm's `stream_generate`."""

from pathlib import Path

from rich.table import Table

from magistral_mlx.bench.mlx_lm import load_mlx_lm, run_single
from magistral_mlx.bench.pairs import Ratio, in_turn, ratio_of
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.bench.recording import run_ours

from .measurement import Plan, Result, spread_note
from .ours import our_engine
from .prompts import question_ids


def measure(plan: Plan) -> Result:
    """The nano, and in full also the wide model."""
    rounds = 3
    title = f"One stream, tokens a second ({spread_note(rounds)})"
    table = Table("model", "tokens", "magistral-mlx", "mlx-lm", "ours / theirs", title=title)
    figures: list[dict[str, object]] = []
    nano = plan.models.nano
    if plan.quick:
        cases = [("nano", nano, random_ids(16), 48)]
    else:
        cases = [("nano", nano, question_ids(nano), 96)]
        cases.append(("wide", plan.models.wide, random_ids(16), 24))
    for name, folder, prompt, tokens in cases:
        ratio, same = _decode(plan, folder, prompt, tokens, rounds)
        table.add_row(name, f"{tokens:,}", *ratio.cells())
        case = {"model": name, "prompt": len(prompt), "tokens": tokens, "same_tokens": same}
        figures.append(case | ratio.json(theirs="mlx_lm"))
    return Result(table, figures)


def _decode(
    plan: Plan, folder: Path, prompt: list[int], tokens: int, rounds: int
) -> tuple[Ratio, bool]:
    """Decode rates, and whether both sides drew the same tokens."""
    mlx_lm = load_mlx_lm(folder)
    with our_engine(folder) as engine:
        turns = in_turn(
            lambda: run_ours(engine, [prompt], tokens)[0],
            lambda: run_single(mlx_lm, prompt, tokens),
            rounds=rounds,
            done=plan.tick,
        )
    ours, theirs = turns.ours, turns.theirs
    ratio = ratio_of([o.decode_rate for o in ours], [o.decode_rate for o in theirs])
    return ratio, all(a.tokens == b.tokens for a, b in zip(ours, theirs, strict=True))
