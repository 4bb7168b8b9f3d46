"""The keys and values of one sequence, and attention over them."""

import mlx.core as mx

BLOCK = 256
"""Tokens by which the storage grows.

Growing copies the whole cache, but attention reads the whole cache at every token anyway, so
copying it once in 256 tokens adds less than one percent. A prompt reserves its length instead.
"""

_SCORES = 256 * 1024
"""Attention scores to compute at once where attention is not fused: 1 MiB, what caches hold.

With 2,048 queries over 12,288 positions the peak falls from 128 to 28 MiB, and the time by a third.
"""
_LEAST_QUERIES = 16


class KVCache:
    """Keys and values of one sequence: in every layer (1, kv_heads, capacity, head_dim) each.

    A step calls `attend` once for every layer and `advance` once at its end. The arrays are lazy:
    evaluate `arrays` after a step whose logits nobody reads.
    """

    def __init__(self, layers: int) -> None:
        self._keys: list[mx.array | None] = [None] * layers
        self._values: list[mx.array | None] = [None] * layers
        self._length = 0
        self._reserved = 0

    @property
    def layers(self) -> int:
        """Layers of the model that it belongs to."""
        return len(self._keys)

    @property
    def length(self) -> int:
        """Tokens whose keys and values are stored."""
        return self._length

    @property
    def arrays(self) -> list[mx.array]:
        """The storage of all layers, for `mx.eval`."""
        return [array for array in (*self._keys, *self._values) if array is not None]

    @property
    def stored(self) -> mx.array:
        """A scalar that can be evaluated once everything stored so far has been computed.

        It holds on to none of the storage: MLX copies a whole array when it is written to while
        somebody else still has it.
        """
        keys, values = self._keys[-1], self._values[-1]
        assert keys is not None
        assert values is not None
        return keys[0, 0, 0, 0] + values[0, 0, 0, 0]

    @property
    def nbytes(self) -> int:
        """Bytes of the storage, spare positions included."""
        return sum(array.nbytes for array in self.arrays)

    def reserve(self, length: int) -> None:
        """Let the next allocation hold `length` tokens, so that a prompt's chunks copy nothing."""
        self._reserved = length

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
        keys, values = self.update(layer, keys, values)
        return _causal_attention(queries, keys, values, scale)

    def update(self, layer: int, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store the keys and values of new tokens; return those of all tokens."""
        stop = self._length + keys.shape[2]
        self._keys[layer] = stored_keys = self._store(self._keys[layer], keys, stop)
        self._values[layer] = stored_values = self._store(self._values[layer], values, stop)
        return stored_keys[..., :stop, :], stored_values[..., :stop, :]

    def advance(self, tokens: int) -> None:
        """Count the tokens that every layer has stored by now."""
        self._length += tokens

    def trim(self, length: int) -> None:
        """Forget all tokens but the first `length`, and give back the blocks they filled."""
        assert 0 <= length <= self._length, (length, self._length)
        self._length = length
        self._reserved = 0
        capacity = _whole_blocks(length)
        self._keys = [_shrunk(array, capacity) for array in self._keys]
        self._values = [_shrunk(array, capacity) for array in self._values]

    def copy(self, length: int) -> "KVCache":
        """A cache of its own with the first `length` tokens of this one."""
        assert 0 <= length <= self._length, (length, self._length)
        other = KVCache(self.layers)
        other._length = length
        other._keys = [_copied(array, length) for array in self._keys]
        other._values = [_copied(array, length) for array in self._values]
        return other

    def _store(self, stored: mx.array | None, new: mx.array, stop: int) -> mx.array:
        if stored is not None and stop <= stored.shape[2]:
            stored[..., self._length : stop, :] = new
            return stored
        _, heads, _, dim = new.shape
        spare = _whole_blocks(max(stop, self._reserved)) - stop
        parts = [new, mx.zeros((1, heads, spare, dim), new.dtype)]
        if stored is not None:
            parts.insert(0, stored[..., : self._length, :])
        return mx.concatenate(parts, axis=2)


def _whole_blocks(tokens: int) -> int:
    return -(-tokens // BLOCK) * BLOCK


def _shrunk(stored: mx.array | None, capacity: int) -> mx.array | None:
    if stored is None or stored.shape[2] <= capacity:
        return stored
    # A slice alone would keep the whole buffer alive.
    return mx.contiguous(stored[..., :capacity, :]) if capacity else None


def _copied(stored: mx.array | None, length: int) -> mx.array | None:
    if stored is None or length == 0:
        return None
    spare = mx.zeros((*stored.shape[:2], _whole_blocks(length) - length, stored.shape[3]))
    return mx.concatenate([stored[..., :length, :], spare.astype(stored.dtype)], axis=2)


def _causal_attention(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float
) -> mx.array:
    count, length = queries.shape[2], keys.shape[2]
    if count == 1:
        return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale)
    if count == 0:
        return queries
    block = _query_block(queries.shape[1], count, length)
    outputs = []
    for start in range(0, count, block):
        stop = min(start + block, count)
        seen = length - count + stop
        outputs.append(
            mx.fast.scaled_dot_product_attention(
                queries[..., start:stop, :],
                keys[..., :seen, :],
                values[..., :seen, :],
                scale=scale,
                mask="causal",
            )
        )
    return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=2)


def _query_block(heads: int, count: int, length: int) -> int:
    """Queries to take at once: all where attention is fused, else what bounds the scores."""
    if mx.default_device().type != mx.DeviceType.cpu:
        return count
    return min(count, max(_LEAST_QUERIES, _SCORES // (heads * length)))
