"""The plan of a model whose layers are divided between unequal Macs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import magistral_mlx
from magistral_mlx.demo.random_model import write_random_model
from magistral_mlx.errors import RequestError
from magistral_mlx.machine import GIB, MemoryLimit, mac_limit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, tensor_bytes, weight_bytes
from magistral_mlx.memory.needs import Workload
from magistral_mlx.memory.plan import LEAST_WINDOW, MemoryPlanError, magistral_small, plan
from magistral_mlx.memory.stages import plan_stages
from magistral_mlx.ranks.division import split_layers, stages
from magistral_mlx.terminal.cli import app
from tests.ranks.test_ranks import SHAPE

SMALL = magistral_small()


@pytest.mark.parametrize("ranks", [2, 3, 4, 7])
def test_equal_machines_get_equal_parts_within_one_layer(ranks: int) -> None:
    counts = split_layers(40, [100] * ranks, 3)
    assert sum(counts) == 40
    assert max(counts) - min(counts) <= 1


def test_a_layer_goes_to_the_rank_with_the_most_room_left() -> None:
    assert split_layers(10, [60, 30, 20], 10) == (6, 3, 1)
    assert split_layers(3, [-50, 90], 10) == (1, 2)  # at least one each, whatever there is room for


def test_whatever_division_fits_is_found() -> None:
    room, layer = [35, 12, 71], 10
    counts = split_layers(11, room, layer)  # 3 + 1 + 7: no other division fits
    assert all(count * layer <= free for count, free in zip(counts, room, strict=True))


def test_the_first_layers_are_the_last_ranks_and_every_tensor_has_its_place() -> None:
    parts = stages((3, 2, 5))
    assert [(part.start, part.stop) for part in parts] == [(7, 10), (5, 7), (0, 5)]
    tensors = tensor_bytes(replace(SMALL, num_hidden_layers=10), "bfloat16")
    sizes = [part.weight_bytes(tensors, tied=False) for part in parts]
    norm = tensors["model.norm.weight"]
    assert sum(sizes) == sum(tensors.values()) + 2 * norm  # every rank has the norm
    tied = [part.weight_bytes(tensors, tied=True) for part in parts]
    embedding = sum(size for name, size in tensors.items() if "embed_tokens" in name)
    assert [more - less for more, less in zip(tied, sizes, strict=True)] == [embedding, 0, 0]


@pytest.mark.parametrize("sizes", [(16, 24), (24, 16), (8, 16), (8, 16, 16), (8, 8, 8), (16, 64)])
def test_every_rank_stays_within_its_limit_at_the_window_of_all(sizes: tuple[int, ...]) -> None:
    made = plan_stages(SMALL, macs(sizes))
    assert sum(made[0].layers) == 40
    for one, limit in zip(made, macs(sizes), strict=True):
        assert one.weights + one.kv + one.step + one.prefix_cache + one.headroom == limit.bytes
        assert min(one.prefix_cache, one.headroom) >= 0
    assert len({(one.window, one.kv_bits, one.layers) for one in made}) == 1
    assert sum(one.weights for one in made) >= weight_bytes(SMALL, "bfloat16")
    tokens = kv_bytes_per_token(SMALL, "bfloat16", bits=made[0].kv_bits)
    assert sum(one.kv for one in made) == tokens * made[0].window


@pytest.mark.parametrize("sizes", [(16, 24), (24, 16), (8, 16, 16), (16, 64)])
def test_the_tokens_that_rank_0_keeps_have_room_on_the_fullest_rank(sizes: tuple[int, ...]) -> None:
    made = plan_stages(SMALL, macs(sizes))
    kept = made[0].kv + made[0].prefix_cache  # what the engine is given
    for one, count in zip(made, made[0].layers, strict=True):
        assert kept * count // made[0].layers[0] <= one.kv + one.prefix_cache + 40
        assert kept * count // made[0].layers[0] <= one.limit - one.weights - one.step


def test_unequal_macs_hold_what_the_smaller_ones_heads_do_not() -> None:
    with pytest.raises(MemoryPlanError):
        plan(SMALL, mac_limit(8 * GIB), ranks=2)
    made = plan_stages(SMALL, macs((8, 16)))
    assert made[0].window == 40_960
    assert made[0].layers[0] < made[0].layers[1]


def test_the_window_is_the_longest_that_all_hold() -> None:
    made = plan_stages(SMALL, macs((8, 8, 8)))[0]
    assert LEAST_WINDOW < made.window < 40_960
    longer = Workload(window=made.window + 256, kv_bits=made.kv_bits)
    with pytest.raises(MemoryPlanError, match=f"a window of {made.window:,}"):
        plan_stages(SMALL, macs((8, 8, 8)), longer)


def test_what_would_fit_speaks_of_as_many_macs() -> None:
    with pytest.raises(MemoryPlanError, match=r"of 2 machines together.*2 Macs with 16 GB"):
        plan_stages(SMALL, macs((8, 8)))


def test_more_ranks_than_layers_are_refused() -> None:
    with pytest.raises(RequestError, match="40 layers cannot be divided between 41 ranks"):
        plan_stages(SMALL, macs((16,) * 41))


def test_the_command_plans_for_unequal_macs() -> None:
    said = printed("--memory", "16GB,24GB", "--json")
    made = json.loads(said)["ranks"]
    assert [one["limit"] for one in made] == [limit.bytes for limit in macs((16, 24))]
    layers = made[0]["layers"]
    assert layers[0] < layers[1]
    table = printed("--memory", "16GB,24GB")
    assert [line.split()[3] for line in table.splitlines()[2:4]] == [str(n) for n in layers]


def test_the_command_plans_for_three_equal_macs_which_heads_do_not_divide_by() -> None:
    made = json.loads(printed("--memory", "16GB", "--ranks", "3", "--json"))["ranks"]
    assert max(made[0]["layers"]) - min(made[0]["layers"]) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--split", "layers"], "for several ranks"),
        (["--split", "layers", "--memory", "16GB,24GB", "--ranks", "3"], "names 2 Macs"),
        (["--split", "layers", "--ranks", "2", "--macs"], "leave out --split"),
        (["--memory", "16GB,24GB"], "or --split layers"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], said: str) -> None:
    shown = CliRunner().invoke(app, ["plan", *options])
    assert shown.exit_code == 2
    assert said in " ".join(shown.output.split())


def test_one_process_cannot_divide_its_layers(tmp_path: Path) -> None:
    folder = write_random_model(tmp_path / "small", SHAPE)
    with pytest.raises(RequestError, match="--split layers needs several ranks"):
        magistral_mlx.open_model(folder, split="layers")


def macs(sizes: Sequence[int]) -> list[MemoryLimit]:
    return [mac_limit(size * GIB) for size in sizes]


def printed(*options: str) -> str:
    shown = CliRunner().invoke(app, ["plan", "--split", "layers", *options])
    assert shown.exit_code == 0, shown.output
    return shown.output
