"""Steps of 2 and 3 ranks on this machine, and the parts that they should add up from.

One rank's part of a small model is timed by itself, and the all-reduces by themselves; scaling.py
--local shows their sum beside the measured step. Each rank runs this file: with a folder and a
number of steps, or "messages" and a number.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mlx.core as mx

from magistral_mlx.bench.bench_model import random_shape
from magistral_mlx.bench.spread import seconds_of
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import DeviceOptions
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.division import shard_config
from magistral_mlx.ranks.joining import follow, lead
from magistral_mlx.ranks.launch import find_launch
from magistral_mlx.ranks.team import Team

SHAPE = random_shape(4, width=384, heads=(6, 6), vocabulary=2_000, window=4_096)
TOKENS = (1, 4)
MESSAGES = "messages"


def check_ranks(*, steps: int) -> Iterator[dict[str, float]]:
    """Seconds of the fastest step of 2 and of 3 ranks, and of its parts.

    If there are more ranks than cores, their parts wait for each other.
    """
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        whole = write_random_model(Path(scratch) / "whole", SHAPE)
        for ranks in (2, 3):
            part = write_random_model(Path(scratch) / f"part-{ranks}", shard_config(SHAPE, ranks))
            runs = (part, 1), (MESSAGES, ranks), (whole, ranks)
            alone, messages, together = (_run(what, steps, ranks=size) for what, size in runs)
            for index, tokens in enumerate(TOKENS):
                one_part = alone[index] * max(1.0, ranks / cores)
                yield {
                    "ranks": ranks,
                    "tokens": tokens,
                    "part": one_part,
                    "all_reduces": messages[index],
                    "measured": together[index],
                    "ratio": together[index] / (one_part + messages[index]),
                }


def _run(what: Path | str, steps: int, *, ranks: int) -> list[float]:
    """Rank 0's seconds for each number of tokens."""
    port = _free_ports(ranks + 1)
    with tempfile.TemporaryDirectory() as scratch:
        hosts = Path(scratch) / "hosts.json"
        hosts.write_text(json.dumps([[f"127.0.0.1:{port + n}"] for n in range(ranks)]))
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, str(what), str(steps)],
                env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]
        outputs = [process.communicate()[0] for process in processes]
    return [float(seconds) for seconds in json.loads(outputs[0])]


def _free_ports(count: int) -> int:
    """The first of `count` free ports in a row, below those that the system hands out."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def main() -> None:
    """Print rank 0's seconds as JSON; the other ranks print nothing."""
    what, steps = sys.argv[1], int(sys.argv[2])
    print(json.dumps(_time_messages(steps) if what == MESSAGES else _time_steps(what, steps)))


def _time_messages(steps: int) -> list[float]:
    """The all-reduces of a step's layers, each on the result of the one before."""
    group = mx.distributed.init(strict=True, backend="ring")

    def send(tokens: int) -> None:
        hidden = mx.zeros((tokens, SHAPE.hidden_size))
        for _ in range(2 * SHAPE.num_hidden_layers):
            hidden = mx.distributed.all_sum(hidden, group=group)
        mx.eval(hidden)

    return _fastest(steps, send)


def _time_steps(folder: str, steps: int) -> list[float]:
    """Steps at the beginning of a sequence; followers do not return."""
    checkpoint = open_checkpoint(Path(folder))
    launch = find_launch(os.environ)
    if launch is not None and launch.rank > 0:
        follow(launch, checkpoint)
    team = lead(launch, checkpoint) if launch else Team()
    decoder = team.load(checkpoint, DeviceOptions())

    def step(tokens: int) -> None:
        ids = mx.arange(tokens, dtype=mx.int32) + 1_000
        mx.eval(decoder(ids, [Segment(decoder.make_cache(), tokens, 1)]))

    seconds = _fastest(steps, step)
    team.close()
    return seconds


def _fastest(count: int, run: Callable[[int], None]) -> list[float]:
    """Seconds for each number of tokens, after a warm-up: only noise makes a step slower."""
    return [
        min([seconds_of(partial(run, tokens)) for _ in range(count + 1)][1:]) for tokens in TOKENS
    ]


if __name__ == "__main__":
    main()
