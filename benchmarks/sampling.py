"""What one sampled token costs at 131,072 logits, beside mlx-lm's sampler in the same run.

    python benchmarks/sampling.py [--rounds 40]

Both draw with temperature 0.7 and top-p 0.95 from the same fresh rows in turn; mlx-lm's sampler
takes log-probabilities, so normalising them is part of its cost. Rows are normal noise, which is
harder than a language model's logits: their probability is spread over more tokens.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import make_sampler
from rich.console import Console
from rich.table import Table

from magistral_mlx.sampling.sampler import Draw, Sampler, SamplingParams

VOCAB = 131_072
ROWS = (1, 4, 8)
SPREAD = 3.5
OURS, THEIRS, GREEDY = "magistral-mlx", "mlx-lm", "argmax"

Drawing = Callable[[mx.array], None]


def main() -> None:
    """Measure, print a table, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rows of logits for each size")
    rounds = parser.parse_args().rounds
    results = [measure(rows, rounds) for rows in ROWS]
    show(results)
    print(json.dumps(report(results, rounds)))


def measure(rows: int, rounds: int) -> dict[str, float]:
    """Median milliseconds a step, the median ratio, and how often the short way was enough."""
    draws = [Draw(SamplingParams(), seed=row, position=0) for row in range(rows)]
    samplers = {OURS: _ours(draws), THEIRS: _mlx_lm(), GREEDY: _argmax}
    times: dict[str, list[float]] = {name: [] for name in samplers}
    exact = 0.0
    for number in range(rounds + 1):
        # Fresh logits: a second look at the same row is several times faster.
        logits = mx.random.normal((rows, VOCAB), key=mx.random.key(number)) * SPREAD
        mx.eval(logits)
        for name, sampler in samplers.items():
            start = time.perf_counter()
            sampler(logits)
            times[name].append(time.perf_counter() - start)
        exact += _decided(logits, draws)
    for values in times.values():
        del values[0]  # warming up
    ratios = [b / a for a, b in zip(times[OURS], times[THEIRS], strict=True)]
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    share = exact / (rounds + 1)
    return {"rows": rows, **milliseconds, "ratio": statistics.median(ratios), "decided": share}


def _ours(draws: list[Draw]) -> Drawing:
    sampler = Sampler()

    def run(logits: mx.array) -> None:
        sampled = sampler.sample(logits, draws)
        mx.eval(sampled.tokens, sampled.exact)

    return run


def _mlx_lm() -> Drawing:
    sampler = make_sampler(temp=0.7, top_p=0.95)

    def run(logits: mx.array) -> None:
        mx.eval(sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True)))

    return run


def _argmax(logits: mx.array) -> None:
    mx.eval(mx.argmax(logits, axis=-1))


def _decided(logits: mx.array, draws: list[Draw]) -> float:
    """The share of rows that need not be drawn again from all logits."""
    exact = Sampler().sample(logits, draws).exact
    return 1.0 if exact is None else float(np.array(exact).mean())


def show(results: list[dict[str, float]]) -> None:
    """Print the results as a table."""
    table = Table(title=f"Sampling from {VOCAB:,} logits, ms a step")
    for column in ("rows", OURS, THEIRS, GREEDY, "mlx-lm / ours", "not drawn again"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            f"{result['rows']:.0f}",
            *(f"{result[name]:.2f}" for name in (OURS, THEIRS, GREEDY)),
            f"{result['ratio']:.1f}",
            f"{result['decided']:.1%}",
        )
    Console().print(table)


def report(results: list[dict[str, float]], rounds: int) -> dict[str, object]:
    """The figures and what they depend on, for a machine to read."""
    return {
        "benchmark": "sampling",
        "date": date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "device": str(mx.default_device()),
        "versions": {name: version(name) for name in ("mlx", "mlx-lm")},
        "rounds": rounds,
        "results": [{k: round(v, 3) for k, v in result.items()} for result in results],
    }


if __name__ == "__main__":
    main()
