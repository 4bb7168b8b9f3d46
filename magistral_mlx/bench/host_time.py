"""Processor time per token, ours and mlx-lm's: on a GPU all of it is the host's.

The model has Magistral's depth and almost no width, so what remains is the cost of every step:
building the graph, scheduling, reading tokens. Other programs do not lengthen processor time.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlx.nn as nn
import numpy as np

from magistral_mlx.bench.bench_model import narrow_shape
from magistral_mlx.bench.cases import random_ids
from magistral_mlx.bench.counts import CountedEngine
from magistral_mlx.bench.mlx_lm_contender import load_mlx_lm, run_batch, run_steps
from magistral_mlx.bench.recording import run_ours
from magistral_mlx.bench.spread import in_turn
from magistral_mlx.demo.random_model import write_random_model

LAYERS = 40
PROMPT, TOKENS = 16, 64
STREAMS = (1, 8)
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class HostTime:
    """Seconds of processor time per token, and theirs over ours: medians.

    noise: half the range of the middle half of the ratios.
    """

    ours: float
    theirs: float
    ratio: float
    noise: float


def measure_host_time(
    folder: Path, *, rounds: int = ROUNDS, done: Callable[[], None]
) -> dict[int, HostTime]:
    """By number of streams. folder: to work in. `done` is called after each run."""
    written = write_random_model(folder / "deep", narrow_shape(LAYERS))
    mlx_lm, counted = load_mlx_lm(written), CountedEngine(written)
    prompts = [random_ids(PROMPT, seed=number) for number in range(max(STREAMS))]
    found: dict[int, HostTime] = {}
    with closing(counted.engine):
        for streams in STREAMS:
            sides = (
                partial(_ours, counted, prompts[:streams]),
                partial(_theirs, mlx_lm, prompts[:streams]),
            )
            found[streams] = host_time(*in_turn(sides, rounds=rounds, done=done))
    return found


def _ours(counted: CountedEngine, prompts: Sequence[Sequence[int]]) -> float:
    start = time.process_time()
    run_ours(counted.engine, prompts, TOKENS)
    seconds = time.process_time() - start
    counted.engine.forget_finished()
    return seconds / TOKENS / len(prompts)


def _theirs(mlx_lm: nn.Module, prompts: Sequence[Sequence[int]]) -> float:
    start = time.process_time()
    if len(prompts) == 1:
        run_steps(mlx_lm, prompts[0], TOKENS)
    else:
        run_batch(mlx_lm, prompts, TOKENS)
    return (time.process_time() - start) / TOKENS / len(prompts)


def host_time(ours: list[float], theirs: list[float]) -> HostTime:
    """From seconds per token, round by round."""
    ratios = [other / mine for mine, other in zip(ours, theirs, strict=True)]
    lower, upper = np.percentile(ratios, (25, 75))
    return HostTime(
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        ratio=statistics.median(ratios),
        noise=float(upper - lower) / 2,
    )
