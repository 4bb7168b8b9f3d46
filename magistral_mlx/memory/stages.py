"""The plan of a model that is divided by layers between machines, which may be unequal."""

from collections.abc import Sequence
from dataclasses import replace

from magistral_mlx.memory.plan import (
    PREFILL_CHUNK,
    KVPlan,
    MemoryPlan,
    asked_kv_bits,
    choose_window,
    kv_choices,
    kv_reason,
)
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.ranks.layer_split import check_layers
from magistral_mlx.ranks.stage import Stage
from magistral_mlx.memory.stage_budget import StagesBudget, all_together


def plan_stages(
    config: ModelConfig,
    limits: Sequence[MemoryLimit],
    *,
    dtype: str | None = None,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
    chunk: int = PREFILL_CHUNK,
    on_gpu: bool = True,
) -> tuple[MemoryPlan, ...]:
    """A plan for every rank, with the same window and KV precision, and layers by its limit.

    As many tokens of finished KV are kept on all ranks: what the fullest has room for.

    Args:
        limits: of each rank.
        dtype, window, kv_bits, sequences, chunk, on_gpu: as of `memory.plan`.

    Raises:
        MemoryPlanError: it does not fit, or a KV cache of those bits is not possible.
        RequestError: there are more ranks than layers.
    """
    check_layers(config, len(limits))
    budget = StagesBudget(
        config=config,
        limit=all_together(tuple(limits)),
        dtype=dtype or config.dtype,
        sequences=sequences,
        chunk=chunk,
        on_gpu=on_gpu,
        ranks=len(limits),
        limits=tuple(limits),
    )
    candidates = budget.kv_bits if kv_bits is None else asked_kv_bits(kv_bits, budget)
    chosen, bits, window_reason = choose_window(budget, window, candidates)
    reasons = window_reason, kv_reason(bits, candidates, asked=kv_bits is not None)
    return _plans(budget, bits, chosen, reasons)


def _plans(
    budget: StagesBudget, bits: int, window: int, reasons: tuple[str, ...]
) -> tuple[MemoryPlan, ...]:
    stages = budget.stages(bits, window)
    needs = [budget.needs(stage, bits, window) for stage in stages]
    spares = [limit.bytes - need.total for limit, need in zip(budget.limits, needs, strict=True)]
    prefix_layer = min(
        spare // 2 // stage.layers for spare, stage in zip(spares, stages, strict=True)
    )
    choices = kv_choices(budget, window)
    return tuple(
        MemoryPlan(
            limit=limit.bytes,
            limit_source=limit.source,
            weights=need.weights,
            kv=need.kv,
            step=need.step,
            prefix_cache=prefix_layer * stage.layers,
            headroom=spare - prefix_layer * stage.layers,
            window=window,
            sequences=budget.sequences,
            kv_bits=bits,
            kv_choices=tuple(_share(choice, stage, budget.config) for choice in choices),
            reasons=reasons,
            ranks=budget.ranks,
            layers=tuple(each.layers for each in stages),
        )
        for stage, need, spare, limit in zip(stages, needs, spares, budget.limits, strict=True)
    )


def _share(choice: KVPlan, stage: Stage, config: ModelConfig) -> KVPlan:
    """What a stage has of the KV of all layers."""
    return replace(
        choice,
        bytes_per_token=choice.bytes_per_token * stage.layers // config.num_hidden_layers,
        bytes_at_window=choice.bytes_at_window * stage.layers // config.num_hidden_layers,
    )
