"""What memory allows: every decoded token reads the weights once, and the KV of its context."""

from magistral_mlx.bench.cases import Case
from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import dtype_of
from magistral_mlx.memory.byte_counts import kv_bytes_per_token, tensor_bytes, weight_bytes


def decode_weight_bytes(config: ModelConfig, dtype: str) -> int:
    """Bytes of weights that a step of decoding reads: all but the embedding's other rows."""
    if config.tie_word_embeddings:  # then the head reads the embedding
        return weight_bytes(config, dtype)
    tensors = tensor_bytes(config, dtype)
    return sum(tensors[name] for name in tensors if not name.startswith("model.embed_tokens."))


def step_bytes_read(config: ModelConfig, dtype: str, case: Case) -> float:
    """Bytes that one step reads, which gives a token to every stream."""
    full = 8 * dtype_of(dtype).size
    bits = full if case.precision.bits is None else case.precision.bits
    kv = kv_bytes_per_token(config, dtype, bits=bits) * case.context * case.streams
    return decode_weight_bytes(config, dtype) + kv


def decode_bound(config: ModelConfig, dtype: str, case: Case, *, bandwidth: float) -> float:
    """Tokens a second of all streams that `bandwidth` bytes a second allow."""
    return case.streams * bandwidth / step_bytes_read(config, dtype, case)
