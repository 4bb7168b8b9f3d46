"""One model over two and three processes: the tokens, the memory, and what is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import Quantization
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.memory.byte_counts import tensor_bytes, weight_bytes
from magistral_mlx.ranks.division import shard_config, stages
from tests.ranks.rank_processes import outputs, python, ranks, start

SHAPE = ModelConfig(
    vocab_size=2_000,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=3,
    num_attention_heads=12,
    num_key_value_heads=6,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=1e9,
    max_position_embeddings=4_096,
    tie_word_embeddings=False,
    dtype="float32",
    quantization=Quantization(bits=4, group_size=64),
)
HEAVY = replace(
    SHAPE,
    vocab_size=20_000,
    hidden_size=512,
    intermediate_size=4_096,
    num_hidden_layers=6,
    quantization=None,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("ranks") / "small", SHAPE)


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_alone(folder, "all")


@pytest.mark.parametrize("size", [2, 3])
def test_several_ranks_draw_the_tokens_of_one_process_with_every_feature_of_the_engine(
    folder: Path, alone: dict[str, Any], tmp_path: Path, size: int
) -> None:
    command = python("tests.ranks.rank_scenario", str(folder), "all", str(tmp_path))
    check_the_same(run_together([command] * size, tmp_path)[0], alone)


@pytest.mark.parametrize("layers", [(2, 1), (1, 1, 1)])
def test_ranks_with_unequal_layers_draw_the_tokens_of_one_process_with_every_feature(
    folder: Path, alone: dict[str, Any], tmp_path: Path, layers: tuple[int, ...]
) -> None:
    counts = ",".join(map(str, layers))
    command = python("tests.ranks.rank_scenario", str(folder), "all", str(tmp_path), counts)
    check_the_same(run_together([command] * len(layers), tmp_path)[0], alone)


def test_each_rank_holds_its_part_of_the_weights_and_never_the_whole(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "heavy", HEAVY)
    whole = run_alone(folder, "one")["loaded"]
    assert whole >= weight_bytes(HEAVY, "float32")
    command = python("tests.ranks.rank_scenario", str(folder), "one")
    first, second = run_together([command] * 2, tmp_path)
    largest = 4 * HEAVY.intermediate_size * HEAVY.hidden_size
    part = weight_bytes(shard_config(HEAVY, 2), "float32")
    head = 4 * HEAVY.vocab_size * HEAVY.hidden_size
    assert part <= first["loaded"] <= part + 3 * largest
    assert first["loaded"] < 0.65 * whole
    assert second["peak"] < first["peak"] - head / 2


def test_each_rank_holds_its_layers_alone_and_never_another(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "heavy", HEAVY)
    alone = run_alone(folder, "one")
    command = python("tests.ranks.rank_scenario", str(folder), "one", "", "2,4")
    first, second = run_together([command] * 2, tmp_path)
    assert first["one"] == alone["one"]
    tensors = tensor_bytes(HEAVY, "float32")
    parts = [stage.weight_bytes(tensors, tied=False) for stage in stages((2, 4))]
    largest = max(tensors.values())
    assert parts[0] <= first["loaded"] <= parts[0] + largest / 2
    assert parts[1] <= second["peak"] <= parts[1] + largest / 2
    assert parts[0] < 0.5 * alone["loaded"]


def check_the_same(together: dict[str, Any], alone: dict[str, Any]) -> None:
    for name in ("batch", "paused", "quantised", "ruled", "guided", "thinking", "cancelled"):
        assert together[name] == alone[name], name
    assert together["reused"] == alone["reused"]
    assert together["reused"][1] == 115  # 100 of prompt and 16 of output, but for the last
    assert together["idle"] == alone["idle"]
    assert together["logprobs"] == pytest.approx(alone["logprobs"], abs=1e-3)


def run_alone(folder: Path, what: str) -> dict[str, Any]:
    process = start(python("tests.ranks.rank_scenario", str(folder), what), os.environ)
    [output] = outputs([process])
    result: dict[str, Any] = json.loads(output)
    return result


def run_together(commands: list[list[str]], scratch: Path) -> list[dict[str, Any]]:
    """What each rank prints."""
    with ranks(commands, scratch) as processes:
        return [json.loads(output) for output in outputs(processes)]
