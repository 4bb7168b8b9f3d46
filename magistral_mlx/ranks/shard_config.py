"""The shape of the part of a model that one rank has."""

from dataclasses import replace

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.quantization import choices
from magistral_mlx.checkpoint.weight_shapes import plain_shapes
from magistral_mlx.errors import RequestError


def shard_config(config: ModelConfig, ranks: int) -> ModelConfig:
    """The shape of one rank's part.

    Raises RequestError when the model cannot be divided so.
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
