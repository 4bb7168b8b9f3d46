"""How a model is divided between ranks: every layer by its heads, or the layers themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import choices
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.errors import RequestError

Split = Literal["heads", "layers"]
"""heads: each rank has some heads and a part of the MLP of every layer; layers: whole layers."""


def shard_config(config: ModelConfig, ranks: int) -> ModelConfig:
    """The shape of one rank's part of the heads.

    Raises RequestError when the heads cannot be divided between this number of ranks.
    """
    if ranks == 1:
        return config
    if not _divides(config, ranks):
        fitting = [n for n in range(2, config.num_key_value_heads + 1) if _divides(config, n)]
        raise RequestError(
            f"A model with {config.num_attention_heads} heads, {config.num_key_value_heads} "
            f"key/value heads and {config.intermediate_size:,} rows of MLP cannot be divided "
            f"between {ranks} ranks: use {choices(fitting or [1])}."
        )
    return replace(
        config,
        num_attention_heads=config.num_attention_heads // ranks,
        num_key_value_heads=config.num_key_value_heads // ranks,
        intermediate_size=config.intermediate_size // ranks,
    )


def _divides(config: ModelConfig, ranks: int) -> bool:
    """Whether every rank gets whole heads, and whole groups of quantised values."""
    parts = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
    if ranks < 1 or any(part % ranks for part in parts):
        return False
    for name, shape in plain_shapes(config).items():
        quantization = config.quantization_of(name.removesuffix(".weight"))
        by_columns = name.endswith(("o_proj.weight", "down_proj.weight"))
        if by_columns and quantization and shape[1] % (ranks * quantization.group_size):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """Layers start to stop of the model.

    Ranks go backwards, as in mlx-lm: the last has the embedding and the first layers, rank 0 the
    last layers and the head. So the logits are where tokens are drawn.
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
        """Number of layers."""
        return self.stop - self.start

    def part_of(self, config: ModelConfig) -> ModelConfig:
        """The shape of its caches."""
        return replace(config, num_hidden_layers=self.layers)

    def weight_bytes(self, tensors: Mapping[str, int], *, tied: bool) -> int:
        """Bytes of its weights, from those of all tensors; tied: the embedding is also the head."""
        layers = (f"model.layers.{index}." for index in range(self.start, self.stop))
        prefixes = [*layers, "model.norm."]
        if self.embeds or (self.draws and tied):
            prefixes.append("model.embed_tokens.")
        if self.draws:
            prefixes.append("lm_head.")
        return sum(size for name, size in tensors.items() if name.startswith(tuple(prefixes)))


def stages(layers: Sequence[int]) -> tuple[Stage, ...]:
    """The stages of all ranks, from the number of layers of each."""
    size = len(layers)
    starts = [sum(layers[rank + 1 :]) for rank in range(size)]
    return tuple(
        Stage(rank, size, start, start + count)
        for rank, (start, count) in enumerate(zip(starts, layers, strict=True))
    )


def check_layers(config: ModelConfig, ranks: int) -> None:
    """Raise RequestError when there are more ranks than layers."""
    if config.num_hidden_layers < ranks:
        raise RequestError(
            f"A model with {config.num_hidden_layers} layers cannot be divided between {ranks} "
            f"ranks by layers: use {config.num_hidden_layers} at most."
        )


def split_layers(layers: int, room: Sequence[int], layer_bytes: int) -> tuple[int, ...]:
    """Give each layer to the rank with the most room left, and at least one to each.

    If any division fits, this one does.

    Args:
        layers: at least the number of ranks.
        room: bytes of each rank beside what it needs without layers; may be negative.
        layer_bytes: bytes of a layer.
    """
    counts = [1] * len(room)
    for _ in range(layers - len(room)):
        left = [free - count * layer_bytes for free, count in zip(room, counts, strict=True)]
        counts[left.index(max(left))] += 1
    return tuple(counts)
