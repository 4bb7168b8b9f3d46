"""The keys and values of one sequence, and attention over them."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Self

import mlx.core as mx

from magistral_mlx.device import on_cpu
from magistral_mlx.errors import RequestError
from magistral_mlx.kv.storage import BLOCK, KVStorage

__all__ = ["BLOCK", "KVCache", "KVPrecision", "causal_attention", "in_query_blocks", "kv_precision"]

CPU_SCORES = 256 * 1024
"""Attention scores to compute at once if attention is not fused: 1 MiB, which fits CPU caches.

1,024 queries of 6 heads over 5,120 positions take 11 MB; all scores at once would be 126 MB.
"""
GPU_SCORES = 4 * 1024 * 1024
"""The same on a GPU, whose kernels need more rows: 8 MiB in 16 bits."""
LEAST_QUERIES = 16
"""Queries to compute at once, even if their scores are more than that."""


@dataclass(frozen=True, slots=True)
class KVPrecision:
    """How keys and values are stored; made by `kv_precision`.

    KV of one precision is never used for another.

    bits: 8 or 4, quantised; None: as computed.
    start: the first `start` tokens stay as computed, at any length.
    """

    bits: int | None = None
    start: int = 0


def kv_precision(bits: int | None, *, start: int = 0) -> KVPrecision:
    """The precision that a user or a memory plan chose.

    Args:
        bits: 8 or 4; 16, 32 or None: the compute type.
        start: tokens at the beginning that are never quantised. Attention depends most on the first
            few (attention sinks: https://arxiv.org/abs/2309.17453). mlx-lm's quantized_kv_start is
            different: there, everything is quantised once a sequence has this length.

    Raises:
        RequestError: a value is outside its range.
    """
    if start < 0:
        raise RequestError(f"KV quantisation cannot start at token {start}: choose 0 or more.")
    if bits in (None, 16, 32):
        return KVPrecision()
    if bits not in (8, 4):
        raise RequestError(f"A KV cache of {bits} bits is not possible: choose 16, 8 or 4.")
    return KVPrecision(bits, start)


class KVCache:
    """Keys and values of one sequence, as computed: (1, kv_heads, capacity, head_dim) a layer.

    A step calls `attend` once for every layer and `advance` once at its end. The arrays are lazy:
    evaluate `arrays` after a step whose logits are not read. QuantisedKVCache stores them smaller.
    """

    precision = KVPrecision()

    def __init__(self, layers: int) -> None:
        self._parts = [KVStorage(layers)]

    @property
    def layers(self) -> int:
        """Number of layers of the model."""
        return self._parts[0].layers

    @property
    def length(self) -> int:
        """Tokens whose keys and values are stored."""
        return sum(part.length for part in self._parts)

    @property
    def arrays(self) -> list[mx.array]:
        """The storage of all layers, for `mx.eval`."""
        return [array for part in self._parts for array in part.arrays]

    @property
    def stored(self) -> mx.array:
        """A scalar whose evaluation computes everything stored so far.

        It keeps no reference to the storage: MLX copies an array that is written to while another
        reference to it exists.
        """
        written = [array for part in self._parts for array in part.last_layer]
        corners = [array[0, 0, 0, 0].astype(mx.float32) for array in written]
        return mx.stack(corners).sum()

    @property
    def nbytes(self) -> int:
        """Bytes of the storage, spare positions included."""
        return sum(array.nbytes for array in self.arrays)

    def trimmed_nbytes(self, length: int) -> int:
        """Bytes of the storage once it is trimmed to `length` tokens."""
        return sum(
            part.nbytes_of(tokens)
            for part, tokens in zip(self._parts, self._split(length), strict=True)
        )

    def reserve(self, length: int) -> None:
        """Let the next allocation hold `length` tokens, so that a prompt's chunks copy nothing."""
        for part, tokens in zip(self._parts, self._split(length), strict=True):
            part.reserve(tokens)

    def attend(
        self, layer: int, queries: mx.array, keys: mx.array, values: mx.array, *, scale: float
    ) -> mx.array:
        """Store the keys and values of new tokens; attend to everything stored.

        Args:
            queries: (1, heads, q, head_dim), of the last q of the new tokens.
            keys, values: (1, kv_heads, n, head_dim), of all n new tokens.

        Returns:
            (1, heads, q, head_dim); every query sees the positions up to its own.
        """
        ((stored_keys, stored_values),) = self.update(layer, keys, values)
        return causal_attention(queries, stored_keys, stored_values, scale)

    def update(self, layer: int, keys: mx.array, values: mx.array) -> list[list[mx.array]]:
        """Store the keys and values of new tokens; return the rows of all tokens, part by part."""
        return [self._parts[0].write(layer, (keys, values))]

    def advance(self, tokens: int) -> None:
        """Count new tokens, which every layer has stored."""
        for part, length in zip(self._parts, self._split(self.length + tokens), strict=True):
            part.advance(length)

    def trim(self, length: int) -> None:
        """Drop all tokens but the first `length`, and free their blocks."""
        assert 0 <= length <= self.length, (length, self.length)
        for part, tokens in zip(self._parts, self._split(length), strict=True):
            part.trim(tokens)

    def copy(self, length: int) -> Self:
        """An independent cache with the first `length` tokens of this one."""
        assert 0 <= length <= self.length, (length, self.length)
        other = copy(self)
        lengths = self._split(length)
        other._parts = [part.copy(n) for part, n in zip(self._parts, lengths, strict=True)]
        return other

    def _split(self, length: int) -> list[int]:
        """How many of the first `length` tokens each part of the storage holds."""
        return [length]


def causal_attention(queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    """Attention of the last q positions over (1, kv_heads, length, head_dim) keys and values."""
    count, length = queries.shape[2], keys.shape[2]
    if count == 1:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)
    if count == 0:
        return queries
    if not on_cpu():  # fused: no scores in memory
        return mx.fast.scaled_dot_product_attention(
            queries, keys, values, scale=scale, mask="causal"
        )

    def block(part: mx.array, seen: int) -> mx.array:
        visible = keys[..., :seen, :], values[..., :seen, :]
        return mx.fast.scaled_dot_product_attention(part, *visible, scale=scale, mask="causal")

    return in_query_blocks(queries, length, block)


def in_query_blocks(
    queries: mx.array, length: int, attend: Callable[[mx.array, int], mx.array]
) -> mx.array:
    """Attention of a few queries at a time, to bound the scores in memory.

    Args:
        queries: (1, heads, q, head_dim), of the last q of `length` positions.
        attend: attention of some queries, given the number of positions that the last one sees.
    """
    heads, count = queries.shape[1:3]
    scores = CPU_SCORES if on_cpu() else GPU_SCORES
    block = min(count, max(LEAST_QUERIES, scores // (heads * length)))
    outputs: list[mx.array] = []
    for start in range(0, count, block):
        stop = min(start + block, count)
        part = queries[:, :, start:stop]
        if outputs:  # or MLX would compute the scores of all blocks first
            (part,) = mx.depends([part], [outputs[-1]])
        outputs.append(attend(part, length - count + stop))
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=2)
