"""magistral-mlx bench on two ranks, by mlx.launch as the documents say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from magistral_mlx.bench.bandwidth import decode_weight_bytes
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.memory.byte_counts import kv_bytes_per_token
from magistral_mlx.ranks.division import shard_config
from tests.ranks.rank_processes import mlx_launch
from tests.ranks.test_ranks import SHAPE

WIDER = replace(SHAPE, vocab_size=8_192)  # prompts are made of more ids
AXES = ("--prompts", "40", "--streams", "2", "--kv", "8", "--tokens", "16", "--rounds", "1")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("split", ["heads", "layers"])
def test_rank_0_alone_prints_what_both_measured_beside_the_bound_of_what_is_read_in_turn(
    tmp_path: Path, split: str
) -> None:
    folder = write_random_model(tmp_path / "small", WIDER)
    done = mlx_launch("bench", str(folder), *AXES, "--split", split)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("{"))
    assert done.stdout.count("small between 2 ranks on") == 1
    assert "Predictions" not in done.stdout
    found: dict[str, Any] = json.loads(line)
    assert found["complete"]
    assert found["model"]["ranks"] == 2
    # Two ranks of one machine have as much memory, and rank 0 has the head, too.
    assert found["model"]["layers"] == ([] if split == "heads" else [1, 2])

    read = shard_config(WIDER, 2) if split == "heads" else WIDER
    weights = decode_weight_bytes(read, "float32")
    assert found["model"]["weight_bytes_read_a_step"] == weights
    bandwidth = found["memory_bandwidth"]["fastest_gb_s"] * 1e9
    kv = kv_bytes_per_token(read, "float32", bits=8) * 48 * 2
    (case,) = found["cases"]
    assert (case["streams"], case["kv_bits"]) == (2, 8)
    assert case["decode_bound_tokens_s"] == pytest.approx(2 * bandwidth / (weights + kv), rel=0.01)
    assert case["decode_tokens_s"]["median"] > 0
