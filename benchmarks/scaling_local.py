"""Steps of 1, 2 and 3 ranks on this machine, and the parts that they should add up from.

Each rank runs this file by itself: with a folder and a number of steps, or "messages" and a number.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.device import DeviceOptions
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.joining import follow, lead
from magistral_mlx.ranks.launch import find_launch
from magistral_mlx.ranks.shard_config import shard_config
from magistral_mlx.ranks.team import Team

SHAPE = ModelConfig(
    vocab_size=2_000,
    hidden_size=384,
    intermediate_size=1_536,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=6,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=1e9,
    max_position_embeddings=4_096,
    tie_word_embeddings=False,
    dtype="float32",
    quantization=Quantization(bits=4, group_size=64),
)
TOKENS = (1, 4)


@dataclass(frozen=True, slots=True)
class Checked:
    """Seconds of a step of so many tokens, as predicted and as measured; the fastest."""

    ranks: int
    tokens: int
    part: float
    all_reduces: float
    measured: float

    @property
    def predicted(self) -> float:
        """One rank's part, by itself, and the messages, by themselves."""
        return self.part + self.all_reduces


def measure(*, steps: int) -> Iterator[Checked]:
    """2 and 3 ranks. Where they are more than the cores, the parts wait for each other."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as scratch:
        whole = write_random_model(Path(scratch) / "whole", SHAPE)
        for ranks in (2, 3):
            part = write_random_model(Path(scratch) / f"part-{ranks}", shard_config(SHAPE, ranks))
            alone = _run(part, steps, ranks=1)
            messages = _run("messages", steps, ranks=ranks)
            together = _run(whole, steps, ranks=ranks)
            for tokens in TOKENS:
                yield Checked(
                    ranks,
                    tokens,
                    alone[f"step {tokens}"] * max(1.0, ranks / cores),
                    messages[f"all-reduces {tokens}"],
                    together[f"step {tokens}"],
                )


def _run(what: Path | str, steps: int, *, ranks: int) -> dict[str, float]:
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
    result: dict[str, float] = json.loads(outputs[0])
    return result


def _free_ports(count: int) -> int:
    """The first of so many in a row, below those that connections get by themselves."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def main() -> None:
    """Print the fastest as JSON; ranks other than 0 print nothing."""
    what, steps = sys.argv[1], int(sys.argv[2])
    result = _time_messages(steps) if what == "messages" else _time_steps(Path(what), steps)
    print(json.dumps(result))


def _time_messages(steps: int) -> dict[str, float]:
    """The all-reduces of a step's layers, one hanging on the other, and nothing else."""
    group = mx.distributed.init(strict=True, backend="ring")

    def messages(tokens: int) -> Callable[[], None]:
        def send() -> None:
            hidden = mx.zeros((tokens, SHAPE.hidden_size))
            for _ in range(2 * SHAPE.num_hidden_layers):
                hidden = mx.distributed.all_sum(hidden, group=group)
            mx.eval(hidden)

        return send

    return {f"all-reduces {n}": _fastest(steps, messages(n)) for n in TOKENS}


def _time_steps(folder: Path, steps: int) -> dict[str, float]:
    """Steps at the beginning of a sequence; a process on its own is one rank."""
    checkpoint = open_checkpoint(folder)
    launch = find_launch(os.environ)
    if launch is not None and launch.rank > 0:
        follow(launch, checkpoint)
    team = lead(launch, checkpoint) if launch else Team()
    decoder = team.load(checkpoint, DeviceOptions())
    result = {f"step {n}": _fastest(steps, _stepper(decoder, n)) for n in TOKENS}
    team.close()
    return result


def _stepper(decoder: Decoder, tokens: int) -> Callable[[], None]:
    def step() -> None:
        ids = mx.arange(tokens, dtype=mx.int32) + 1_000
        mx.eval(decoder(ids, [Segment(decoder.make_cache(), tokens, 1)]))

    return step


def _fastest(count: int, work: Callable[[], None]) -> float:
    """Seconds. Only noise makes a step slower."""
    work()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
