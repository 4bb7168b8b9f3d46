"""What drawing a token costs at 131,072 logits, beside mlx-lm's sampler in the same run.

    python benchmarks/sampling.py [--rounds 40]

Rows are normal noise, which is harder than a language model's logits: the probability is spread.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler
from rich.console import Console

from magistral_mlx.bench.report_parts import json_line, records_table
from magistral_mlx.bench.spread import seconds_of
from magistral_mlx.sampling.sampler import Draw, Sampler, SamplingParams

VOCAB = 131_072
ROWS = (1, 4, 8)
SPREAD = 3.5
OURS, THEIRS, GREEDY = "magistral-mlx", "mlx-lm", "argmax"


def main() -> None:
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, help="rows of logits for each size")
    rounds = parser.parse_args().rounds
    results = [measure(rows, rounds) for rows in ROWS]
    columns = {
        "rows": "{rows:.0f}",
        **{name: f"{{{name}:.2f}}" for name in (OURS, THEIRS, GREEDY)},
        "mlx-lm / ours": "{ratio:.1f}",
        "not drawn again": "{decided:.1%}",
    }
    Console().print(records_table(f"Sampling from {VOCAB:,} logits, ms a step", columns, results))
    print(json_line("sampling", {"rounds": rounds, "results": results}))


def measure(rows: int, rounds: int) -> dict[str, float]:
    """Median milliseconds per step, the median ratio, and how often the short way was enough."""
    sampler = Sampler()
    draws = [Draw(SamplingParams(), seed=row, position=0) for row in range(rows)]
    theirs = make_sampler(temp=0.7, top_p=0.95)
    samplers: dict[str, Callable[[mx.array], object]] = {
        OURS: lambda logits: mx.eval(*_outcome(sampler, logits, draws)),
        THEIRS: lambda logits: mx.eval(theirs(logits - mx.logsumexp(logits, -1, keepdims=True))),
        GREEDY: lambda logits: mx.eval(mx.argmax(logits, axis=-1)),
    }
    times: dict[str, list[float]] = {name: [] for name in samplers}
    decided = 0.0
    for number in range(rounds + 1):
        # Fresh logits: sampling the same row again is several times faster.
        logits = mx.random.normal((rows, VOCAB), key=mx.random.key(number)) * SPREAD
        mx.eval(logits)
        for name, draw in samplers.items():
            times[name].append(1e3 * seconds_of(partial(draw, logits)))
        decided += float(np.mean(np.array(_outcome(sampler, logits, draws)[1]))) / (rounds + 1)
    kept = {name: values[1:] for name, values in times.items()}  # the first warms up
    medians = {name: statistics.median(values) for name, values in kept.items()}
    ratio = statistics.median(b / a for a, b in zip(kept[OURS], kept[THEIRS], strict=True))
    found = {"rows": rows, **medians, "ratio": ratio, "decided": decided}
    return {name: round(value, 3) for name, value in found.items()}


def _outcome(sampler: Sampler, logits: mx.array, draws: list[Draw]) -> tuple[mx.array, mx.array]:
    """Tokens, and which of them need not be drawn again from all logits."""
    sampled = sampler.sample(logits, draws)
    return sampled.tokens, mx.array(True) if sampled.exact is None else sampled.exact


if __name__ == "__main__":
    main()
