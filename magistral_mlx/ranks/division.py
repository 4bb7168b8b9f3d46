"""What one rank has of a model that is divided by layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from magistral_mlx.checkpoint.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers start to stop of the model.

    Ranks go backwards, as mlx-lm has them: the last has the embedding and the first layers, and
    rank 0 the last layers and the head. So the logits are where tokens are drawn.
    """

    rank: int
    ranks: int
    start: int
    stop: int

    @property
    def embeds(self) -> bool:
        """Whether it begins with token ids."""
        return self.rank == self.ranks - 1

    @property
    def draws(self) -> bool:
        """Whether it ends with logits."""
        return self.rank == 0

    @property
    def layers(self) -> int:
        """How many it has."""
        return self.stop - self.start

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of its caches."""
        return replace(config, num_hidden_layers=self.layers)

    def weight_bytes(self, tensors: Mapping[str, int], *, tied: bool) -> int:
        """Bytes of its weights, from those of all tensors; tied: the embedding is the head, too."""
        layers = (f"model.layers.{index}." for index in range(self.start, self.stop))
        prefixes = [*layers, "model.norm."]
        if self.embeds or (self.draws and tied):
            prefixes.append("model.embed_tokens.")
        if self.draws:
            prefixes.append("lm_head.")
        return sum(size for name, size in tensors.items() if name.startswith(tuple(prefixes)))


def stages(layers: Sequence[int]) -> tuple[Stage, ...]:
    """By rank, the stages of ranks with so many layers each."""
    size = len(layers)
    starts = [sum(layers[rank + 1 :]) for rank in range(size)]
    return tuple(
        Stage(rank, size, start, start + count)
        for rank, (start, count) in enumerate(zip(starts, layers, strict=True))
    )
