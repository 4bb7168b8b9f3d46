"""Arrays that hold one row for each token in every layer, and grow in blocks."""

from collections.abc import Sequence

import mlx.core as mx

BLOCK = 256
"""Tokens by which the storage grows.

Growing copies a layer's rows, but attention reads all of them for every token anyway, so a copy
every 256 tokens adds less than one percent. A prompt reserves its length instead.
"""


class KVStorage:
    """In every layer arrays of (1, kv_heads, capacity, width), each with its own width and type."""

    def __init__(self, layers: int, *, most: int | None = None) -> None:
        """Allocate nothing yet. most: tokens that are ever stored; None: no bound."""
        self._layers: list[list[mx.array]] = [[] for _ in range(layers)]
        self._length = 0
        self._reserved = 0
        self._most = most

    @property
    def layers(self) -> int:
        """Number of layers of the model."""
        return len(self._layers)

    @property
    def length(self) -> int:
        """Tokens that every layer has stored."""
        return self._length

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays of all layers."""
        return [array for layer in self._layers for array in layer]

    @property
    def last_layer(self) -> list[mx.array]:
        """The arrays that a step writes last."""
        return self._layers[-1]

    def nbytes_of(self, length: int) -> int:
        """Bytes of the storage once it is trimmed to `length` tokens."""
        capacity = self._capacity(length)
        sizes = [array.nbytes // array.shape[2] for array in self.arrays if array.shape[2]]
        return capacity * sum(sizes)

    def reserve(self, length: int) -> None:
        """Let the next allocation hold `length` tokens, so that a prompt's chunks copy nothing."""
        self._reserved = length

    def write(self, layer: int, rows: Sequence[mx.array]) -> list[mx.array]:
        """Store rows (1, kv_heads, n, width) of new tokens; return the rows of all tokens."""
        stored, stop = self._layers[layer], self._length + rows[0].shape[2]
        if stop == self._length:
            return self.read(layer)
        if stored and stop <= stored[0].shape[2]:
            for array, new in zip(stored, rows, strict=True):
                array[..., self._length : stop, :] = new
        else:
            self._layers[layer] = stored = self._grown(stored, rows, stop)
        return [array[..., :stop, :] for array in stored]

    def read(self, layer: int) -> list[mx.array]:
        """A layer's rows of the tokens counted so far; an empty list if there are none."""
        return [array[..., : self._length, :] for array in self._layers[layer]]

    def advance(self, length: int) -> None:
        """Set the number of tokens that every layer has stored."""
        self._length = length

    def trim(self, length: int) -> None:
        """Drop all tokens but the first `length`, and free their blocks."""
        self._length = length
        self._reserved = 0
        capacity = self._capacity(length)
        self._layers = [
            [_shrunk(array, capacity) for array in layer] if capacity else []
            for layer in self._layers
        ]

    def copy(self, length: int) -> "KVStorage":
        """An independent storage with the first `length` tokens of this one."""
        other = KVStorage(self.layers, most=self._most)
        other._length = length
        if length:
            spare = self._capacity(length) - length
            other._layers = [
                [_extended([array[..., :length, :]], spare) for array in layer]
                for layer in self._layers
            ]
        return other

    def _grown(
        self, stored: Sequence[mx.array], rows: Sequence[mx.array], stop: int
    ) -> list[mx.array]:
        spare = self._capacity(max(stop, self._reserved)) - stop
        if not stored:
            return [_extended([new], spare) for new in rows]
        return [
            _extended([array[..., : self._length, :], new], spare)
            for array, new in zip(stored, rows, strict=True)
        ]

    def _capacity(self, tokens: int) -> int:
        whole_blocks = -(-tokens // BLOCK) * BLOCK
        return whole_blocks if self._most is None else min(whole_blocks, self._most)


def _extended(parts: list[mx.array], spare: int) -> mx.array:
    _, heads, _, width = parts[0].shape
    return mx.concatenate([*parts, mx.zeros((1, heads, spare, width), parts[0].dtype)], axis=2)


def _shrunk(array: mx.array, capacity: int) -> mx.array:
    if array.shape[2] <= capacity:
        return array
    # A slice alone would keep the whole buffer alive.
    return mx.contiguous(array[..., :capacity, :])
