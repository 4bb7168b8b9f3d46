"""Finished KV by the tokens it belongs to, so that a prompt that begins alike is not run again."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from magistral_mlx.kv_cache import KVCache
from magistral_mlx.token_trie import TokenTrie

LEAST_TOKENS = 16
"""Shorter beginnings are not worth a copy."""


@dataclass(frozen=True, slots=True)
class _Entry:
    tokens: tuple[int, ...]
    cache: KVCache


class PrefixCache:
    """KV in memory, at most `limit` bytes of it; what was used longest ago goes first."""

    def __init__(self, *, limit: int) -> None:
        """Hold at most `limit` bytes."""
        self._limit = limit
        self._trie: TokenTrie[_Entry] = TokenTrie()
        self._entries: OrderedDict[tuple[int, ...], _Entry] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the KV that is stored."""
        return self._nbytes

    def put(self, tokens: Sequence[int], cache: KVCache) -> None:
        """Store the KV of exactly these tokens; the caller gives the cache away.

        Entries whose tokens are a beginning of these are dropped: this one serves for them too.
        """
        assert cache.length == len(tokens), (cache.length, len(tokens))
        entry = _Entry(tuple(tokens), cache)
        if len(tokens) < LEAST_TOKENS or cache.nbytes > self._limit or self._covers(entry):
            return
        while (shorter := self._beginning_of(entry.tokens)) is not None:
            self._forget(shorter)
        self._trie.insert(entry.tokens, entry)
        self._entries[entry.tokens] = entry
        self._nbytes += cache.nbytes
        self.shrink(self._limit)

    def shrink(self, nbytes: int | None) -> None:
        """Forget what was used longest ago until at most so many bytes are left; None: nothing."""
        while nbytes is not None and self._nbytes > max(0, nbytes):
            self._forget(next(iter(self._entries.values())))

    def take(
        self, tokens: Sequence[int], *, others: Sequence[Sequence[int]] = (), cut: bool = False
    ) -> KVCache | None:
        """KV of the longest beginning of these tokens that is stored, at most all but the last.

        An entry that is a beginning as a whole is moved out, for the taker will give it back
        longer; others that it would serve as well (prompts that wait) leave it in place. Of any
        other entry a copy is taken, unless `cut`: then its rest is of no more use, and goes.
        """
        found = self._trie.longest(tokens[:-1])
        if found is None or found[1] < LEAST_TOKENS:
            return None
        entry, length = found
        shared = any(_begins_like(other, entry.tokens[:length]) for other in others)
        if shared or (length < len(entry.tokens) and not cut):
            self._entries.move_to_end(entry.tokens)
            return entry.cache.copy(length)
        self._forget(entry)
        entry.cache.trim(length)
        return entry.cache

    def longest(self, tokens: Sequence[int]) -> int:
        """How many of these tokens `take` would serve."""
        found = self._trie.longest(tokens[:-1])
        return found[1] if found is not None and found[1] >= LEAST_TOKENS else 0

    def clear(self) -> None:
        """Forget everything."""
        for entry in list(self._entries.values()):
            self._forget(entry)

    def _covers(self, entry: _Entry) -> bool:
        found = self._trie.longest(entry.tokens)
        return found is not None and found[1] == len(entry.tokens)

    def _beginning_of(self, tokens: tuple[int, ...]) -> _Entry | None:
        found = self._trie.longest(tokens)
        if found is None:
            return None
        entry, length = found
        return entry if length == len(entry.tokens) else None

    def _forget(self, entry: _Entry) -> None:
        self._trie.remove(entry.tokens)
        del self._entries[entry.tokens]
        self._nbytes -= entry.cache.nbytes


def _begins_like(tokens: Sequence[int], beginning: tuple[int, ...]) -> bool:
    return len(tokens) > len(beginning) and tuple(tokens[: len(beginning)]) == beginning
