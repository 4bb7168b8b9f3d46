"""What a model that is divided by layers asks of the limits of several machines."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from magistral_mlx.memory.byte_counts import tensor_bytes
from magistral_mlx.memory.budget import Budget
from magistral_mlx.machine import MemoryLimit
from magistral_mlx.ranks.layer_split import split_layers
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


def all_together(limits: tuple[MemoryLimit, ...]) -> MemoryLimit:
    """The sum of several machines' limits."""
    return MemoryLimit(sum(limit.bytes for limit in limits), f"of {len(limits)} machines together")
