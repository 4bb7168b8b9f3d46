"""The keys and values of one sequence at 8 or 4 bits, and attention that reads them as stored.

Groups run along a head, so every token is quantised alone, when it is stored, and a query sees its
own token as stored. So the result does not depend on the chunks that a sequence was prefilled in,
nor on trimming, copying or reuse. The arithmetic is that of mlx-lm's quantised attention.
"""

from collections.abc import Sequence

import mlx.core as mx

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.errors import RequestError
from magistral_mlx.kv.cache import KVCache, KVPrecision, causal_attention, in_query_blocks
from magistral_mlx.kv.storage import KVStorage


def empty_cache(config: ModelConfig, precision: KVPrecision) -> KVCache:
    """An empty cache for one sequence. Raises RequestError as QuantisedKVCache does."""
    if precision.bits is None:
        return KVCache(config.num_hidden_layers)
    return QuantisedKVCache(config.num_hidden_layers, config.head_dim, precision)


class QuantisedKVCache(KVCache):
    """A KVCache whose tokens from `precision.start` on are quantised.

    Its first part holds the tokens before (keys, values), the second the others as `mx.quantize`
    returns them: packed, scales and biases of the keys, then of the values.
    """

    def __init__(self, layers: int, head_dim: int, precision: KVPrecision) -> None:
        """An empty cache. Raises RequestError as `kv_group` does."""
        assert precision.bits is not None
        self.precision = precision
        self._bits = precision.bits
        self._group = kv_group(head_dim)
        self._parts = [KVStorage(layers, most=precision.start), KVStorage(layers)]

    def attend(
        self, layer: int, queries: mx.array, keys: mx.array, values: mx.array, *, scale: float
    ) -> mx.array:
        """As KVCache.attend. Scores exist only for a block of queries at a time."""
        length, count = self.length + keys.shape[2], queries.shape[2]
        plain, packed = self.update(layer, keys, values)
        # Queries of the first tokens, which are not quantised, see no quantised token.
        early = min(count, max(0, self.precision.start - (length - count)))
        if early == count:
            return causal_attention(queries, plain[0], plain[1], scale) if count else queries

        def block(part: mx.array, seen: int) -> mx.array:
            visible = [array[..., : seen - self.precision.start, :] for array in packed]
            return self._attend(part * scale, plain, visible)

        late = in_query_blocks(queries[:, :, early:], length, block)
        if early == 0:
            return late
        first = causal_attention(queries[:, :, :early], plain[0], plain[1], scale)
        return mx.concatenate([first, late], axis=2)

    def update(self, layer: int, keys: mx.array, values: mx.array) -> list[list[mx.array]]:
        """As KVCache.update; either part may be empty."""
        new = keys.shape[2]
        early = min(new, self.precision.start - self._parts[0].length)
        plain = self._parts[0].write(layer, [keys[:, :, :early], values[:, :, :early]])
        if early == new:
            return [plain, self._parts[1].read(layer)]
        rows = [*self._quantised(keys[:, :, early:]), *self._quantised(values[:, :, early:])]
        return [plain, self._parts[1].write(layer, rows)]

    def _split(self, length: int) -> list[int]:
        plain = min(length, self.precision.start)
        return [plain, length - plain]

    def _quantised(self, rows: mx.array) -> Sequence[mx.array]:
        return mx.quantize(rows, group_size=self._group, bits=self._bits)

    def _attend(
        self, queries: mx.array, plain: Sequence[mx.array], packed: Sequence[mx.array]
    ) -> mx.array:
        """Attention of scaled queries, of the last positions; all of them see all of `plain`."""
        heads, count, head_dim = queries.shape[1:]
        kv_heads = packed[0].shape[1]
        # The query heads of one KV head are rows of one product.
        rows = queries.reshape(1, kv_heads, -1, head_dim)
        scores = self._product(rows, packed[:3], transpose=True)  # (1, kv_heads, rows, seen)
        if count > 1:
            scores = _masked(scores, count)
        split = 0
        if plain:
            split = plain[0].shape[2]
            scores = mx.concatenate([rows @ plain[0].swapaxes(2, 3), scores], axis=-1)
        weights = mx.softmax(scores, axis=-1, precise=True)
        result = self._product(weights[..., split:], packed[3:], transpose=False)
        if plain:
            result = result + weights[..., :split] @ plain[1]
        return result.reshape(1, heads, count, head_dim)

    def _product(self, x: mx.array, packed: Sequence[mx.array], *, transpose: bool) -> mx.array:
        weight, scales, biases = packed
        return mx.quantized_matmul(
            x, weight, scales, biases, transpose, group_size=self._group, bits=self._bits
        )


def _masked(scores: mx.array, count: int) -> mx.array:
    """Mask later positions for each of the last `count` queries; rows are (head, position)."""
    kv_heads, _, length = scores.shape[1:]
    own = mx.arange(length - count, length)[:, None]
    by_position = scores.reshape(1, kv_heads, -1, count, length)
    # `where` can reuse the memory of the scores; adding a mask would copy them.
    return mx.where(mx.arange(length) <= own, by_position, -mx.inf).reshape(scores.shape)


def kv_group(head_dim: int) -> int:
    """Values of a head that share a scale and a bias. Raises RequestError if no group fits."""
    for size in (64, 32):
        if head_dim % size == 0:
            return size
    raise RequestError(
        f"Heads of {head_dim} values cannot be quantised in groups of 64 or 32: "
        "choose a KV cache of 16 bits."
    )
