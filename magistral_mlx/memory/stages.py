"""The plan of a model that is divided by layers between machines, which may be unequal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.memory.needs import Budget
from magistral_mlx.memory.byte_counts import tensor_bytes
from magistral_mlx.memory.plan import (
    PREFILL_TOKENS,
    KVPlan,
    MemoryPlan,
    asked_kv_bits,
    choose_window,
    kv_choices,
    kv_reason,
)
from magistral_mlx.ranks.layer_split import check_layers, split_layers
from magistral_mlx.ranks.stage import Stage, stages


@dataclass(frozen=True, slots=True)
class StageNeeds:
    """Bytes that one rank needs."""

    weights: int
    kv: int
    step: int

    @property
    def total(self) -> int:
        """Of all three."""
        return self.weights + self.kv + self.step


@dataclass(frozen=True, slots=True)
class StagesBudget(Budget):
    """As Budget, for all ranks together: config is the whole model's, limit the limits' sum.

    limits: of each rank.
    """

    limits: tuple[MemoryLimit, ...]

    def step(self, bits: int, window: int, *, draws: bool = True) -> int:
        """Bytes of the largest step on all ranks, of which one draws."""
        others = (self.ranks - 1) * Budget.step(self, bits, window, draws=False)
        return Budget.step(self, bits, window, draws=draws) + others

    def on(self, limit: MemoryLimit) -> Self:
        """The same on machines that all have this limit."""
        limits = (limit,) * self.ranks
        return replace(self, limit=all_together(limits), limits=limits)

    def fits(self, bits: int, window: int) -> bool:
        """Whether every rank stays within its limit."""
        tensors = tensor_bytes(self.config, self.dtype)
        return all(
            self._needs(stage, bits, window, tensors).total <= self.limits[stage.rank].bytes
            for stage in self._stages(bits, window, tensors)
        )

    def stages(self, bits: int, window: int) -> tuple[Stage, ...]:
        """Every rank's layers, by its room for their weights and KV."""
        return self._stages(bits, window, tensor_bytes(self.config, self.dtype))

    def needs(self, stage: Stage, bits: int, window: int) -> StageNeeds:
        """What one rank needs."""
        return self._needs(stage, bits, window, tensor_bytes(self.config, self.dtype))

    def _stages(self, bits: int, window: int, tensors: Mapping[str, int]) -> tuple[Stage, ...]:
        count = self.config.num_hidden_layers
        without = [self._needs(stage, bits, window, tensors) for stage in stages((0,) * self.ranks)]
        room = [limit.bytes - each.total for limit, each in zip(self.limits, without, strict=True)]
        # Layers that are stored in different formats count with their mean.
        weights = sum(size for name, size in tensors.items() if name.startswith("model.layers."))
        layer = (weights + self.kv(bits, window)) // count
        return stages(split_layers(count, room, layer))

    def _needs(
        self, stage: Stage, bits: int, window: int, tensors: Mapping[str, int]
    ) -> StageNeeds:
        return StageNeeds(
            weights=stage.weight_bytes(tensors, tied=self.config.tie_word_embeddings),
            kv=self.kv(bits, window) * stage.layers // self.config.num_hidden_layers,
            step=Budget.step(self, bits, window, draws=stage.draws),
        )


def plan_stages(
    config: ModelConfig,
    limits: Sequence[MemoryLimit],
    *,
    dtype: str | None = None,
    window: int | None = None,
    kv_bits: int | None = None,
    sequences: int = 1,
    chunk: int = PREFILL_TOKENS,
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


def all_together(limits: tuple[MemoryLimit, ...]) -> MemoryLimit:
    """The sum of several machines' limits."""
    return MemoryLimit(sum(limit.bytes for limit in limits), f"of {len(limits)} machines together")
