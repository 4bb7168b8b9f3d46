"""The memory plan of a model on this very machine."""

from collections.abc import Sequence

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import compute_dtype, dtype_name, on_cpu
from magistral_mlx.machine import MemoryLimit, machine_limit
from magistral_mlx.memory.plan import MemoryPlan, plan
from magistral_mlx.memory.stages import plan_stages


def plan_for_this_machine(
    config: ModelConfig,
    *,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
    dtype: str | None = None,
    ranks: int = 1,
    limit: MemoryLimit | None = None,
    limits: Sequence[MemoryLimit] = (),
) -> MemoryPlan:
    """`memory.plan` with this machine's limit, compute type and attention.

    Args:
        ranks: processes that the model is divided between.
        limit: of each, if not this machine's.
        limits: of each, where its layers are divided: the plan is rank 0's (`plan_stages`).

    Raises MemoryPlanError when the model, or the window asked for, does not fit.
    """
    if limits:
        return plan_stages_for_this_machine(
            config, limits, window=window, kv_bits=kv_bits, sequences=sequences, dtype=dtype
        )[0]
    return plan(
        config,
        limit or machine_limit(),
        dtype=dtype or _computed(config),
        window=window,
        kv_bits=kv_bits,
        sequences=sequences,
        ranks=ranks,
        on_gpu=_on_gpu(),
    )


def plan_stages_for_this_machine(
    config: ModelConfig,
    limits: Sequence[MemoryLimit],
    *,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
    dtype: str | None = None,
) -> tuple[MemoryPlan, ...]:
    """`plan_stages` with this machine's compute type and attention. Raises as it does."""
    return plan_stages(
        config,
        limits,
        dtype=dtype or _computed(config),
        window=window,
        kv_bits=kv_bits,
        sequences=sequences,
        on_gpu=_on_gpu(),
    )


def _computed(config: ModelConfig) -> str:
    return dtype_name(compute_dtype(config.dtype))


def _on_gpu() -> bool:
    return not on_cpu()
