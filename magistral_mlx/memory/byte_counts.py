"""Bytes of weights, KV cache and activations, computed from a checkpoint's shapes."""

from math import prod

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import FLOAT, stored_type, weight_shapes
from magistral_mlx.device import dtype_of
from magistral_mlx.kv.cache import CPU_SCORES, GPU_SCORES, LEAST_QUERIES

LAYERS_IN_FLIGHT = 2
"""MLX allocates ahead of execution: up to ten operations (CPU) or command buffers (Metal)."""

SCORE_BLOCKS_IN_FLIGHT = 3
"""The same for blocks of queries, if attention is not fused."""


def weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of all tensors in memory. Packed ones stay as stored; all others have type dtype."""
    return sum(tensor_bytes(config, dtype).values())


def tensor_bytes(config: ModelConfig, dtype: str) -> dict[str, int]:
    """The same for every tensor, by name."""
    shapes = weight_shapes(config)
    item = {"U32": 4, "U8": 1, FLOAT: dtype_of(dtype).size}
    return {
        name: prod(shape) * item[stored_type(config, name, shapes)]
        for name, shape in shapes.items()
    }


def kv_bytes_per_token(config: ModelConfig, dtype: str, *, bits: int) -> int:
    """Bytes of the keys and values of one token in all layers.

    bits: those of dtype, or fewer for a quantised cache: groups of 64 values (32 if a head is not
    a multiple of 64), each with a scale and a bias.
    """
    size = dtype_of(dtype).size
    values = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    if bits == 8 * size:
        return values * size
    group = 64 if config.head_dim % 64 == 0 else 32
    return values * bits // 8 + values // group * 2 * size


def step_bytes(
    config: ModelConfig,
    dtype: str,
    *,
    tokens: int,
    sampled: int,
    window: int,
    on_gpu: bool,
    kv_bits: int | None = None,
) -> int:
    """The most that a step needs beside weights and KV: activations, and one layer of KV growing.

    An upper bound, which the tests compare with real steps on MLX's CPU backend.

    Args:
        tokens: on the token axis, prefill and decode together.
        sampled: positions whose logits are computed.
        window: length of the longest sequence.
        on_gpu: whether attention is one kernel, without scores in memory. With quantised KV it
            never is.
        kv_bits: of the KV cache; None: as computed.
    """
    size = dtype_of(dtype).size
    quantised = kv_bits is not None and kv_bits < 8 * size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    # gate, up and their product; qkv, rotated and split; residuals and norms.
    widths = 3 * config.intermediate_size + 4 * (queries + keys + config.hidden_size)
    activations = LAYERS_IN_FLIGHT * tokens * widths * size
    growing = 2 * window * keys * size
    if quantised:
        growing = window * kv_bytes_per_token(config, dtype, bits=kv_bits or 0)
        growing //= config.num_hidden_layers
    logits = 3 * sampled * config.vocab_size * 4  # as computed, tempered, exponentiated
    if on_gpu and not quantised:
        return activations + growing + logits
    scores = max(
        GPU_SCORES if on_gpu else CPU_SCORES, LEAST_QUERIES * config.num_attention_heads * window
    )
    # Scores, masked scores and their softmax, and contiguous keys and values.
    blocks = SCORE_BLOCKS_IN_FLIGHT * (3 * size * scores + growing)
    return activations + growing + logits + blocks
