"""How many layers each rank has, when a model is divided by layers."""

from collections.abc import Sequence
from typing import Literal

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.errors import RequestError

Split = Literal["heads", "layers"]
"""What a model is divided by: every layer's heads and MLP, or layers as they are."""


def check_layers(config: ModelConfig, ranks: int) -> None:
    """Raise RequestError when there is not a layer for every rank."""
    if config.num_hidden_layers < ranks:
        raise RequestError(
            f"A model with {config.num_hidden_layers} layers cannot be divided between {ranks} "
            f"ranks by layers: use {config.num_hidden_layers} at most."
        )


def split_layers(layers: int, room: Sequence[int], layer_bytes: int) -> tuple[int, ...]:
    """One layer after the other to the rank with the most room left, and at least one to each.

    Whatever division fits, this one does.

    Args:
        layers: at least as many as ranks.
        room: bytes of each rank beside what it needs whatever its layers; may be negative.
        layer_bytes: that a layer takes.
    """
    counts = [1] * len(room)
    for _ in range(layers - len(room)):
        left = [free - count * layer_bytes for free, count in zip(room, counts, strict=True)]
        counts[left.index(max(left))] += 1
    return tuple(counts)
