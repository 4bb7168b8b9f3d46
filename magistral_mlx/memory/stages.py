"""The memory plan of a model whose layers are divided between machines, which may be unequal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.memory.byte_counts import tensor_bytes
from magistral_mlx.memory.needs import Needs, Workload
from magistral_mlx.memory.plan import Choice, KVPlan, MemoryPlan, choose, kv_choices
from magistral_mlx.ranks.division import Stage, check_layers, split_layers, stages


def plan_stages(
    config: ModelConfig, limits: Sequence[MemoryLimit], workload: Workload | None = None
) -> tuple[MemoryPlan, ...]:
    """A plan for every rank, with the same window and KV precision, and layers by its limit.

    All ranks keep the same number of tokens of finished KV: those that the fullest rank can hold.

    Args:
        limits: of each rank.

    Raises:
        MemoryPlanError: it does not fit, or KV of the requested precision is not possible.
        RequestError: there are more ranks than layers.
    """
    check_layers(config, len(limits))
    together, workload = _sum(tuple(limits)), workload or Workload()
    needs = StagedNeeds(config, together, workload, len(limits), tuple(limits))
    return _plans(needs, choose(needs))


@dataclass(frozen=True, slots=True)
class RankBytes:
    """Bytes that one rank needs."""

    weights: int
    kv: int
    step: int

    @property
    def total(self) -> int:
        """Their sum."""
        return self.weights + self.kv + self.step


@dataclass(frozen=True, slots=True)
class StagedNeeds(Needs):
    """The needs of all ranks together: config is the whole model's, limit the sum of limits.

    limits: of each rank.
    """

    limits: tuple[MemoryLimit, ...]

    def step(self, bits: int, window: int, *, draws: bool = True) -> int:
        """Bytes of the largest step on all ranks, of which one draws."""
        others = (self.ranks - 1) * Needs.step(self, bits, window, draws=False)
        return Needs.step(self, bits, window, draws=draws) + others

    def on(self, limit: MemoryLimit) -> Self:
        """The same on machines that all have this limit."""
        limits = (limit,) * self.ranks
        return replace(self, limit=_sum(limits), limits=limits)

    def fits(self, bits: int, window: int) -> bool:
        """Whether every rank stays within its limit."""
        return all(
            need.total <= self.limits[stage.rank].bytes
            for stage, need in self.by_stage(bits, window)
        )

    def by_stage(self, bits: int, window: int) -> list[tuple[Stage, RankBytes]]:
        """Every rank's layers, chosen by its room for their weights and KV, and what it needs."""
        tensors = tensor_bytes(self.config, self.dtype)
        count = self.config.num_hidden_layers
        empty = stages((0,) * self.ranks)
        room = [
            limit.bytes - self._needs(stage, bits, window, tensors).total
            for limit, stage in zip(self.limits, empty, strict=True)
        ]
        # Layers that are stored in different formats count with their mean.
        weights = sum(size for name, size in tensors.items() if name.startswith("model.layers."))
        layer = (weights + self.kv(bits, window)) // count
        divided = stages(split_layers(count, room, layer))
        return [(stage, self._needs(stage, bits, window, tensors)) for stage in divided]

    def _needs(self, stage: Stage, bits: int, window: int, tensors: Mapping[str, int]) -> RankBytes:
        return RankBytes(
            weights=stage.weight_bytes(tensors, tied=self.config.tie_word_embeddings),
            kv=self.kv(bits, window) * stage.layers // self.config.num_hidden_layers,
            step=Needs.step(self, bits, window, draws=stage.draws),
        )


def _plans(needs: StagedNeeds, choice: Choice) -> tuple[MemoryPlan, ...]:
    bits, window = choice.kv_bits, choice.window
    by_stage = needs.by_stage(bits, window)
    layers = tuple(stage.layers for stage, _ in by_stage)
    spares = [
        limit.bytes - need.total for limit, (_, need) in zip(needs.limits, by_stage, strict=True)
    ]
    prefix_layer = min(spare // 2 // count for spare, count in zip(spares, layers, strict=True))
    choices = kv_choices(needs, window)
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
            sequences=needs.workload.sequences,
            kv_bits=bits,
            kv_choices=tuple(_part_of(one, stage, needs.config) for one in choices),
            reasons=choice.reasons,
            ranks=needs.ranks,
            layers=layers,
        )
        for (stage, need), spare, limit in zip(by_stage, spares, needs.limits, strict=True)
    )


def _part_of(choice: KVPlan, stage: Stage, config: ModelConfig) -> KVPlan:
    """The KV of a stage, from that of all layers."""
    return replace(
        choice,
        bytes_per_token=choice.bytes_per_token * stage.layers // config.num_hidden_layers,
        bytes_at_window=choice.bytes_at_window * stage.layers // config.num_hidden_layers,
    )


def _sum(limits: tuple[MemoryLimit, ...]) -> MemoryLimit:
    return MemoryLimit(sum(limit.bytes for limit in limits), f"of {len(limits)} machines together")
