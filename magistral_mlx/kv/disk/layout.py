"""A KV cache as NumPy arrays, in the order of a file, and back."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.safetensors_header import TensorSpec
from magistral_mlx.device import safetensors_name
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.kv.disk.file import Rows
from magistral_mlx.kv.quantised import empty_cache


class KVLayout:
    """The arrays of one model's caches at one precision, named "part.layer.array"."""

    def __init__(self, config: ModelConfig, dtype: mx.Dtype, precision: KVPrecision) -> None:
        """dtype: the compute type."""
        self._config = config
        self._precision = precision
        # With one token more than stay as computed, no part is empty. Nothing is evaluated.
        example = empty_cache(config, precision)
        shape = (1, config.num_key_value_heads, precision.start + 1, config.head_dim)
        rows = mx.zeros(shape, dtype)
        queries = mx.zeros((1, config.num_attention_heads, 0, config.head_dim), dtype)
        example.attend(0, queries, rows, rows, scale=1.0)
        self._parts = [part.arrays for part in example._parts]

    def tensors(self, length: int) -> tuple[TensorSpec, ...]:
        """Name, type and shape of all arrays of a cache with `length` tokens, in order."""
        lengths = empty_cache(self._config, self._precision)._split(length)
        return tuple(
            TensorSpec(
                f"{part}.{layer}.{index}",
                safetensors_name(array.dtype),
                (1, array.shape[1], tokens, array.shape[3]),
            )
            for part, (arrays, tokens) in enumerate(zip(self._parts, lengths, strict=True))
            for layer in range(self._config.num_hidden_layers)
            for index, array in enumerate(arrays)
            if tokens
        )

    def rows(self, cache: KVCache) -> Iterator[Rows]:
        """Copies of the cache's arrays in that order, made one by one."""
        for part in cache._parts:
            for layer in range(part.layers if part.length else 0):
                for array in part.read(layer):
                    yield _to_numpy(array)

    def cache(self, rows: Iterator[Rows], *, stored: int, length: int) -> KVCache:
        """A cache of the first `length` tokens, from the arrays of `stored` tokens."""
        cache = empty_cache(self._config, self._precision)
        lengths, all_tokens = cache._split(length), cache._split(stored)
        for number, part in enumerate(cache._parts):
            arrays, keep = self._parts[number], lengths[number]
            for layer in range(part.layers if all_tokens[number] else 0):
                values = [_to_mlx(next(rows)[..., :keep, :], like.dtype) for like in arrays]
                if keep:
                    mx.eval(part.write(layer, values))
            part.advance(keep)
        return cache


def _to_numpy(array: mx.array) -> Rows:
    # NumPy has no bfloat16.
    return np.array(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def _to_mlx(rows: Rows, dtype: mx.Dtype) -> mx.array:
    array = mx.array(rows)
    return array.view(dtype) if dtype == mx.bfloat16 else array
