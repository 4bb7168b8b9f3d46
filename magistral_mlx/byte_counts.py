"""Bytes of weights, KV cache and activations, from a checkpoint's shapes. Nothing is loaded."""

from math import prod

from magistral_mlx.model_config import ModelConfig
from magistral_mlx.weight_shapes import weight_shapes

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

SCORE_BYTES = 2 * 4 * 4 * 2**20
"""A block of attention scores and its softmax where attention is not fused (`kv_cache`)."""


def weight_bytes(config: ModelConfig, dtype: str) -> int:
    """All tensors in memory. Packed ones stay as stored; scales, biases and the rest take dtype."""
    shapes = weight_shapes(config)
    packed = {name.removesuffix("scales") + "weight" for name in shapes if name.endswith(".scales")}
    return sum(
        prod(shape) * (4 if name in packed else DTYPE_BYTES[dtype])
        for name, shape in shapes.items()
    )


def kv_bytes_per_token(config: ModelConfig, dtype: str, *, bits: int) -> int:
    """Keys and values of one token in all layers.

    bits: those of dtype, or fewer for a quantised cache: groups of 64 values (32 where a head is
    not a multiple of 64), each with a scale and a bias.
    """
    size = DTYPE_BYTES[dtype]
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    if bits == 8 * size:
        return values * size
    group = 64 if config.head_dim % 64 == 0 else 32
    return values * bits // 8 + values // group * 2 * size


def step_bytes(
    config: ModelConfig, dtype: str, *, tokens: int, sampled: int, window: int, fused: bool
) -> int:
    """Most that one step holds beside weights and KV: its activations and a layer of KV growing.

    Args:
        tokens: on the token axis, prefill and decode together.
        sampled: positions whose logits are computed.
        window: length of the longest sequence.
        fused: attention runs as one kernel (GPUs), so its scores never exist in memory.
    """
    size = DTYPE_BYTES[dtype]
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer_kv = 2 * window * keys * size
    residual = 3 * tokens * config.hidden_size * size
    mlp = 3 * tokens * config.intermediate_size * size  # gate, its activation, up
    # qkv, its rotated and split copies, the output; the old storage of a layer that grows.
    attention = tokens * (4 * queries + 4 * keys) * size + layer_kv
    if not fused:
        attention += SCORE_BYTES + layer_kv
    logits = 3 * sampled * config.vocab_size * 4  # as computed, tempered, exponentiated
    return residual + max(mlp, attention, logits)
