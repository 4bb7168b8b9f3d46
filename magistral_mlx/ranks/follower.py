"""What the ranks other than 0 do: the same steps on the same caches, each with its own part."""

from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx

from magistral_mlx.kv.cache import KVCache
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment


class Follower:
    """Does what rank 0's log says. It has no tokenizer, draws nothing and decides nothing."""

    def __init__(self, decoder: Decoder, group: mx.distributed.Group) -> None:
        """decoder: filled by `load_shard`."""
        self._decoder = decoder
        self._group = group
        self._caches: dict[int, KVCache] = {}

    def do(self, entries: Iterable[Any]) -> None:
        """Follow a part of the log."""
        for entry in entries:
            self._do(entry)

    def _do(self, entry: Any) -> None:
        match entry:
            case ["step", [*shares]]:
                self._step(shares)
            case ["new", int(number), int() | None as bits, int(start)]:
                self._caches[number] = self._decoder.make_cache(bits=bits, start=start)
            case ["fill", int(number), int(tokens)]:
                self._caches[number] = self._decoder.make_filled_cache(tokens)
            case ["reserve", int(number), int(length)]:
                self._caches[number].reserve(length)
            case ["trim", int(number), int(length)]:
                self._caches[number].trim(length)
                # As long as it is lazy, a storage that was cut keeps the whole one alive.
                mx.async_eval(self._caches[number].arrays)
            case ["copy", int(number), int(other), int(length)]:
                self._caches[other] = self._caches[number].copy(length)
            case ["drop", int(number)]:
                del self._caches[number]
            case ["rest"]:
                mx.clear_cache()
            case _:
                raise ValueError(f"Rank 0 asks for {entry!r}, which is unknown here.")

    def _step(self, shares: Sequence[Sequence[int]]) -> None:
        segments = [
            Segment(self._caches[number], length, logits) for number, length, logits in shares
        ]
        nothing = mx.zeros((sum(segment.length for segment in segments),), mx.int32)
        tokens = mx.distributed.all_sum(nothing, group=self._group)
        hidden = self._decoder.hidden(tokens, segments)
        # The collectives that rank 0 evaluates, and no others: without logits it skips the last.
        stored = [segment.cache.stored for segment in segments]
        mx.async_eval([hidden, *stored] if hidden.shape[0] else stored)
