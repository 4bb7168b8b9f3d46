"""The plan of a model that is divided between several Macs."""

import pytest
from typer.testing import CliRunner

from magistral_mlx.errors import RequestError
from magistral_mlx.machine import GIB, mac_limit
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, weight_bytes
from magistral_mlx.memory.plan import MemoryPlanError, magistral_small, plan
from magistral_mlx.ranks.division import shard_config
from magistral_mlx.terminal.cli import app

SMALL = magistral_small()


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_parts_add_up_to_the_whole_and_what_every_rank_has(ranks: int) -> None:
    part, whole = shard_config(SMALL, ranks), weight_bytes(SMALL, "bfloat16")
    table = 131_072 * 5_120 * 4.5 / 8  # embedding or head, at 4 bits with scale and bias
    norms = 2 * (2 * 40 + 1) * 5_120
    shared = 2 * table + norms
    assert ranks * (weight_bytes(part, "bfloat16") - shared) == whole - shared
    tokens = kv_bytes_per_token(part, "bfloat16", bits=16)
    assert ranks * tokens == kv_bytes_per_token(SMALL, "bfloat16", bits=16)


def test_two_macs_of_16_gb_hold_what_one_does_not() -> None:
    with pytest.raises(MemoryPlanError):
        plan(SMALL, mac_limit(16 * GIB))
    made = plan(SMALL, mac_limit(16 * GIB), ranks=2)
    assert (made.window, made.kv_bits, made.ranks) == (40_960, 16, 2)
    assert made.weights + made.kv + made.step + made.prefix_cache + made.headroom == made.limit


def test_what_would_fit_speaks_of_as_many_macs() -> None:
    with pytest.raises(MemoryPlanError, match="2 Macs with 16 GB"):
        plan(SMALL, mac_limit(8 * GIB), ranks=2)


def test_a_number_of_ranks_that_cannot_share_the_heads_is_refused() -> None:
    with pytest.raises(RequestError, match=r"between 3 ranks: use 2, 4 or 8\."):
        plan(SMALL, mac_limit(64 * GIB), ranks=3)


def test_the_command_plans_for_several_macs() -> None:
    shown = CliRunner().invoke(app, ["plan", "--ranks", "2", "--memory", "16GB"])
    assert shown.exit_code == 0, shown.output
    assert "Memory of each of 2 ranks" in shown.output
    assert "40,960 tokens at 16 bits" in shown.output
