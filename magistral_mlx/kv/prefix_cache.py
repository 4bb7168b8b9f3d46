"""The prefix cache: finished KV by its tokens, so that a shared prefix is not prefilled again."""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from magistral_mlx.kv.cache import BLOCK, KVCache, KVPrecision
from magistral_mlx.kv.token_trie import TokenTrie

LEAST_TOKENS = 16
"""Shorter prefixes are not worth a copy."""

LEAST_TOKENS_ON_DISK = 128
"""Shorter prefixes are not worth a file."""

REST_SECONDS = 10.0
"""Idle time before KV is written to disk, or a chat would write its history at every turn."""

CLOSING_SECONDS = 3.0
CLOSING_BYTES = 1_000_000_000
"""Limits of closing, which the user waits for. Larger entries are not written."""

BRIEF_BYTES = 256_000_000
"""Most to read from disk while other sequences run: it stops them for a quarter of a second."""


class SlowerStore(Protocol):
    """Where evicted KV goes: see `kv.disk.store.KVStore`."""

    def longest_prefix(self, tokens: Sequence[int], precision: KVPrecision) -> int: ...

    def load(
        self, tokens: Sequence[int], precision: KVPrecision, *, most_bytes: int | None = None
    ) -> KVCache | None: ...

    def wants(self, tokens: Sequence[int], cache: KVCache) -> bool: ...

    def write(
        self, tokens: Sequence[int], cache: KVCache, *, used: float, stop: Callable[[], bool]
    ) -> None: ...

    def write_later(self, tokens: Sequence[int], cache: KVCache, *, used: float) -> None: ...

    def close(self, *, seconds: float = 0.0) -> None: ...


@dataclass(slots=True)
class _Entry:
    """used: in seconds since the epoch."""

    tokens: tuple[int, ...]
    cache: KVCache
    used: float

    @property
    def key(self) -> tuple[KVPrecision, tuple[int, ...]]:
        return self.cache.precision, self.tokens


