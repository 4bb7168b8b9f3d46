"""Processor time a token, ours and mlx-lm's: on a GPU all of it is the host's.

The model has Magistral's depth and next to no width, so that what is left is what every step costs
whatever the width: building the graph, scheduling, reading tokens. Processor time, not time: other
programs do not lengthen it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from magistral_mlx.bench.counted_engine import CountedEngine, small_model
from magistral_mlx.bench.mlx_lm import MlxLm, load_mlx_lm, run_batch, run_one
from magistral_mlx.bench.pairs import in_turn
from magistral_mlx.bench.prompts import random_ids
from magistral_mlx.bench.recording import run_ours
from magistral_mlx.demo.random_model import write_random_model

LAYERS = 40
PROMPT, TOKENS = 16, 64
STREAMS = (1, 8)
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class HostTime:
    """Seconds of processor a token, medians; the quotient's median and noise.

    ratio: theirs over ours, so more is better. noise: half the range of its middle half.
    """

    ours: float
    theirs: float
    ratio: float
    noise: float


def measure_host_time(
    folder: Path, *, rounds: int = ROUNDS, done: Callable[[], None]
) -> dict[int, HostTime]:
    """By number of streams, in turn; a folder to work in; `done` follows each run."""
    written = write_random_model(folder / "deep", small_model(LAYERS, inner=64))
    mlx_lm, counted = load_mlx_lm(written), CountedEngine(written)
    prompts = [random_ids(PROMPT, seed=number) for number in range(max(STREAMS))]
    found: dict[int, HostTime] = {}
    try:
        for streams in STREAMS:
            turns = in_turn(
                partial(_ours, counted, prompts[:streams]),
                partial(_theirs, mlx_lm, prompts[:streams]),
                rounds=rounds,
                done=done,
            )
            found[streams] = host_time(turns.ours, turns.theirs)
    finally:
        counted.engine.close()
    return found


def _ours(counted: CountedEngine, prompts: Sequence[Sequence[int]]) -> float:
    start = time.process_time()
    run_ours(counted.engine, prompts, TOKENS)
    seconds = time.process_time() - start
    counted.engine.forget_finished()
    return seconds / TOKENS / len(prompts)


def _theirs(mlx_lm: MlxLm, prompts: Sequence[Sequence[int]]) -> float:
    start = time.process_time()
    if len(prompts) == 1:
        run_one(mlx_lm, prompts[0], TOKENS)
    else:
        run_batch(mlx_lm, prompts, TOKENS)
    return (time.process_time() - start) / TOKENS / len(prompts)


def host_time(ours: list[float], theirs: list[float]) -> HostTime:
    """Of seconds a token, round by round."""
    quotients = [other / mine for mine, other in zip(ours, theirs, strict=True)]
    if len(quotients) > 1:
        lower, _, upper = statistics.quantiles(quotients, n=4, method="inclusive")
    else:
        lower = upper = quotients[0]
    return HostTime(
        ours=statistics.median(ours),
        theirs=statistics.median(theirs),
        ratio=statistics.median(quotients),
        noise=(upper - lower) / 2,
    )
