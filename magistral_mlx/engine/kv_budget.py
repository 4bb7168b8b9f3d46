"""Bytes of KV that running sequences may take, counted in whole blocks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.device import dtype_of
from magistral_mlx.kv.cache import BLOCK, KVPrecision
from magistral_mlx.memory.byte_counts import kv_bytes_per_token

Cache = tuple[int, KVPrecision]
"""The tokens of a cache, and its precision."""


@dataclass(frozen=True, slots=True)
class KVBudget:
    """token_bytes: of all layers, by KVPrecision.bits; limit: bytes, None for no limit."""

    token_bytes: Mapping[int | None, int]
    limit: int | None

    def longest_window(self, precision: KVPrecision) -> int | None:
        """Tokens of the longest sequence that fits alone, in whole blocks."""
        if self.limit is None:
            return None
        plain = self.needs(precision.start, precision) if precision.bits else 0
        if plain > self.limit:
            return self.limit // (BLOCK * self.token_bytes[None]) * BLOCK
        blocks = (self.limit - plain) // (BLOCK * self.token_bytes[precision.bits])
        return precision.start + blocks * BLOCK

    def needs(self, tokens: int, precision: KVPrecision) -> int:
        """Bytes of a sequence's cache, in whole blocks."""
        start = precision.start if precision.bits else 0
        plain = min(_blocks(min(tokens, start)), start)
        rest = _blocks(max(0, tokens - start))
        return plain * self.token_bytes[None] + rest * self.token_bytes[precision.bits]

    def sum(self, caches: Iterable[Cache]) -> int:
        """Bytes of several caches."""
        return sum(self.needs(tokens, precision) for tokens, precision in caches)

    def holds(self, caches: Iterable[Cache]) -> bool:
        """Whether the caches fit together."""
        return self.limit is None or self.sum(caches) <= self.limit

    def left(self, caches: Iterable[Cache]) -> int | None:
        """Bytes beside these; None for no limit."""
        return None if self.limit is None else self.limit - self.sum(caches)


def kv_budget(config: ModelConfig, dtype: str, *, limit: int | None) -> KVBudget:
    """The budget of a model that computes in dtype."""
    full = 8 * dtype_of(dtype).size
    token_bytes: dict[int | None, int] = {
        bits: kv_bytes_per_token(config, dtype, bits=bits or full) for bits in (None, 8, 4)
    }
    return KVBudget(token_bytes, limit)


def _blocks(tokens: int) -> int:
    """Tokens in whole blocks."""
    return -(-tokens // BLOCK) * BLOCK
