"""What memory allows: every decoded token reads the weights once, and the KV of its context."""

from math import prod

from magistral_mlx.bench.cases import Case
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.weight_shapes import FLOAT, stored_type, weight_shapes
from magistral_mlx.memory.byte_counts import DTYPE_BYTES, kv_bytes_per_token, weight_bytes


def decode_weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of weights that a step of decoding reads: all but the embedding's other rows."""
    if config.tie_word_embeddings:  # then the head reads the embedding
        return weight_bytes(config, dtype)
    shapes = weight_shapes(config)
    item = {"U32": 4, "U8": 1, FLOAT: DTYPE_BYTES[dtype]}
    embedding = [name for name in shapes if name.startswith("model.embed_tokens.")]
    unread = sum(prod(shapes[n]) * item[stored_type(config, n, shapes)] for n in embedding)
    return weight_bytes(config, dtype) - unread


def step_bytes_read(config: ModelConfig, dtype: str, case: Case) -> float:
    """Bytes that one step reads, which gives a token to every stream."""
    full = 8 * DTYPE_BYTES[dtype]
    bits = full if case.precision.bits is None else case.precision.bits
    kv = kv_bytes_per_token(config, dtype, bits=bits) * case.context * case.streams
    return decode_weight_bytes(config, dtype) + kv


def decode_bound(config: ModelConfig, dtype: str, case: Case, *, bandwidth: float) -> float:
    """Tokens a second of all streams that `bandwidth` bytes a second allow."""
    return case.streams * bandwidth / step_bytes_read(config, dtype, case)
