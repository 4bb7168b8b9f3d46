"""Bytes of KV that running sequences may take, counted in the blocks that caches grow by."""

from collections.abc import Iterable
from dataclasses import dataclass

from magistral_mlx.kv_cache import BLOCK


@dataclass(frozen=True, slots=True)
class KVBudget:
    """bytes_per_token: of all layers; limit: bytes, None for no limit."""

    bytes_per_token: int
    limit: int | None

    @property
    def tokens(self) -> int | None:
        """The longest sequence that fits alone."""
        if self.limit is None:
            return None
        return self.limit // (BLOCK * self.bytes_per_token) * BLOCK

    def needs(self, tokens: int) -> int:
        """Bytes of a sequence's cache, in whole blocks."""
        return -(-tokens // BLOCK) * BLOCK * self.bytes_per_token

    def holds(self, lengths: Iterable[int]) -> bool:
        """Whether sequences of these lengths fit together."""
        return self.limit is None or sum(map(self.needs, lengths)) <= self.limit

    def left(self, lengths: Iterable[int]) -> int | None:
        """Bytes beside sequences of these lengths; None for no limit."""
        return None if self.limit is None else self.limit - sum(map(self.needs, lengths))
