"""The longest wait of a running stream while a long prompt joins, beside `BatchGenerator`."""

import statistics
from dataclasses import dataclass

from rich.table import Table

from magistral_mlx.bench.mlx_lm import MlxLm, load_mlx_lm, their_batch
from magistral_mlx.bench.output import Output
from magistral_mlx.bench.pairs import Ratio, in_turn, ratio_of
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.bench.recording import Recording
from magistral_mlx.engine.engine import Engine

from .measurement import Plan, Result, spread_note
from .ours import our_engine
from .prompts import question_ids

ALONE = 16
"""Tokens of the running stream before the prompt comes."""

MOST = 8_192
"""Tokens that the running stream has at its disposal: more than it takes to prefill the prompt."""

ROWS = {
    "gap before": "usual",
    "gap while it joins, median": "median",
    "gap while it joins, longest": "longest",
    "wait of the joining one": "first_token",
}
"""What the table says, and the field that it says it of."""


@dataclass(frozen=True, slots=True)
class _Joining:
    """Seconds: gaps of the running stream before and while the other joins, and that one's wait."""

    usual: float
    median: float
    longest: float
    first_token: float


def measure(plan: Plan) -> Result:
    """A prompt of 4,000 tokens joins one stream of the nano (quick: 500)."""
    length, rounds = (500, 1) if plan.quick else (4_000, 2)
    folder = plan.models.nano
    running, joining = question_ids(folder), random_ids(length)
    mlx_lm = load_mlx_lm(folder)
    with our_engine(folder) as engine:
        turns = in_turn(
            lambda: _ours(engine, running, joining),
            lambda: _theirs(mlx_lm, running, joining),
            rounds=rounds,
            done=plan.tick,
            warm_up=False,
        )
    rows = {
        name: [[getattr(each, field) for each in side] for side in (turns.ours, turns.theirs)]
        for name, field in ROWS.items()
    }
    ratios = {name: ratio_of(*sides, inverse=True) for name, sides in rows.items()}
    return _result(ratios, length, rounds)


def _result(ratios: dict[str, Ratio], length: int, rounds: int) -> Result:
    title = f"A prompt of {length:,} tokens joins a stream of the nano, milliseconds"
    table = Table("", "magistral-mlx", "mlx-lm", "theirs / ours", title=title)
    table.caption = spread_note(rounds)
    for name, ratio in ratios.items():
        one, other = (f"{1e3 * value:,.0f}" for value in (ratio.ours, ratio.theirs))
        table.add_row(name, one, other, ratio.cells()[2])
    figures: dict[str, object] = {"prompt": length}
    named = {f"{ROWS[name]}_s": ratio.json(theirs="mlx_lm") for name, ratio in ratios.items()}
    return Result(table, [figures | named])


def _ours(engine: Engine, running: list[int], joining: list[int]) -> _Joining:
    stream = Recording(engine, running, MOST)
    stream.wait_for(ALONE)
    joined = Recording(engine, joining, 2).wait()
    stream.cancel()
    return _joining(stream.wait(), joined)


def _theirs(mlx_lm: MlxLm, running: list[int], joining: list[int]) -> _Joining:
    with their_batch(mlx_lm) as batch:
        (stream,) = batch.insert([running], MOST)
        while len(batch.outputs[stream].tokens) < ALONE:
            batch.step()
        (joined,) = batch.insert([joining], 2)
        while not batch.outputs[joined].tokens:
            batch.step()
        # The step that gave its first token began with one of the running stream.
        batch.step()
        return _joining(batch.outputs[stream], batch.outputs[joined])


def _joining(stream: Output, joined: Output) -> _Joining:
    meanwhile = stream.gaps(joined.submitted, joined.first)
    return _Joining(
        usual=statistics.median(stream.gaps(stream.first, joined.submitted)),
        median=statistics.median(meanwhile),
        longest=max(meanwhile),
        first_token=joined.first - joined.submitted,
    )