class PrefixCache:
    """KV in memory, at most `limit` bytes; the least recently used is evicted first.

    With a disk, evicted KV is written to it, and the rest when the engine is idle and at the end.
    KV of one precision is never used for another.
    """

    def __init__(self, *, limit: int, disk: SlowerStore | None = None) -> None:
        """Hold at most `limit` bytes in memory."""
        self._limit = limit
        self._disk = disk
        self._tries: defaultdict[KVPrecision, TokenTrie[_Entry]] = defaultdict(TokenTrie)
        self._entries: OrderedDict[tuple[KVPrecision, tuple[int, ...]], _Entry] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the KV in memory."""
        return self._nbytes

    @property
    def unsaved(self) -> bool:
        """Whether any KV in memory still has to be written to disk."""
        return any(self._is_unsaved(entry) for entry in self._entries.values())

    def put(self, tokens: Sequence[int], cache: KVCache) -> None:
        """Store the KV of exactly these tokens; the caller must not use the cache afterwards.

        Entries whose tokens are a prefix of these are dropped: this one replaces them.
        """
        assert cache.length == len(tokens), (cache.length, len(tokens))
        entry = _Entry(tuple(tokens), cache, time.time())
        if len(tokens) < LEAST_TOKENS or cache.nbytes > self._limit or self._covers(entry):
            return
        while (shorter := self._shorter_entry(entry)) is not None:
            self._forget(shorter)
        self.shrink(self._limit - cache.nbytes)
        self._insert(entry)

    def shrink(self, nbytes: int | None) -> None:
        """Evict the least recently used until at most `nbytes` are left; None: evict nothing.

        Of the last evicted entry, as many blocks are kept as fit.
        """
        while nbytes is not None and self._nbytes > max(0, nbytes):
            entry = next(iter(self._entries.values()))
            if self._disk is not None and self._is_unsaved(entry):
                self._disk.write_later(entry.tokens, entry.cache, used=entry.used)
            self._forget(entry)
            self._put_back(entry, max(0, nbytes) - self._nbytes)

    def take(
        self,
        tokens: Sequence[int],
        *,
        others: Sequence[Sequence[int]] = (),
        cut: bool = False,
        brief: bool = False,
        precision: KVPrecision = KVCache.precision,
    ) -> KVCache | None:
        """KV of the longest stored prefix of these tokens without the last; None if there is none.

        An entry whose tokens are all in the prefix is moved out, because the caller will put it
        back longer, unless one of `others` (waiting prompts) shares the prefix. Otherwise a part of
        an entry is copied, or with `cut` trimmed and moved out: its rest is of no more use.
        The disk is read if it has a longer prefix, but with `brief` only up to BRIEF_BYTES.
        """
        found = self._find(tokens, precision)
        if self._disk is not None and self._on_disk(tokens, precision, found):
            most_bytes = BRIEF_BYTES if brief else None
            loaded = self._disk.load(tokens[:-1], precision, most_bytes=most_bytes)
            if loaded is not None:
                return loaded
        if found is None:
            return None
        entry, length = found
        taken = entry.tokens[:length]
        shared = any(len(other) > length and tuple(other[:length]) == taken for other in others)
        if shared or (length < len(entry.tokens) and not cut):
            entry.used = time.time()
            self._entries.move_to_end(entry.key)
            return entry.cache.copy(length)
        self._forget(entry)
        entry.cache.trim(length)
        return entry.cache

    def longest_prefix(
        self,
        tokens: Sequence[int],
        *,
        precision: KVPrecision = KVCache.precision,
    ) -> int:
        """How many of these tokens `take` finds KV for, in memory or on disk."""
        found = self._find(tokens, precision)
        in_memory = found[1] if found is not None else 0
        return self._on_disk(tokens, precision, found) or in_memory

    def save(self, *, stop: Callable[[], bool], most_bytes: int | None = None) -> None:
        """Write unsaved KV to disk, the last used first, until `stop` returns True.

        `stop` is called before every array. Entries above `most_bytes` are skipped.
        """
        for entry in reversed(list(self._entries.values())):
            if stop():
                return
            fits = most_bytes is None or entry.cache.nbytes <= most_bytes
            if self._disk is not None and fits and self._is_unsaved(entry):
                self._disk.write(entry.tokens, entry.cache, used=entry.used, stop=stop)

    def close(self) -> None:
        """Write unsaved KV to disk within the time for closing, and drop everything."""
        if self._disk is not None:
            end = time.monotonic() + CLOSING_SECONDS
            self.save(stop=lambda: time.monotonic() > end, most_bytes=CLOSING_BYTES)
            self._disk.close(seconds=end - time.monotonic())
        self.clear()

    def clear(self) -> None:
        """Drop all KV in memory."""
        for entry in list(self._entries.values()):
            self._forget(entry)

    def _on_disk(
        self, tokens: Sequence[int], precision: KVPrecision, found: tuple[_Entry, int] | None
    ) -> int:
        """The length of a prefix on disk, if it is worth reading beside the one in memory, or 0."""
        if self._disk is None:
            return 0
        in_memory = found[1] if found is not None else 0
        on_disk = self._disk.longest_prefix(tokens[:-1], precision)
        return on_disk if on_disk >= in_memory + LEAST_TOKENS_ON_DISK else 0

    def _find(self, tokens: Sequence[int], precision: KVPrecision) -> tuple[_Entry, int] | None:
        found = self._tries[precision].closest(tokens[:-1])
        return found if found is not None and found[1] >= LEAST_TOKENS else None

    def _covers(self, entry: _Entry) -> bool:
        found = self._tries[entry.cache.precision].closest(entry.tokens)
        return found is not None and found[1] == len(entry.tokens)

    def _shorter_entry(self, entry: _Entry) -> _Entry | None:
        found = self._tries[entry.cache.precision].closest(entry.tokens)
        return found[0] if found is not None and found[1] == len(found[0].tokens) else None

    def _is_unsaved(self, entry: _Entry) -> bool:
        return self._disk is not None and self._disk.wants(entry.tokens, entry.cache)

    def _forget(self, entry: _Entry) -> None:
        self._tries[entry.cache.precision].remove(entry.tokens)
        del self._entries[entry.key]
        self._nbytes -= entry.cache.nbytes

    def _put_back(self, entry: _Entry, nbytes: int) -> None:
        """Store the blocks of an evicted entry that fit `nbytes`; it stays the oldest."""
        length = _blocks_within(entry.cache, nbytes)
        if length == 0:
            return
        shorter = _Entry(entry.tokens[:length], entry.cache, entry.used)
        entry.cache.trim(length)
        for array in entry.cache.arrays:  # one at a time: old and new are in memory together
            mx.eval(array)
        if not self._covers(shorter):
            self._insert(shorter)
            self._entries.move_to_end(shorter.key, last=False)

    def _insert(self, entry: _Entry) -> None:
        self._tries[entry.cache.precision].insert(entry.tokens, entry)
        self._entries[entry.key] = entry
        self._nbytes += entry.cache.nbytes


def _blocks_within(cache: KVCache, nbytes: int) -> int:
    """Tokens of a cache, in whole blocks, that fit `nbytes`; fewer than all."""
    length = (cache.length - 1) // BLOCK * BLOCK
    while length > 0 and cache.trimmed_nbytes(length) > nbytes:
        length -= BLOCK
    return length
